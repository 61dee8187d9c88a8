"""Spans and metrics, as the real SDK exports them, and what nodes are told of them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from grpclib.const import Status as GRPCStatus
from grpclib.exceptions import GRPCError
from helpers.coordinating import Model, coordinating
from helpers.played import PlainModel, listening, played
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Arguments, ConfigError, PredictionRound, PredictResult
from trio_model_runner.channel import CallInterrupted
from trio_model_runner.instruments import OpenTelemetryInstrument, open_telemetry


class Exported:
    """The SDK, with what it exports in memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider(metric_readers=[self._reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))

    def instrument(self, **settings: Any) -> OpenTelemetryInstrument:
        return OpenTelemetryInstrument(self.tracers, self.meters, **settings)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def points(self, name: str) -> dict[tuple[tuple[str, Any], ...], tuple[int, float]]:
        """The count of a histogram or a counter, and the sum of a histogram, by attributes."""
        data = self._reader.get_metrics_data()
        return {
            tuple(sorted(point.attributes.items())): (
                (point.count, point.sum) if hasattr(point, "count") else (point.value, 0.0)
            )
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }


@pytest.fixture
def exported() -> Exported:
    return Exported()


RPC = {"rpc.system.name": "grpc", "rpc.method": "package.Service/Call"}


def attributes(**more: str) -> Any:
    return tuple(sorted({name.replace("__", "."): value for name, value in more.items()}.items()))


def of_call(**more: str) -> Any:
    return tuple(sorted({**RPC, **{name.replace("__", "."): value for name, value in more.items()}}.items()))


async def test_a_round_is_a_span_in_its_callers_trace(exported: Exported, autojump_clock: MockClock) -> None:
    tracer = exported.tracers.get_tracer("the coordinator's")
    async with coordinating({"a": Model, "b": Model}, instruments=[exported.instrument()]) as (
        crunch,
        cluster,
    ):
        crunch.node("b").faults.call_status = ("MODEL_FAILED", "no feathers")
        with tracer.start_as_current_span("tick"):
            results = await cluster.call("predict")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.call, "hang")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    whole, tick, cut = exported.spans
    assert (whole.name, tick.name, cut.name) == ("round predict", "tick", "round hang")
    assert whole.parent is not None
    assert whole.parent.span_id == tick.context.span_id
    assert dict(whole.attributes or {}) == {
        "trio_model_runner.crunch_id": crunch.config().crunch_id,
        "trio_model_runner.method": "predict",
        "trio_model_runner.round_id": results.id,
        "trio_model_runner.models": 2,
        "trio_model_runner.results.success": 1,
        "trio_model_runner.results.failed": 1,
    }
    assert whole.start_time == pytest.approx(results.started_at * 1e9)
    assert whole.status.status_code is StatusCode.UNSET
    assert cut.status.status_code is StatusCode.ERROR
    of = {"crunch_id": crunch.config().crunch_id, "method": "predict"}
    assert exported.points("trio_model_runner.round.duration").keys() == {attributes(**of)}
    results_of = exported.points("trio_model_runner.result.duration")
    assert {key: count for key, (count, _) in results_of.items()} == {
        attributes(**of, status="SUCCESS"): 1,
        attributes(**of, status="FAILED"): 1,
    }
    ((key, (count, _)),) = exported.points("rpc.client.call.duration").items()
    assert dict(key)["rpc.method"] == "dynamic_subclass.DynamicSubclassService/Call"
    assert (dict(key)["rpc.response.status_code"], count) == ("OK", 2)  # a model that fails is gRPC's OK


async def test_metrics_are_those_of_the_conventions(exported: Exported, autojump_clock: MockClock) -> None:
    models = [PlainModel(f"m{number}") for number in range(6)]
    errors = [
        None,
        GRPCError(GRPCStatus.UNAVAILABLE, "down"),
        CallInterrupted("reset"),
        None,
        TimeoutError(),
        None,
    ]
    statuses = ["SUCCESS", "FAILED", "FAILED", "FAILED", "TIMEOUT", "SKIPPED"]
    results = {
        model: PredictResult(model, status, elapsed=1.0, error=error, sent=status != "SKIPPED")  # type: ignore[arg-type]
        for model, status, error in zip(models, statuses, errors, strict=True)
    }
    whole: Any = PredictionRound(results, id="1", method="predict", started_at=1.0, elapsed=2.5, timeout=5.0)
    async with listening(instrument := exported.instrument()):
        instrument.call_ended(whole)
    assert exported.points("trio_model_runner.round.duration") == {}  # it was none
    of = {"crunch_id": "bird-game", "method": "predict"}
    assert exported.points("trio_model_runner.result.duration") == {
        attributes(**of, status="SUCCESS"): (1, 1.0),
        attributes(**of, status="FAILED"): (3, 3.0),
        attributes(**of, status="TIMEOUT"): (1, 1.0),
        attributes(**of, status="SKIPPED"): (1, 1.0),
    }
    late, down = "DEADLINE_EXCEEDED", "UNAVAILABLE"
    assert exported.points("rpc.client.call.duration") == {
        of_call(rpc__response__status_code="OK"): (2, 2.0),
        of_call(rpc__response__status_code=down, error__type=down): (1, 1.0),
        of_call(error__type="CallInterrupted"): (1, 1.0),
        of_call(rpc__response__status_code=late, error__type=late): (1, 1.0),
    }
    assert counts(exported, "trio_model_runner.results") == counts(
        exported, "trio_model_runner.result.duration"
    )
    assert exported.spans == []


