"""The local crunch: what the orchestrator says while nodes come, go, crash and move, and how it all ends."""

from __future__ import annotations

import gc
import textwrap
from typing import Any

import grpc
import pytest
import trio
from helpers.local_feed import Model, connect, crunch_and_feed
from trio.testing import wait_all_tasks_blocked

import trio_model_runner.testing
from trio_model_runner.network import MemoryNetwork, TCPNetwork
from trio_model_runner.proto.dynamic_subclass import SetupRequest, SetupResponse
from trio_model_runner.testing import LocalCrunch, LocalNode, Service


async def is_refused(node: LocalNode, network: Any) -> bool:
    try:
        stream = await network.connect(node.host, node.port)
    except OSError:
        return True
    await stream.aclose()
    return False


async def test_the_id_of_a_crunch_is_given_where_it_is_made():
    async with LocalCrunch(crunch_id="two") as crunch:
        with pytest.raises(TypeError, match=r"has its own, 'two'.* local_crunch\(\{...\}, crunch_id='one'\)"):
            crunch.config(crunch_id="one")


async def test_init_lists_what_runs_and_where():
    async with crunch_and_feed("one", "two") as (crunch, feed):
        event, entries = await feed.event()
        assert event == "init"
        assert [entry["model_id"] for entry in entries] == ["one", "two"]
        assert entries[0] == {
            "deployment_id": "deployment-1",
            "model_id": "one",
            "state": "RUNNING",
            "ip": "127.0.0.1",
            "port": crunch.node("one").port,
            "infos": {
                "model_name": "one",
                "cruncher_id": "cruncher-of-one",
                "cruncher_name": "Author of one",
            },
        }


async def test_what_happens_to_models_is_announced(autojump_clock):
    async with crunch_and_feed("one") as (crunch, feed):
        assert await feed.states() == [("init", "one", "RUNNING")]
        await crunch.add("two", Model, name="Second", infos={"cruncher_wallet_pubkey": "key"})
        event, [entry] = await feed.event()
        assert (event, entry["state"], entry["port"]) == ("update", "RUNNING", crunch.node("two").port)
        assert entry["infos"]["model_name"] == "Second"
        assert entry["infos"]["cruncher_wallet_pubkey"] == "key"
        node = crunch.node("two")
        await crunch.remove("two")
        assert await feed.states() == [("update", "two", "STOPPED")]
        assert await is_refused(node, crunch.network)
        with pytest.raises(KeyError, match="two"):
            crunch.node("two")
        await crunch.add("two", Model, announce=False)
        crunch.announce("two", ip="10.1.1.1", port="7")
        _, [entry] = await feed.event()
        assert (entry["deployment_id"], entry["ip"], entry["port"]) == ("deployment-3", "10.1.1.1", "7")


async def test_a_redeployment_stands_beside_the_old_one_until_that_is_retired(autojump_clock):
    async with crunch_and_feed("one") as (crunch, feed):
        await feed.event()
        old = crunch.node("one")
        new = await crunch.redeploy("one", Model)
        assert new is crunch.node("one")
        assert new.port != old.port
        assert await feed.states() == [("update", "one", "RUNNING")]
        assert not await is_refused(old, crunch.network)
        ids = [entry["deployment_id"] for entry in crunch.orchestrator.entries]
        assert ids == ["deployment-1", "deployment-2"]
        await crunch.retire("one")
        _, [entry] = await feed.event()
        assert (entry["deployment_id"], entry["state"]) == ("deployment-1", "STOPPED")
        assert await is_refused(old, crunch.network)
        assert not await is_refused(new, crunch.network)
        assert [deployment.node for deployment in crunch.deployments] == [new]


async def test_a_crashed_model_recovers_at_its_address():
    async with crunch_and_feed("one") as (crunch, feed):
        await feed.event()
        node = crunch.node("one")
        await crunch.crash("one")
        _, [entry] = await feed.event()
        assert (entry["state"], entry["ip"], entry["port"]) == ("RECOVERING", "", 0)
        assert await is_refused(node, crunch.network)
        assert crunch.orchestrator.entries == []
        assert await crunch.recover("one") is node
        _, [entry] = await feed.event()
        assert (entry["state"], entry["port"]) == ("RUNNING", node.port)
        assert not await is_refused(node, crunch.network)


