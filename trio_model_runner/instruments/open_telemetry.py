"""Spans and metrics of a cluster's rounds, by OpenTelemetry's API.

Names are those of the semantic conventions for RPC where they have one. A model that fails is gRPC's OK, so
there is a histogram of our own for results, by status.

Recording a duration takes the SDK 5 us, there are two for each call, and its API takes one at a time: only a
counter can be told of many results at once. So durations can be left out; and nothing is recorded while a
round runs, nor while its caller waits for it: rounds wait in a queue, and a task takes them from there. It
works for half a millisecond at a time. A thread would hold the interpreter's lock for ten times that.

Nodes are strangers. What they are told of our traces is the traceparent at most, if that is asked for;
baggage and tracestate are the coordinator's own.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from grpclib.exceptions import GRPCError, StreamTerminatedError
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace import Status as SpanStatus
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..cluster.instrument import Instrument, ObservedCluster, RoundStart
from ..errors import ConfigError
from ..given import check_flag
from ..signal import Signal
from ..text import shown_scalar
from ..values.results import PredictResult, Status
from .checks import OneCluster

if TYPE_CHECKING:
    from ..values.prediction_round import PredictionRound

__all__ = ["OpenTelemetryInstrument"]

_SCOPE: Final = "trio_model_runner"
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)  # RPC's
_MOST_WAITING: Final = 100_000  # results
_AT_ONCE: Final = 0.0005  # seconds, before others have their turn
_SLOW: Final = 0.05  # seconds; a hook that takes as long is warned of, too
_NO_CONTEXT: Final = Context()
_NO_SPAN: Final = Context({_SCOPE: None})
"""A context without a span: an exemplar costs as much as the value. An empty one would be taken for none."""

Groups = dict[Status, list[PredictResult[Any]]]
"""Results by status."""

logger = logging.getLogger("trio_model_runner.instruments")


@attrs.frozen
class _Ended:
    """A round, or a call of one model, to be recorded."""

    played: PredictionRound[Any]
    groups: Groups
    context: Context
    whole_round: bool


class OpenTelemetryInstrument(Instrument):
    """Spans and metrics of one cluster.

    A round is a span, in the trace of whoever calls; with ``calls=True``, each request that was sent is one
    inside it (calls of single models are in the caller's). A call's span begins with its round, and has the
    length of its result's ``elapsed``. Metrics are recorded when a round has ended:

    - ``trio_model_runner.results``, a counter, with ``crunch_id``, ``method`` and ``status``: all results;
    - ``trio_model_runner.round.duration``, seconds, with ``crunch_id`` and ``method``;
    - ``trio_model_runner.result.duration``, seconds, with ``crunch_id``, ``method`` and ``status``: of all
      results;
    - ``rpc.client.call.duration``, seconds, with ``rpc.system.name``, ``rpc.method``,
      ``rpc.response.status_code`` and ``error.type``: of requests that were sent, as gRPC sees them.

    Each of the last two takes OpenTelemetry's SDK 5 us of processor time a call, so 5 ms for a round of 500
    models, after it. `PrometheusInstrument` has such histograms for a thirtieth.

    Whatever a span processor does, it does in the event loop. So give the provider one that exports in a
    thread of its own, such as the SDK's BatchSpanProcessor; SimpleSpanProcessor would hold up every deadline.

    Args:
        tracer_provider: makes spans; None for the global one.
        meter_provider: makes metrics; None for the global one.
        durations: the last two metrics are recorded. Without them, metrics cost hardly anything.
        calls: each call is a span, too. That costs several times what metrics do.
        propagate: requests of rounds carry the round's ``traceparent``, so that nodes can take part in the
            trace. Nodes are strangers.

    Raises:
        ConfigError: a provider is none of OpenTelemetry's API; on entering the cluster's block, if this one
            listens to another cluster.
        TypeError: one of the others is not True or False.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        durations: bool = True,
        calls: bool = False,
        propagate: bool = False,
    ) -> None:
        _check_provider("tracer_provider", tracer_provider, trace.TracerProvider)
        _check_provider("meter_provider", meter_provider, metrics.MeterProvider)
        for name, flag in (("durations", durations), ("calls", calls), ("propagate", propagate)):
            check_flag(flag, name)
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._results = meter.create_counter(f"{_SCOPE}.results", "{result}", "Results, by status.")
        self._round_seconds = _histogram(meter, f"{_SCOPE}.round.duration", "Duration of rounds.")
        self._result_seconds = _histogram(
            meter, f"{_SCOPE}.result.duration", "Duration of calls of models, by result."
        )
        self._call_seconds = _histogram(
            meter, "rpc.client.call.duration", "Duration of requests to model nodes."
        )
        self._durations = durations
        self._calls = calls
        self._propagate = propagate
        self._one = OneCluster(self)
        self._crunch_id = self._rpc_method = ""
        self._of_success: dict[str, str] = {}
        self._ended: deque[_Ended] = deque()
        self._waiting = 0
        self._dropped = 0
        self._has_failed = self._was_slow = False
        self._closing = False
        self._news = Signal()

    def running(self, cluster: ObservedCluster) -> AbstractAsyncContextManager[object]:
        """See `Instrument.running`."""
        return self._running(cluster)

    @asynccontextmanager
    async def _running(self, cluster: ObservedCluster) -> AsyncIterator[None]:
        with self._one.cluster():
            self._crunch_id, self._rpc_method = cluster.crunch_id, cluster.rpc_method
            self._of_success = self._rpc_attributes("OK")
            self._closing = False
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._record_all)
                yield
                self._closing = True
                self._news.send()

    def round_started(self, start: RoundStart) -> object:
        """See `Instrument.round_started`."""
        try:
            return self._tracer.start_span(
                f"round {start.method}",
                start_time=_nanoseconds(start.started_at),
                attributes={
                    "trio_model_runner.crunch_id": self._crunch_id,
                    "trio_model_runner.method": start.method,
                    "trio_model_runner.round_id": start.id,
                    "trio_model_runner.models": len(start.models),
                },
            )
        except Exception:  # without a token, the cluster would not tell of the round's end
            self._note_failure()
            return trace.INVALID_SPAN

    def metadata(self, token: Span) -> Mapping[str, str] | None:
        """See `Instrument.metadata`."""
        if not self._propagate:
            return None
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(token, _NO_CONTEXT))
        traceparent = carrier.get("traceparent")
        return None if traceparent is None else {"traceparent": traceparent}

    def round_ended(self, token: Span, round: PredictionRound[Any] | None) -> None:  # noqa: A002
        """See `Instrument.round_ended`."""
        if round is None:
            token.set_status(SpanStatus(StatusCode.ERROR, "it ended without results"))
            token.end()
            return
        groups = _by_status(round)
        try:
            if token.is_recording():
                for status, results in groups.items():
                    token.set_attribute(f"trio_model_runner.results.{status.value.lower()}", len(results))
            token.end()
        finally:
            context = trace.set_span_in_context(token, _NO_CONTEXT)
            self._queue(_Ended(round, groups, context, whole_round=True))

    def call_ended(self, call: PredictionRound[Any]) -> None:
        """See `Instrument.call_ended`."""
        context = trace.set_span_in_context(trace.get_current_span(), _NO_CONTEXT)
        self._queue(_Ended(call, _by_status(call), context, whole_round=False))

    def _queue(self, ended: _Ended) -> None:
        if self._waiting >= _MOST_WAITING:
            if not self._dropped:
                logger.warning("OpenTelemetryInstrument: rounds end faster than they can be recorded")
            self._dropped += 1
            return
        self._ended.append(ended)
        self._waiting += len(ended.played)
        self._news.send()

    async def _record_all(self) -> None:
        while True:
            await self._news.wait_until(lambda: bool(self._ended) or self._closing)
            if not self._ended:
                return
            ended = self._ended.popleft()
            began = time.perf_counter(), time.thread_time()
            for _ in self._record(ended):
                if time.perf_counter() - began[0] > _AT_ONCE:
                    self._warn_of_slow(*began)
                    await trio.lowlevel.checkpoint()
                    began = time.perf_counter(), time.thread_time()
            self._waiting -= len(ended.played)
            await trio.lowlevel.checkpoint()

    def _warn_of_slow(self, began: float, processor_began: float) -> None:
        seconds = time.perf_counter() - began
        if seconds > _SLOW and not self._was_slow:
            self._was_slow = True
            logger.warning(
                "OpenTelemetryInstrument: recording took %d ms (%d ms of processor time), in which all else "
                "waited; more of this is not logged",
                seconds * 1000,
                (time.thread_time() - processor_began) * 1000,
            )

    def _record(self, ended: _Ended) -> Iterator[None]:
        """Record it, a result with each step."""
        played = ended.played
        about = {"crunch_id": self._crunch_id, "method": played.method}
        if ended.whole_round:  # its exemplar may be the round's span
            self._attempt(self._round_seconds.record, played.elapsed, about, ended.context)
        for status, results in ended.groups.items():
            of_result = {**about, "status": status.value}
            self._attempt(self._results.add, len(results), of_result, _NO_SPAN)
            if self._durations or self._calls:
                for result in results:
                    self._attempt(self._record_result, ended, result, of_result)
                    yield

    def _record_result(self, ended: _Ended, result: PredictResult[Any], of_result: dict[str, str]) -> None:
        if self._durations:
            self._result_seconds.record(result.elapsed, of_result, _NO_SPAN)
        if not result.sent:
            return
        well = result.status is Status.SUCCESS
        of_call = self._of_success if well else self._rpc_attributes(*_status_code(result))
        if self._durations:
            self._call_seconds.record(result.elapsed, of_call, _NO_SPAN)
        if self._calls:
            self._make_span(ended.played, result, ended.context, of_call)

    def _attempt(self, record: Callable[..., None], *arguments: Any) -> None:
        """Record something. What an exporter or a span processor raises costs that, and is said once."""
        try:
            record(*arguments)
        except Exception:
            self._note_failure()

    def _note_failure(self) -> None:
        if not self._has_failed:
            logger.exception("OpenTelemetryInstrument: not recorded; more of this is not logged")
        self._has_failed = True

    def _rpc_attributes(self, code: str | None, error: str | None = None) -> dict[str, str]:
        attributes = {"rpc.system.name": "grpc", "rpc.method": self._rpc_method}
        if code is not None:
            attributes["rpc.response.status_code"] = code
        if error is not None:
            attributes["error.type"] = error
        return attributes

    def _make_span(
        self,
        played: PredictionRound[Any],
        result: PredictResult[Any],
        context: Context,
        of_call: dict[str, str],
    ) -> None:
        span = self._tracer.start_span(
            self._rpc_method,
            context,
            SpanKind.CLIENT,
            {
                **of_call,
                "trio_model_runner.model_id": result.model.model_id,
                "trio_model_runner.status": result.status.value,
            },
            start_time=_nanoseconds(played.started_at),
        )
        if result.status is not Status.SUCCESS:
            span.set_status(SpanStatus(StatusCode.ERROR, result.detail))
        span.end(_nanoseconds(played.started_at + result.elapsed))


def _check_provider(name: str, provider: object, kind: type) -> None:
    if provider is not None and not isinstance(provider, kind):
        raise ConfigError(f"{name}: must be a {kind.__name__} of OpenTelemetry, got {shown_scalar(provider)}")


def _histogram(meter: metrics.Meter, name: str, words: str) -> metrics.Histogram:
    return meter.create_histogram(name, "s", words, explicit_bucket_boundaries_advisory=_BUCKETS)


def _by_status(played: PredictionRound[Any]) -> Groups:
    groups: Groups = {}
    for result in played.values():
        groups.setdefault(result.status, []).append(result)
    return groups


def _status_code(result: PredictResult[Any]) -> tuple[str | None, str | None]:
    """The gRPC status of a request that was sent, None if it ended without one; and the kind of error."""
    error = result.error
    if isinstance(error, GRPCError):
        return error.status.name, error.status.name
    if result.status is Status.TIMEOUT:
        return "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"
    if isinstance(error, OSError | StreamTerminatedError):
        return None, type(error).__name__
    return "OK", None  # the node has answered, whatever


def _nanoseconds(posix_seconds: float) -> int:
    return int(posix_seconds * 1e9)