def counts(exported: Exported, name: str) -> dict[Any, int]:
    return {of: count for of, (count, _) in exported.points(name).items()}


@pytest.mark.parametrize("calls", [False, True])
async def test_durations_of_calls_can_be_left_out(
    exported: Exported, calls: bool, autojump_clock: MockClock
) -> None:
    async with listening(instrument := exported.instrument(durations=False, calls=calls)):
        span = exported.tracers.get_tracer("mine").start_span("round")
        for _ in range(2):
            instrument.round_ended(span, played("SSSTF"))
    of = {"crunch_id": "bird-game", "method": "predict"}
    assert counts(exported, "trio_model_runner.results") == {
        attributes(**of, status="SUCCESS"): 6,
        attributes(**of, status="FAILED"): 2,
        attributes(**of, status="TIMEOUT"): 2,
    }
    assert counts(exported, "trio_model_runner.round.duration") == {attributes(**of): 2}
    assert exported.points("trio_model_runner.result.duration") == {}
    assert exported.points("rpc.client.call.duration") == {}
    assert len(exported.spans) == (11 if calls else 1)


async def test_calls_are_spans_on_request(exported: Exported, autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model, "b": Model}, instruments=[exported.instrument(calls=True)]) as (
        crunch,
        cluster,
    ):
        crunch.node("b").faults.call_status = ("MODEL_FAILED", "no feathers")
        results = await cluster.call("sleep", Arguments(0.5))
        with exported.tracers.get_tracer("mine").start_as_current_span("alone"):
            await cluster.models["a"].predict()
    spans = {
        (span.name, (span.attributes or {}).get("trio_model_runner.model_id")): span
        for span in exported.spans
    }
    whole, good, bad = (
        spans["round sleep", None],
        *(
            next(
                span
                for span in exported.spans
                if span.kind is SpanKind.CLIENT
                and span.parent is not None
                and span.parent.span_id == spans["round sleep", None].context.span_id
                and (span.attributes or {})["trio_model_runner.model_id"] == model_id
            )
            for model_id in "ab"
        ),
    )
    for span in (good, bad):
        assert span.name == "dynamic_subclass.DynamicSubclassService/Call"
        assert span.context.trace_id == whole.context.trace_id
        assert span.start_time == whole.start_time
    assert good.end_time is not None
    assert good.start_time is not None
    elapsed = results.by_id["a"].elapsed
    assert good.end_time - good.start_time == pytest.approx(elapsed * 1e9, abs=1000)
    assert (good.status.status_code, bad.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert "no feathers" in str(bad.status.description)
    (alone,) = [
        span
        for span in exported.spans
        if span.kind is SpanKind.CLIENT
        and span.parent is not None
        and span.parent.span_id == spans["alone", None].context.span_id
    ]
    assert (alone.attributes or {})["trio_model_runner.status"] == "SUCCESS"


@pytest.mark.parametrize("propagate", [False, True])
async def test_nodes_are_told_the_traceparent_at_most(
    exported: Exported, propagate: bool, autojump_clock: MockClock
) -> None:
    parent = trace.set_span_in_context(
        trace.NonRecordingSpan(
            trace.SpanContext(
                1,
                2,
                is_remote=False,
                trace_flags=trace.TraceFlags(1),
                trace_state=trace.TraceState([("vendor", "secret")]),
            )
        )
    )
    token = context.attach(baggage.set_baggage("customer", "secret", parent))
    try:
        instrument = exported.instrument(propagate=propagate)
        async with coordinating({"a": Model}, instruments=[instrument]) as (crunch, cluster):
            await cluster.call("predict")
            await cluster.models["a"].predict()
            first, second = (call.metadata for call in crunch.node("a").calls)
    finally:
        context.detach(token)
    (whole,) = exported.spans
    expected = f"00-{1:032x}-{whole.context.span_id:016x}-01"
    assert first.get("traceparent") == (expected if propagate else None)
    assert "traceparent" not in second
    assert "secret" not in f"{first} {second}"
    assert {name for name in first if name in ("tracestate", "baggage")} == set()


WITHOUT_AN_SDK = """
import sys, trio
sys.modules["opentelemetry.sdk"] = None
from helpers.played import listening, played
from trio_model_runner.cluster.instrument import RoundStart
from trio_model_runner.instruments import OpenTelemetryInstrument

async def main():
    async with listening(instrument := OpenTelemetryInstrument(calls=True, propagate=True)):
        token = instrument.round_started(RoundStart("1", "predict", 1.0, 5.0, ()))
        print(instrument.metadata(token))
        instrument.round_ended(token, played("STF"))
        instrument.call_ended(played("S"))

trio.run(main)
"""


def test_without_an_sdk_it_does_nothing() -> None:
    command = [sys.executable, "-W", "error", "-c", WITHOUT_AN_SDK]
    folder = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("None\n", "")


async def test_nothing_is_recorded_before_the_caller_has_its_round(
    exported: Exported, autojump_clock: MockClock
) -> None:
    async with listening(instrument := exported.instrument()):
        span = exported.tracers.get_tracer("mine").start_span("round")
        instrument.round_ended(span, played("S" * 500))
        assert exported.points("trio_model_runner.result.duration") == {}
        await wait_all_tasks_blocked()
        ((_, (count, _)),) = exported.points("trio_model_runner.result.duration").items()
        assert count == 500
        instrument.round_ended(span, played("S" * 500))
    ((_, (count, _)),) = exported.points("trio_model_runner.result.duration").items()
    assert count == 1000  # what waits at the end is recorded, too


async def test_what_waits_to_be_recorded_is_bounded(
    exported: Exported,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(open_telemetry, "_MOST_WAITING", 100)
    async with listening(instrument := exported.instrument()):
        for _ in range(30):
            instrument.call_ended(played("S" * 5))
        assert len(instrument._ended) == 20
    (said,) = [each.getMessage() for each in caplog.records]
    assert "rounds end faster than they can be recorded" in said


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"tracer_provider": "otlp"}, ConfigError, "tracer_provider: must be a TracerProvider .* got 'otlp'"),
    ({"tracer_provider": MeterProvider()}, ConfigError, "tracer_provider: .* got MeterProvider"),
    ({"meter_provider": TracerProvider}, ConfigError, "meter_provider: .* got the class TracerProvider"),
    ({"durations": 1}, TypeError, "durations: must be True or False, got 1"),
    ({"calls": "yes"}, TypeError, "calls: must be True or False, got 'yes'"),
    ({"propagate": None}, TypeError, "propagate: must be True or False, got None"),
]


