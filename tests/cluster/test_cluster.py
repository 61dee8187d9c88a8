"""A cluster's life: entering, calls on all models or some, snapshots, reports, draining, and refusals."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import signal
from typing import Any

import pytest
import trio
from grpclib.const import Status as GRPCStatus
from helpers.coordinating import SERVICE, Model, coordinating, until
from helpers.insides import timeouts_of
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterConfig,
    ClusterDraining,
    DynamicSubclassService,
    OrchestratorUnavailable,
    PredictionRound,
    Status,
)
from trio_model_runner.config import Health, Limits
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch


async def test_every_ready_model_answers() -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (_, cluster):
        assert set(cluster.models) == set(cluster.announced) == {"a", "b"}
        results = await cluster.call("predict", Arguments({"price": 5}))
        assert {model_id: result.value for model_id, result in results.by_id.items()} == {
            "a": {"price": 5},
            "b": {"price": 5},
        }
        assert set(results) == set(cluster.models.values())
        assert (results.method, results.timeout, results.missing) == ("predict", 10.0, ())


async def test_the_same_over_sockets() -> None:
    async with (
        LocalCrunch({"a": Model(), "b": Model()}) as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
    ):
        assert len((await cluster.call("tick", Arguments(1))).succeeded) == 2
        async with cluster.as_completed("predict") as results:
            assert [result.value async for result in results] == [1.5, 1.5]
        await crunch.crash("a")
        await until(cluster, lambda: "a" not in cluster.models)
        assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT
        await crunch.recover("a")
        await cluster.wait_for_models(2)
        assert len((await cluster.call("predict")).succeeded) == 2


async def test_no_orchestrator(autojump_clock: MockClock) -> None:
    config = ClusterConfig(
        "bird-game", host="nowhere", port=9, network=MemoryNetwork(), orchestrator_timeout=30
    )
    with pytest.raises(
        OrchestratorUnavailable, match=r"nowhere:9 in 30 s \(orchestrator_timeout\): .*[Cc]onnection refused"
    ):
        async with Cluster(config, SERVICE):
            pass
    assert trio.current_time() == pytest.approx(30, abs=1e-6)


async def test_an_orchestrator_that_does_not_know_the_crunch(autojump_clock: MockClock) -> None:
    async with LocalCrunch({}, network=MemoryNetwork()) as crunch:
        config = ClusterConfig(
            "other", host=crunch.orchestrator.host, port=crunch.orchestrator.port, network=crunch.network
        )
        with pytest.raises(OrchestratorUnavailable, match="unknown crunch 'other'"):
            async with Cluster(config, SERVICE):
                pass


async def test_entering_waits_for_models_but_not_for_ever(autojump_clock: MockClock) -> None:
    async with LocalCrunch({"a": Model(), "b": Model(), "c": Model()}, network=MemoryNetwork()) as crunch:
        crunch.node("a").faults.setup_delay = 5
        crunch.node("b").faults.hang_setup = True
        crunch.node("c").faults.setup_status = ("SETUP_FAILED", "no")
        async with Cluster(crunch.config(startup_timeout=10), SERVICE) as cluster:
            assert trio.current_time() == pytest.approx(10, abs=0.01)
            assert set(cluster.models) == {"a"}
        async with Cluster(crunch.config(startup_timeout=0), SERVICE) as cluster:
            assert trio.current_time() == pytest.approx(10, abs=0.01)
            assert set(cluster.announced) == {"a", "b", "c"}
            assert {result.status for result in (await cluster.call("predict")).values()} == {Status.ABSENT}


@pytest.mark.parametrize(("up", "startup_timeout"), [(0, 10), (1, 10), (0, 0)])
async def test_a_start_without_any_model_is_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, up: int, startup_timeout: float
) -> None:
    async with LocalCrunch(dict.fromkeys("abc", Model), network=MemoryNetwork()) as crunch:
        for model_id in "abc"[up:]:
            crunch.node(model_id).faults.setup_error = (GRPCStatus.UNAVAILABLE, "warming up")
        async with Cluster(crunch.config(startup_timeout=startup_timeout), SERVICE) as cluster:
            assert len(cluster.models) == up
    said = [each for each in caplog.messages if "startup_timeout" in each]
    assert len(said) == (up == 0 and startup_timeout > 0)
    if said:
        assert said[0].startswith("none of the 3 announced models is ready after 10 s (startup_timeout)")
        assert "(the first: 'a': " in said[0]
        assert "warming up" in said[0]


async def test_an_empty_crunch() -> None:
    async with coordinating({}) as (_, cluster):
        assert len(await cluster.call("predict")) == 0


@pytest.mark.parametrize(
    ("config", "service", "on_join", "text"),
    [
        ("bird-game", SERVICE, None, "config: must be a ClusterConfig, got str"),
        (ClusterConfig("x"), "crunch.Model", None, "service: must be a service"),
        (ClusterConfig("x"), DynamicSubclassService, None, "service: must be a service"),
        (ClusterConfig("x"), SERVICE, 5, "on_join: must be an async function"),
        (ClusterConfig("x"), DynamicSubclassService("a.B", Arguments(object())), None, "argument 1"),
    ],
)
def test_what_a_cluster_is_not_made_of(config: Any, service: Any, on_join: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        Cluster(config, service, on_join=on_join)


def test_arguments_for_the_setup_that_no_node_would_take() -> None:
    config = ClusterConfig("x", limits=Limits(max_message_bytes=1000))
    with pytest.raises(ValueError, match=r"limits\.max_message_bytes"):
        Cluster(config, DynamicSubclassService("a.B", Arguments("x" * 1000)))


async def _later(_: Any) -> Any:
    await trio.lowlevel.checkpoint()


async def test_a_cluster_is_entered_once() -> None:
    async with coordinating({}) as (crunch, _):
        cluster = Cluster(crunch.config(), SERVICE)
        async with cluster:
            with pytest.raises(RuntimeError, match="only once"):
                await cluster.__aenter__()
        with pytest.raises(RuntimeError, match="only once"):
            await cluster.__aenter__()


@pytest.mark.parametrize(
    ("kind", "text", "method", "settings"),
    [
        (TypeError, "method", 5, {}),
        (ValueError, "method", "", {}),
        (TypeError, "arguments", "tick", {"arguments": 5}),
        (TypeError, "arguments", "tick", {"arguments": _later}),
        (TypeError, "argument 1", "tick", {"arguments": Arguments(object())}),
        (TypeError, r"argument payload\[0\]", "tick", {"arguments": Arguments(payload=[object()])}),
        (ValueError, "arguments", "tick", {"arguments": Arguments("x" * 2000)}),
        (TypeError, "timeout", "tick", {"timeout": "1"}),
        (TypeError, "timeout", "tick", {"timeout": True}),
        (ValueError, "timeout", "tick", {"timeout": 0}),
        (ValueError, "timeout", "tick", {"timeout": -1}),
        (ValueError, "timeout", "tick", {"timeout": math.nan}),
        (TypeError, "returns", "tick", {"returns": 5}),
        (TypeError, "returns", "tick", {"returns": _later}),
        (TypeError, "models", "tick", {"models": [5]}),
        (TypeError, "models", "tick", {"models": "a"}),
        (TypeError, "models", "tick", {"models": 5}),
    ],
)
async def test_bad_arguments_are_refused_before_anything_is_sent(
    kind: type[Exception], text: str, method: Any, settings: dict[str, Any]
) -> None:
    async with coordinating({"a": Model()}, limits=Limits(max_message_bytes=1000)) as (crunch, cluster):
        with pytest.raises(kind, match=f"^{text}: "):
            await cluster.call(method, **settings)
        with pytest.raises(kind):
            async with cluster.as_completed(method, **settings):
                pass
        assert crunch.node("a").call_count == 0
        assert (await cluster.call("predict")).by_id["a"].status is Status.SUCCESS  # no place was kept


async def test_subsets_of_models() -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (crunch, cluster):
        a = cluster.models["a"]
        results = await cluster.call("predict", models=iter([a, "a", "x", "b", "x"]))
        assert list(results) == [a, cluster.models["b"]]
        assert results.missing == ("x",)
        assert len(await cluster.call("predict", models=[])) == 0
        assert (await cluster.call("predict", models=["x"])).missing == ("x",)
        await crunch.remove("a")
        await until(cluster, lambda: "a" not in cluster.announced)
        results = await cluster.call("predict", models=[a, "a"])
        assert results[a].status is Status.ABSENT
        assert results.missing == ("a",)
        assert (await a.call("predict")).status is Status.ABSENT


async def test_a_snapshot_is_plain_and_says_how_it_is(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (crunch, cluster):
        assert cluster.snapshot().last_round is None
        await cluster.call("fail", models=["a"])
        await crunch.crash("b")
        await trio.sleep(1)
        snapshot = json.loads(json.dumps(cluster.snapshot().to_dict()))
        assert snapshot["models"] == {"ready": 1, "recovering": 1}
        assert snapshot["last_round"]["counts"] == {"FAILED": 1}
        await cluster.models["a"].predict()  # is no round
        assert cluster.snapshot().last_round == snapshot["last_round"]
        assert snapshot["orchestrator_connected"]
        crunch.orchestrator.kill()
        await trio.sleep(60)
        snapshot = json.loads(json.dumps(cluster.snapshot().to_dict()))
        assert not snapshot["orchestrator_connected"]
        assert snapshot["orchestrator_error"]
    assert json.dumps(cluster.snapshot().to_dict())


async def test_waiting_for_models(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        await cluster.wait_for_models()
        with trio.move_on_after(5) as scope:
            await cluster.wait_for_models(2)
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.wait_for_models, 2)
            await crunch.add("b", Model())


async def test_a_report_of_the_coordinators_own(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (crunch, cluster):
        model = cluster.models["a"]
        await cluster.report_failure(model, "LOW_PERFORMANCE", 'worse than "random"')
        assert await crunch.wait_for_reports() == [
            {
                "model_id": "a",
                "failure_code": "LOW_PERFORMANCE",
                "failure_reason": 'worse than "random"',
                "ip": "127.0.0.1",
            }
        ]
        assert set(cluster.models) == {"b"}
        assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT
        await cluster.report_failure(cluster.models["b"], "LOW_PERFORMANCE")
        assert (await crunch.wait_for_reports(2))[1]["failure_reason"] is None
        crunch.announce("a")
        await cluster.wait_for_models()
        assert cluster.models["a"] is model


async def test_a_report_is_refused_where_it_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        model = cluster.models["a"]
        with pytest.raises(ValueError, match="BORING"):
            await cluster.report_failure(model, "BORING")
        with pytest.raises(TypeError, match=r"^model: "):
            await cluster.report_failure("a", "LOW_PERFORMANCE")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^reason: "):
            await cluster.report_failure(model, "LOW_PERFORMANCE", 5)  # type: ignore[arg-type]
        await crunch.redeploy("a", Model())
        await until(cluster, lambda: cluster.models["a"] is not model)
        # The orchestrator knows models by their host: this would stop the new deployment.
        await cluster.report_failure(model, "LOW_PERFORMANCE")
        assert "has left" in caplog.text
        await wait_all_tasks_blocked()
        assert crunch.reports == []


async def test_nothing_is_reported_while_reporting_is_off(caplog: pytest.LogCaptureFixture) -> None:
    async with coordinating({"a": Model()}, report_failures=False) as (crunch, cluster):
        await cluster.report_failure(cluster.models["a"], "LOW_PERFORMANCE")
        assert [record.levelno for record in caplog.records if "off" in record.message] == [logging.WARNING]
        assert set(cluster.models) == {"a"}
        await wait_all_tasks_blocked()
        assert crunch.reports == []


async def test_draining_lets_rounds_end_in_time(autojump_clock: MockClock) -> None:
    alone = Health(require_witness=False)
    async with coordinating({"a": Model(), "b": Model()}, timeout=60, health=alone) as (crunch, cluster):
        rounds = []

        async def call(method: str, *arguments: Any) -> None:
            rounds.append(
                await cluster.call(method, Arguments(*arguments), models=["a" if method == "hang" else "b"])
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "hang")
            nursery.start_soon(call, "sleep", 2.0)
            await crunch.node("b").wait_for_calls(1)
            before = trio.current_time()
            await cluster.drain(5)
            assert trio.current_time() - before == pytest.approx(5, abs=0.01)
        assert rounds[0].by_id["b"].value == "awake"
        assert rounds[1].by_id["a"].status is Status.TIMEOUT
        assert timeouts_of(cluster.models["a"]) == 0
        assert cluster.snapshot().draining
        with pytest.raises(ClusterDraining):
            await cluster.call("predict")
        with pytest.raises(ClusterDraining):
            await cluster.models["a"].predict()
        await cluster.drain(0)
        with pytest.raises(ValueError, match="timeout"):
            await cluster.drain(-1)
        with pytest.raises(TypeError, match=r"^timeout: "):
            await cluster.drain("soon")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^count: "):
            await cluster.wait_for_models("all")  # type: ignore[arg-type]


async def test_draining_with_no_time_ends_rounds_at_once(autojump_clock: MockClock) -> None:
    alone = Health(require_witness=False)
    async with coordinating({"a": Model(), "b": Model()}, timeout=60, health=alone) as (crunch, cluster):
        rounds: list[PredictionRound[Any]] = []
        completed: list[Status] = []

        async def call() -> None:
            rounds.append(await cluster.call("hang"))

        async def iterate() -> None:
            async with cluster.as_completed("hang") as results:
                completed.extend([result.status async for result in results])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await crunch.node("a").wait_for_calls(1)
            nursery.start_soon(call)  # these wait behind it
            nursery.start_soon(iterate)
            await wait_all_tasks_blocked()
            await cluster.drain(0)
        assert trio.current_time() < 0.01
        assert [len(each.timed_out) for each in rounds] == [2, 2]
        assert completed == [Status.TIMEOUT] * 2
        assert {timeouts_of(model) for model in cluster.models.values()} == {0}


async def test_a_service_that_is_told_to_stop_lets_its_round_end(autojump_clock: MockClock) -> None:
    rounds: list[PredictionRound[Any]] = []

    async def play(cluster: Cluster) -> None:
        while True:
            rounds.append(await cluster.call("sleep", Arguments(2.0)))

    async with LocalCrunch({"a": Model(), "b": Model()}, network=MemoryNetwork()) as crunch:
        async with Cluster(crunch.config(), SERVICE) as cluster, trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGTERM) as signals:

                @nursery.start_soon
                async def tell_to_stop() -> None:
                    await crunch.node("b").wait_for_calls(2)
                    signal.raise_signal(signal.SIGTERM)

                nursery.start_soon(guarded, play, cluster)
                async for _ in signals:
                    break
            await cluster.drain(5.0)
            nursery.cancel_scope.cancel()
        assert trio.current_time() == pytest.approx(4, abs=0.1)
    assert [len(each.succeeded) for each in rounds] == [2, 2]


async def guarded(play: Any, cluster: Cluster) -> None:
    with contextlib.suppress(ClusterDraining):
        await play(cluster)


async def test_before_and_after_the_block_everything_is_closed() -> None:
    async with LocalCrunch({"a": Model()}, network=MemoryNetwork()) as crunch:
        cluster = Cluster(crunch.config(), SERVICE)
        with pytest.raises(trio.ClosedResourceError):
            await cluster.call("predict")
        async with cluster:
            model = cluster.models["a"]
        for attempt in (
            lambda: cluster.call("predict"),
            lambda: cluster.predict(),
            lambda: model.call("predict"),
            lambda: cluster.wait_for_models(),
            lambda: cluster.report_failure(model, "LOW_PERFORMANCE"),
            lambda: cluster.drain(1),
            lambda: cluster.changes().__aenter__(),
            lambda: cluster.as_completed("predict").__aenter__(),
        ):
            with pytest.raises(trio.ClosedResourceError):
                await attempt()
        assert not cluster.models
