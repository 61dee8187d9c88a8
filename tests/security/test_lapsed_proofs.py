"""Nothing of value goes to a node that is proved no longer: its proof has expired, or another is to be there.

What reached a node is read there. The clock that proofs are held against is the tests' own.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trio
from helpers.coordinating import until
from helpers.remains import our_tasks
from helpers.secure_crunch import STRANGER, Node, Scene, answer, busy, coordinating

from trio_model_runner import Arguments, ProofFailed, SecureCredentials, Status
from trio_model_runner.channel import CallInterrupted
from trio_model_runner.model.steps import _BusyNode
from trio_model_runner.proto.commons import Status as NodeStatus
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub
from trio_model_runner.proto.grpc.health.v1 import HealthCheckRequest, HealthStub
from trio_model_runner.security.delegation import ProofLapsed, UnknownIdentity

if TYPE_CHECKING:
    pass

NULL_WALLET = "1" * 32
LEEWAY = 5.0


class Clock:
    """The clock that proofs are held against; `now` is in POSIX seconds."""

    now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def expire(self) -> None:
        """Let what `give_expiring_proof` has given expire."""
        self.now += 100 + LEEWAY + 1

    def give_expiring_proof(self, node: Node) -> None:
        """Have the node give a proof from now on that lives for a while."""
        proof = node.delegate(expires_at=self.now + 100)
        node.proof = lambda method: proof


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("trio_model_runner.security.delegation.time", SimpleNamespace(time=clock.time))
    return clock


async def call(scene: Scene, payload: str) -> Any:
    return (await scene.cluster.call("predict", Arguments(payload))).by_id["7"]


def peers_told(node: Node, payload: str) -> list[str]:
    """The connections, in the order in which the node saw them, on which it was told this."""
    order = list(dict.fromkeys(visit.peer for visit in node.visits))
    return [str(order.index(visit.peer)) for visit in node.visits if payload.encode() in visit.request]


async def announce(scene: Scene, node: Node, **infos: Any) -> None:
    """Have the orchestrator say this of the node, and wait until the cluster has heard it."""
    entry = node.entry(**infos)
    scene.crunch.orchestrator.announce(entry)
    await until(scene.cluster, lambda: scene.cluster.announced["7"].infos == entry["infos"])


async def test_a_proof_that_expires_is_followed_by_another_before_the_next_call(
    credentials: SecureCredentials, node: Node, clock: Clock
) -> None:
    joined: list[Any] = []

    async def on_join(join: Any) -> None:
        joined.append(join)

    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY, on_join=on_join) as scene:
        clock.now += 100 + LEEWAY
        assert (await call(scene, "in time")).unwrap() == "here"
        assert scene.connections(node) == 1
        clock.now += 0.5
        clock.give_expiring_proof(node)
        assert (await call(scene, "too late")).unwrap() == "here"
        assert scene.state(node) == "ready"
        assert scene.connections(node) == 2
        assert scene.cluster.snapshot().reports_pending == 0
    assert node.methods == ["Check", "Setup", "Call", "Check", "Setup", "Call"]
    assert (peers_told(node, "in time"), peers_told(node, "too late")) == (["0"], ["1"])
    assert len(joined) == 1
    assert scene.crunch.reports == []


async def test_each_answer_may_bring_a_proof_that_lives_longer(
    credentials: SecureCredentials, node: Node, clock: Clock
) -> None:
    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY) as scene:
        for _ in range(3):
            clock.give_expiring_proof(node)
            assert (await call(scene, "payload")).unwrap() == "here"
            clock.now += 90
        assert scene.connections(node) == 1


async def test_a_node_that_has_no_other_proof_is_told_nothing_more_and_is_reported(
    credentials: SecureCredentials, node: Node, clock: Clock
) -> None:
    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY) as scene:
        assert (await call(scene, "in time")).unwrap() == "here"
        clock.expire()
        result = await call(scene, "too late")
        assert (result.status, result.sent) == (Status.FAILED, False)
        assert "expires_at was 6 s ago" in result.detail
        report = await scene.first_report()
        assert report["failure_code"] == "CONNECTION_FAILED"
        assert "expires_at was 6 s ago" in report["failure_reason"]
        assert type(scene.error(node)) is ProofFailed
        assert (await call(scene, "too late")).status is Status.ABSENT
    assert peers_told(node, "too late") == []
    assert node.methods == ["Check", "Setup", "Call", "Check"]


@pytest.mark.parametrize(
    "infos",
    [{"cruncher_wallet_pubkey": STRANGER.address}, {"cruncher_hotkey": "another"}],
    ids=["wallet", "hotkey"],
)
async def test_when_another_participant_is_named_the_old_node_is_told_nothing_more(
    credentials: SecureCredentials, node: Node, infos: dict[str, str]
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        assert (await call(scene, "before")).unwrap() == "here"
        await announce(scene, node, **infos)
        assert (await call(scene, "after")).value is None
        report = await scene.first_report()
        assert report["failure_code"] == "CONNECTION_FAILED"
        assert "the model's is" in report["failure_reason"]
        assert scene.state(node) == "failed"
        assert peers_told(node, "after") == []
        await announce(scene, node)
        await scene.cluster.wait_for_models(1)
        assert (await call(scene, "again")).unwrap() == "here"
    assert peers_told(node, "before") == ["0"]
    assert len(scene.crunch.reports) == 1


async def test_a_node_that_is_the_new_participants_is_called_on_a_new_connection(
    credentials: SecureCredentials, node: Node
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        assert (await call(scene, "before")).unwrap() == "here"
        node.wallet = STRANGER
        other = node.delegate()
        node.proof = lambda method: other
        await announce(scene, node)
        assert (await call(scene, "after")).unwrap() == "here"
    assert node.methods == ["Check", "Setup", "Call", "Check", "Setup", "Call"]
    assert (peers_told(node, "before"), peers_told(node, "after")) == (["0"], ["1"])
    assert scene.crunch.reports == []


async def test_a_connection_that_is_gone_leaves_nobody_to_watch_over_its_proof(
    credentials: SecureCredentials, node: Node
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        watches = "trio_model_runner.model.node_connection.NodeConnection.watch_proof"
        assert our_tasks().count(watches) == 1
        node.wallet = STRANGER
        other = node.delegate()
        node.proof = lambda method: other
        await announce(scene, node)
        assert (await call(scene, "after")).unwrap() == "here"
        assert scene.connections(node) == 2
        assert our_tasks().count(watches) == 1


async def test_infos_that_name_the_same_participant_change_nothing(
    credentials: SecureCredentials, node: Node
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        await announce(scene, node, model_name="another name")
        assert (await call(scene, "payload")).unwrap() == "here"
        assert scene.connections(node) == 1


async def test_the_null_wallet_is_as_good_as_none(credentials: SecureCredentials, node: Node) -> None:
    async with coordinating(node.entry(cruncher_wallet_pubkey=NULL_WALLET), credentials=credentials) as scene:
        assert scene.state(node) == "failed"
        assert isinstance(scene.error(node), UnknownIdentity)
        assert node.visits == []
        await announce(scene, node)
        await scene.cluster.wait_for_models(1)
        assert (await call(scene, "before")).unwrap() == "here"
        await announce(scene, node, cruncher_wallet_pubkey=NULL_WALLET)
        assert (await call(scene, "after")).value is None
        assert isinstance(scene.error(node), UnknownIdentity)
        assert scene.cluster.snapshot().reports_pending == 0
    assert peers_told(node, "after") == []
    assert scene.crunch.reports == []


async def test_a_setup_is_not_told_to_a_node_whose_proof_expired_while_it_was_busy(
    credentials: SecureCredentials, node: Node, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    respond, wait = Node._respond, _BusyNode._wait

    def respond_when_free(node: Node, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        if node.methods == ["Check", "Setup"]:
            busy(context)
        return respond(node, method, request, context)

    async def wait_until_it_expires(busy_node: Any, connection: Any) -> None:
        await wait(busy_node, connection)
        clock.expire()
        clock.give_expiring_proof(node)

    monkeypatch.setattr(Node, "_respond", respond_when_free)
    monkeypatch.setattr(_BusyNode, "_wait", wait_until_it_expires)  # private: it takes as long as the node
    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY) as scene:
        assert (await call(scene, "payload")).unwrap() == "here"
        assert scene.connections(node) == 1
    setup, question, check, again, _ = node.visits[1:]
    assert [each.method for each in (setup, question, check, again)] == ["Setup", "Setup", "Check", "Setup"]
    assert [b"Classified" in each.request for each in (setup, question, again)] == [True, False, True]
    assert scene.crunch.reports == []


async def test_a_setup_in_which_the_proof_expires_is_made_again(
    credentials: SecureCredentials, node: Node, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up = Node._set_up

    def set_up_slowly(node: Node, class_name: str) -> NodeStatus:
        if scene_is_new:
            scene_is_new.clear()
            clock.expire()
            clock.give_expiring_proof(node)
        return set_up(node, class_name)

    scene_is_new = [True]
    monkeypatch.setattr(Node, "_set_up", set_up_slowly)
    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY) as scene:
        assert (await call(scene, "payload")).unwrap() == "here"
        assert node.methods == ["Check", "Setup", "Check", "Setup", "Call"]
        assert scene.connections(node) == 2
    assert scene.crunch.reports == []


async def test_setups_in_which_proofs_expire_each_time_are_not_made_for_ever(
    credentials: SecureCredentials, node: Node, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up = Node._set_up

    def set_up_slowly(node: Node, class_name: str) -> NodeStatus:
        clock.expire()
        clock.give_expiring_proof(node)
        return set_up(node, class_name)

    monkeypatch.setattr(Node, "_set_up", set_up_slowly)
    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY) as scene:
        report = await scene.first_report()
        assert report["failure_code"] == "CONNECTION_FAILED"
        assert "the node's proof h" in report["failure_reason"]  # has expired, or holds no longer


async def test_on_join_tells_nothing_to_a_node_whose_proof_has_expired_and_begins_again(
    credentials: SecureCredentials, node: Node, clock: Clock
) -> None:
    times = 0

    async def on_join(join: Any) -> None:
        nonlocal times
        times += 1
        (await join.model.call("tick", Arguments(f"first {times}"))).unwrap()
        if times == 1:
            clock.expire()
            clock.give_expiring_proof(node)
        (await join.model.call("tick", Arguments(f"second {times}"))).unwrap()

    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY, on_join=on_join) as scene:
        assert (await call(scene, "payload")).unwrap() == "here"
    assert [peers_told(node, text) for text in ("first 1", "second 1", "first 2", "second 2")] == [
        ["0"],
        [],
        ["1"],
        ["1"],
    ]
    assert scene.crunch.reports == []


async def test_a_reset_is_not_told_to_a_node_whose_proof_has_expired(
    credentials: SecureCredentials, node: Node, clock: Clock
) -> None:
    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY) as scene:
        clock.expire()
        assert (await scene.cluster.models["7"].reset()).sent is False
    assert node.methods == ["Check", "Setup", "Check"]


async def stub_call(scene: Scene, payload: str) -> str:
    stub = DynamicSubclassServiceStub(scene.cluster.announced["7"].channel)
    response = await stub.call(CallRequest(payload), timeout=10.0)
    return response.method_response.value.decode()


async def test_a_stub_waits_for_another_proof(
    credentials: SecureCredentials, node: Node, clock: Clock
) -> None:
    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY) as scene:
        assert await stub_call(scene, "in time") == "here"
        clock.expire()
        clock.give_expiring_proof(node)
        assert await stub_call(scene, "too late") == "here"
        assert (peers_told(node, "in time"), peers_told(node, "too late")) == (["0"], ["1"])


async def test_a_stub_tells_nothing_to_a_node_that_has_no_other_proof(
    credentials: SecureCredentials, node: Node, clock: Clock
) -> None:
    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY) as scene:
        clock.expire()
        with pytest.raises(CallInterrupted, match="expires_at was 6 s ago"):
            await stub_call(scene, "too late")
        assert "has expired" in (await scene.first_report())["failure_reason"]
    assert peers_told(node, "too late") == []


async def test_a_health_check_by_a_stub_has_nothing_in_it_and_needs_no_proof(
    credentials: SecureCredentials, node: Node, clock: Clock
) -> None:
    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY) as scene:
        clock.expire()
        node.proof = lambda method: ()
        await HealthStub(scene.cluster.models["7"].channel).check(HealthCheckRequest(), timeout=10.0)
        assert scene.connections(node) == 1


@pytest.mark.parametrize("renewed", [True, False])
async def test_an_answer_during_which_the_proof_expires_is_refused_and_nobodys_fault(
    credentials: SecureCredentials, node: Node, clock: Clock, renewed: bool
) -> None:
    def behave(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        node.behave = lambda request, context: answer("later")
        clock.expire()
        if renewed:
            clock.give_expiring_proof(node)
        return answer()

    node.behave = behave
    clock.give_expiring_proof(node)
    async with coordinating(node, credentials=credentials, clock_leeway=LEEWAY) as scene:
        result = await call(scene, "payload")
        assert (result.status, result.value) == (Status.FAILED, None)
        assert isinstance(result.error, ProofLapsed)
        assert scene.cluster.snapshot().reports_pending == 0
        if renewed:
            assert (await call(scene, "payload")).unwrap() == "later"
            assert scene.cluster.snapshot().reports_pending == 0
        else:
            assert "has expired" in (await scene.first_report())["failure_reason"]
            assert peers_told(node, "payload") == ["0"]
    assert len(scene.crunch.reports) == (not renewed)


async def test_a_call_that_is_under_way_when_another_participant_is_named_is_not_blamed(
    credentials: SecureCredentials, node: Node
) -> None:
    begun, named, ended = threading.Event(), threading.Event(), trio.Event()

    def behave(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        begun.set()
        named.wait(60)
        node.behave = lambda request, context: answer("later")
        return answer()

    node.behave = behave
    results: list[Any] = []
    async with coordinating(node, credentials=credentials) as scene:

        async def call_once() -> None:
            results.append(await call(scene, "payload"))
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_once)
            await trio.to_thread.run_sync(begun.wait)
            node.wallet = STRANGER
            other = node.delegate()
            node.proof = lambda method: other
            await announce(scene, node)
            try:
                with trio.fail_after(10):
                    await ended.wait()  # it does not wait for an answer, which nobody would believe
            finally:
                named.set()
        assert [(result.status, result.value) for result in results] == [(Status.FAILED, None)]
        assert scene.cluster.snapshot().reports_pending == 0
        await until(scene.cluster, lambda: scene.state(node) == "ready")
        assert (await call(scene, "payload")).unwrap() == "later"
        assert scene.cluster.snapshot().reports_pending == 0
    assert scene.crunch.reports == []


async def test_a_deployment_that_moves_to_another_participant_is_not_called_where_it_was(
    credentials: SecureCredentials,
) -> None:
    with Node() as old, Node() as new:
        async with coordinating(old, credentials=credentials) as scene:
            entry = new.entry(cruncher_wallet_pubkey=STRANGER.address)
            scene.crunch.orchestrator.announce(entry)
            await until(scene.cluster, lambda: bool(new.methods))
            await scene.cluster.call("predict", Arguments("after"))
            assert "Call" not in old.methods
