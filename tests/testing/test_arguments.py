"""Mistakes in what the kit is given are found at once, and the error names the argument and what would do."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from grpclib.const import Status
from helpers.coordinating import Model

from trio_model_runner.network import MemoryNetwork, TCPNetwork
from trio_model_runner.testing import Faults, LocalCrunch, LocalNode, LocalOrchestrator

if TYPE_CHECKING:
    from collections.abc import Callable

CRUNCHES: dict[str, tuple[Callable[[], Any], str]] = {
    "models": (lambda: LocalCrunch([Model]), "models: must be a mapping from model ids to models, got list"),  # type: ignore[arg-type]
    "network": (lambda: LocalCrunch(network=TCPNetwork()), "network: must be a MemoryNetwork, or None"),  # type: ignore[arg-type]
    "crunch_id": (lambda: LocalCrunch(crunch_id=7), "crunch_id: must be text, got 7"),  # type: ignore[arg-type]
    "services": (lambda: LocalCrunch(services="ModelRunner"), "services: must be a collection of Service"),  # type: ignore[arg-type]
    "security": (
        lambda: LocalCrunch(security="tls"),
        "security: must be 'secure', 'gateway' or None, got 'tls'",
    ),  # type: ignore[arg-type]
    "settle": (lambda: LocalCrunch(settle=True), "settle: needs a MemoryNetwork"),
    "flag": (lambda: LocalCrunch(threads="no"), "threads: must be True or False, got 'no'"),  # type: ignore[arg-type]
    "other flag": (lambda: LocalCrunch(settle=1), "settle: must be True or False, got 1"),  # type: ignore[arg-type]
    "model ids": (lambda: LocalCrunch({1: Model}), "model_id: must be text that is not empty, got 1"),  # type: ignore[dict-item]
    "port": (lambda: LocalNode(Model(), port="x"), "port: must be a whole number, got 'x'"),  # type: ignore[arg-type]
    "large port": (lambda: LocalNode(Model(), port=70000), "port: must be from 0 to 65535, got 70000"),
    "host": (lambda: LocalOrchestrator(host=3), "host: must be text, got int"),  # type: ignore[arg-type]
    "counts": (
        lambda: LocalNode(Model(), network=MemoryNetwork()).next_faults(Faults(), times=-1),
        "times: must be >= 1, got -1",
    ),
    "no place": (lambda: MemoryNetwork().cut(3), "a place must be a host, a host and a port in a tuple, or "),  # type: ignore[arg-type]
    "place elsewhere": (
        lambda: MemoryNetwork().cut(LocalNode(Model(), network=MemoryNetwork())),
        "the LocalNode is not on this network: it can't be cut off it",
    ),
}

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "yes or no": ({"busy": "yes"}, "Faults.busy: must be True or False, got 'yes'"),
    "a time": ({"delay": -1}, "Faults.delay: must be seconds, 0 or more, got -1"),
    "no time": ({"setup_delay": True}, "Faults.setup_delay: must be seconds, 0 or more, got True"),
    "code": ({"call_status": "MODEL_FAILED"}, "Faults.call_status: must be a code and a message, both text"),
    "status": (
        {"grpc_error": Status.INTERNAL},
        "Faults.grpc_error: must be a grpclib.const.Status and a message",
    ),
    "other status": (
        {"health_status": 13},
        "Faults.health_status: must be a grpclib.const.Status, or None, got 13",
    ),
    "bytes": ({"garbage": "x"}, "Faults.garbage: must be bytes, or None, got 'x'"),
    "one name": (
        {"methods": "tick"},
        "Faults.methods: must be a collection of methods' names such as {'tick'}",
    ),
    "no names": ({"methods": []}, "such as {'tick'}, not empty, or None for all, got []"),
    "proof": (
        {"wrong_proof": "old"},
        "Faults.wrong_proof: must be one of 'missing', 'expired', 'other wallet'",
    ),
    "certificate": (
        {"wrong_certificate": "old"},
        "must be one of 'expired', 'other authority', 'other name', or",
    ),
}


@pytest.mark.parametrize(("make", "why"), CRUNCHES.values(), ids=CRUNCHES)
def test_a_crunch_is_made_of_what_it_can_use(make: Callable[[], Any], why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(why)):
        make()


@pytest.mark.parametrize(("given", "why"), FAULTS.values(), ids=FAULTS)
def test_faults_are_what_a_node_could_act_on(given: dict[str, Any], why: str) -> None:
    with pytest.raises(TypeError, match=re.escape(why)):
        Faults(**given)
    faults = Faults()
    ((name, value),) = given.items()
    with pytest.raises(TypeError, match=re.escape(why)):
        setattr(faults, name, value)
    assert faults == Faults()


@pytest.mark.parametrize(
    ("security", "given", "why"),
    [
        (
            None,
            {"wrong_certificate": "expired"},
            "no certificate; it needs a crunch with security='secure' or",
        ),
        (None, {"wrong_proof": "expired"}, "no proof; it needs a crunch with security='secure'"),
        ("gateway", {"wrong_proof": "expired"}, "no proof; it needs a crunch with security='secure'"),
        ("secure", {"lose_token": True}, "no gateway; it needs a crunch with security='gateway'"),
    ],
)
async def test_faults_of_security_need_a_node_that_has_it(
    security: Any, given: dict[str, Any], why: str, autojump_clock: Any
) -> None:
    async with LocalCrunch({"a": Model}, network=MemoryNetwork(), security=security) as crunch:
        node = crunch.node("a")
        ((name, value),) = given.items()
        with pytest.raises(ValueError, match=f"Faults.{name}: this node has {why}"):
            setattr(node.faults, name, value)
        with pytest.raises(ValueError, match=f"Faults.{name}: this node has {why}"):
            node.faults = Faults(**given)
        assert node.faults == Faults()
        node.next_faults(attrs.evolve(node.faults, busy=True))


async def test_what_is_announced_is_told_apart(autojump_clock: Any) -> None:
    async with LocalCrunch(network=MemoryNetwork()) as crunch:
        with pytest.raises(ValueError, match=r"infos: 'model_id' is a key of the entry; crunch\.announce"):
            await crunch.add("a", Model, infos={"model_id": "other"})
        with pytest.raises(TypeError, match="infos: must be a mapping such as"):
            await crunch.add("a", Model, infos=5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="text: must be text, got 5"):
            crunch.orchestrator.send_text(5)  # type: ignore[arg-type]
        assert not crunch.deployments
        await crunch.add("a", Model, infos={"model_name": "other", "rank": 1})
        assert crunch.deployments[0].infos["model_name"] == "other"


async def test_the_next_calls_have_faults_of_calls_only() -> None:
    node = LocalNode(Model(), network=MemoryNetwork())
    with pytest.raises(ValueError, match=r"hang_setup is no fault of calls; set node\.faults\.hang_setup"):
        node.next_faults(Faults(busy=True, hang_setup=True))
    with pytest.raises(TypeError, match=r"faults: must be Faults, got None; Faults\(\) has none"):
        node.faults = None
    with pytest.raises(TypeError, match="faults: must be Faults, got 'busy'"):
        node.next_faults("busy")  # type: ignore[arg-type]


async def test_a_crunch_is_used_while_it_is_open_and_once() -> None:
    crunch = LocalCrunch({"a": Model}, network=MemoryNetwork())
    for use in (lambda: crunch.orchestrator, crunch.config, crunch.assert_no_reports):
        with pytest.raises(RuntimeError, match="this LocalCrunch is not open"):
            use()
    with pytest.raises(RuntimeError, match="this LocalCrunch is not open"):
        await crunch.add("b", Model)
    with pytest.raises(AttributeError, match="no attribute 'nodes'"):
        _ = crunch.nodes
    async with crunch:
        with pytest.raises(RuntimeError, match="only once"):
            await crunch.__aenter__()
        with pytest.raises(TypeError, match="count: must be a whole number, got 'x'"):
            await crunch.wait_for_reports("x")  # type: ignore[arg-type]
    for event in (crunch.add("b", Model), crunch.crash("a"), crunch.recover("a"), crunch.remove("a")):
        with pytest.raises(RuntimeError, match="this LocalCrunch is not open"):
            await event


@pytest.mark.parametrize(
    "make",
    [
        lambda: LocalOrchestrator(network=MemoryNetwork()),
        lambda: LocalNode(Model(), network=MemoryNetwork()),
    ],
)
async def test_parts_of_a_crunch_are_run_once_and_not_entered(make: Callable[[], Any]) -> None:
    part = make()
    with pytest.raises(RuntimeError, match=r"is run in a nursery, by await nursery\.start\(Local"):
        await part.__aenter__()
    async with trio.open_nursery() as nursery:
        await nursery.start(part.run)
        with pytest.raises(RuntimeError, match="can be run only once"):
            await part.run()
        nursery.cancel_scope.cancel()
    with pytest.raises(RuntimeError, match="can be run only once"):
        await part.run()


async def test_a_model_that_there_is_not_is_named_beside_those_that_there_are() -> None:
    async with LocalCrunch({"a": Model, "b": Model}, network=MemoryNetwork()) as crunch:
        with pytest.raises(KeyError, match="no model 'c' has a node here; these have: 'a', 'b'"):
            crunch.node("c")
        with pytest.raises(TypeError, match="model_id: must be text that is not empty, got 7"):
            await crunch.add(7, Model)  # type: ignore[arg-type]
        for deploy in (crunch.add, crunch.redeploy):
            with pytest.raises(
                TypeError, match="model: 'a' must be an object, a class or a function, got None"
            ):
                await deploy("a", None)


async def test_threads_need_a_clock_that_waits_for_them(autojump_clock: Any) -> None:
    with pytest.raises(RuntimeError, match="threads=True can't be used on a clock that jumps"):
        await LocalCrunch(threads=True, network=MemoryNetwork()).__aenter__()


def test_a_crunch_in_asyncio_says_that_it_needs_trio() -> None:
    async def enter() -> None:
        await LocalCrunch(network=MemoryNetwork()).__aenter__()

    with pytest.raises(RuntimeError, match=r"^a LocalCrunch needs Trio, and this is asyncio; see ") as caught:
        asyncio.run(enter())
    assert "pytest-asyncio takes it all the same" in caught.value.__notes__[0]


async def test_on_sockets_nothing_can_be_known_to_have_settled() -> None:
    async with LocalCrunch() as crunch:
        with pytest.raises(RuntimeError, match="needs a crunch in memory"):
            await crunch.settle()


async def test_an_event_has_been_taken_in_when_its_method_returns(autojump_clock: Any) -> None:
    async with LocalCrunch({"a": Model}, network=MemoryNetwork(), settle=True) as crunch:
        heard = []

        async def listen() -> None:
            stream = await MemoryNetwork.connect(crunch.network, "127.0.0.1", crunch.node("a").port)  # type: ignore[arg-type]
            while await stream.receive_some():
                await trio.lowlevel.checkpoint()
            heard.append("closed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await crunch.settle()
            await crunch.crash("a")
            assert heard == ["closed"]
        assert trio.current_time() == 0