async def test_a_model_is_deployed_once_unless_it_is_redeployed():
    async with LocalCrunch({"one": Model}, network=MemoryNetwork()) as crunch:
        with pytest.raises(ValueError, match="'one' is deployed already"):
            await crunch.add("one", Model)
        with pytest.raises(KeyError):
            await crunch.redeploy("two", Model)
        with pytest.raises(RuntimeError, match="only a killed node"):
            await crunch.recover("one")


async def test_the_crunch_hands_its_settings_to_its_nodes():
    async with LocalCrunch({"one": Model}, services=[Service.TRAIN_INFER], crunch_id="birds") as crunch:
        channel = grpc.insecure_channel(f"{crunch.node('one').host}:{crunch.node('one').port}")
        setup = channel.unary_unary(
            "/dynamic_subclass.DynamicSubclassService/Setup", bytes, SetupResponse.FromString
        )
        with pytest.raises(grpc.RpcError, match="Method not found"):
            await trio.to_thread.run_sync(setup, SetupRequest("any.Name"))
        channel.close()
        async with connect(crunch.orchestrator, TCPNetwork(), "birds") as feed:
            assert await feed.states() == [("init", "one", "RUNNING")]


async def test_the_configuration_leads_to_the_crunch():
    network = MemoryNetwork()
    async with LocalCrunch(network=network, crunch_id="birds") as crunch:
        config = crunch.config(timeout=1.5)
        assert (config.crunch_id, config.timeout, config.network) == ("birds", 1.5, network)
        assert (config.host, config.port) == (crunch.orchestrator.host, crunch.orchestrator.port)
    async with LocalCrunch() as crunch:
        assert isinstance(crunch.config().network, TCPNetwork)
        assert crunch.config(port=1).port == 1


@pytest.mark.parametrize("network", [MemoryNetwork, lambda: None])
async def test_an_exception_in_the_block_leaves_as_itself(network):
    streams = []

    async def fail_while_connected() -> None:
        async with LocalCrunch({"one": Model}, network=network()) as crunch:
            client_network = crunch.network or TCPNetwork()
            servers = (crunch.node("one"), crunch.orchestrator)
            streams.extend([await client_network.connect(server.host, server.port) for server in servers])
            await wait_all_tasks_blocked()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_while_connected()
    for stream in streams:
        await trio.aclose_forcefully(stream)
    gc.collect()  # a socket left open would speak up now


async def test_a_cancelled_block_ends_cancelled():
    with trio.CancelScope() as scope:
        async with LocalCrunch({"one": Model}, network=MemoryNetwork()):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_the_blocks_own_exception_survives_a_cancel():
    async def fail_when_cancelled() -> None:
        with trio.CancelScope() as scope:
            async with LocalCrunch({"one": Model}, network=MemoryNetwork()):
                scope.cancel()
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_when_cancelled()


async def test_leaving_ends_everything_at_once_whatever_nodes_are_at(autojump_clock, nursery):
    ended = trio.Event()

    async def work_for_ever(model: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with LocalCrunch({"one": Model, "two": Model}) as crunch:
        nursery.start_soon(crunch.node("one").run_exclusively, work_for_ever)
        crunch.node("two").pause()
        crunch.orchestrator.pause()
        await wait_all_tasks_blocked(0.01)
        started = trio.current_time()
    assert ended.is_set()
    assert trio.current_time() == started
    nursery.cancel_scope.cancel()


async def test_a_crunch_that_cannot_start_leaves_nothing_behind():
    network = MemoryNetwork()
    taken = network.listen("127.0.0.1", 49152)
    with pytest.raises(OSError, match="in use"):
        await LocalCrunch(network=network).__aenter__()
    taken.close()


async def test_the_synopsis_of_the_package_runs(local_crunch):
    text = trio_model_runner.testing.__doc__
    synopsis = textwrap.dedent(text[text.index("::\n") + 3 : text.index("What there is:")])
    namespace: dict[str, Any] = {}
    exec(synopsis, namespace)
    await namespace["test_a_slow_model_times_out"](local_crunch)