@pytest.mark.parametrize(("arguments", "kind", "text"), WRONG, ids=lambda each: str(each)[:40])
def test_wrong_arguments_are_refused(arguments: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        OpenTelemetryInstrument(**arguments)


async def test_a_processor_that_blocks_is_warned_of_once_and_others_get_their_turn(
    exported: Exported, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Blocking(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span)
            time.sleep(0.06)

    ended: list[ReadableSpan] = []
    exported.tracers.add_span_processor(Blocking())
    async with listening(instrument := exported.instrument(calls=True)):
        instrument.call_ended(played("SSS"))
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert len(ended) < 3
    assert len(ended) == 3
    (said,) = [each.getMessage() for each in caplog.records]
    assert said.startswith("OpenTelemetryInstrument: recording took")


async def test_one_listens_to_one_cluster(exported: Exported, autojump_clock: MockClock) -> None:
    async with listening(instrument := exported.instrument()):
        with pytest.raises(ConfigError, match="this OpenTelemetryInstrument listens to another cluster"):
            async with listening(instrument):
                raise AssertionError


async def test_a_span_that_can_not_be_begun_costs_no_metrics(
    exported: Exported, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Raising(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("no room")

    exported.tracers.add_span_processor(Raising())
    instrument = exported.instrument(propagate=True)
    async with coordinating({"a": Model}, instruments=[instrument]) as (_, cluster):
        for _ in range(2):
            assert len((await cluster.call("predict")).succeeded) == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.call, "hang")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    for name in ("round.duration", "result.duration", "results"):
        ((count, _),) = exported.points(f"trio_model_runner.{name}").values()
        assert count == 2
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == [
        "OpenTelemetryInstrument: not recorded; more of this is not logged"
    ]


async def test_a_span_processor_that_raises_costs_one_record_and_is_said_once(
    exported: Exported, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Raising(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("no room")

    exported.tracers.add_span_processor(Raising())
    instrument = exported.instrument(calls=True)
    async with coordinating({"a": Model, "b": Model}, instruments=[instrument]) as (_, cluster):
        for _ in range(3):
            assert len((await cluster.call("predict")).succeeded) == 2
    ((count, _),) = exported.points("trio_model_runner.result.duration").values()
    assert count == 6
    assert len(exported.points("trio_model_runner.round.duration")) == 1
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == [
        "instrument OpenTelemetryInstrument: round_ended raised; more of this is not logged",
        "OpenTelemetryInstrument: not recorded; more of this is not logged",
    ]
