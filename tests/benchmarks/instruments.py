"""What instruments cost a call: processor time of this process, in rounds of 500 models.

    python tests/benchmarks/instruments.py [--models 500] [--rounds 40] [--turns 9] [--only NAME ...]

Each instrument is told of rounds that are over, as a cluster tells it, and has done all its work when the
time is taken: lines are in the file, values with the SDK. So the figure is what a call of a real round costs
more, whatever the network does, and small differences can be seen. It has all threads of the process in it; a
reader of the status socket is another process. The instruments take turns; the table has the median of the
turns, the least and the greatest. The target is 2 us a call, for what a coordinator would leave on.

It needs the development environment, and no network. No figure decides a test.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import trio
from machine import describe_machine, summary
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

from trio_model_runner import PredictionRound, PredictResult
from trio_model_runner.cluster.changes import Change, ChangeKind
from trio_model_runner.cluster.hooks import Hooks
from trio_model_runner.cluster.instrument import ObservedCluster, RoundStart
from trio_model_runner.instruments import (
    Instrument,
    OpenTelemetryInstrument,
    PrometheusInstrument,
    RoundRecorder,
    StatusSocket,
)
from trio_model_runner.model.handle import ModelRunner

TARGET = 2e-6  # seconds a call

READ = """
import socket, sys
reader = socket.socket(socket.AF_UNIX)
reader.connect(sys.argv[1])
print(reader.recv(1), flush=True)
while reader.recv(2**20):
    pass
"""


class Listening(Instrument):
    """Has the hooks of a round, and does nothing in them."""

    def round_started(self, start: RoundStart) -> object:
        return start

    def round_ended(self, token: Any, round: Any) -> None:  # noqa: A002
        pass


class Discarding(SpanExporter):
    """Exports nothing: spans that were kept would have to be looked at by each collection of garbage."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def tracing(directory: Path, *, metrics: bool = True, **settings: Any) -> Instrument:
    """OpenTelemetry with the real SDK; without metrics, with the API's own, which do nothing."""
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(Discarding()))
    meters = (
        MeterProvider(metric_readers=[InMemoryMetricReader()], shutdown_on_exit=False) if metrics else None
    )
    return OpenTelemetryInstrument(tracers, meters, **settings)


INSTRUMENTS: dict[str, tuple[str, Callable[[Path], Instrument], float | None]] = {
    "empty": ("one whose hooks do nothing", lambda _: Listening(), None),
    "recorder": ("`RoundRecorder`", lambda directory: RoundRecorder(directory / "rounds"), TARGET),
    "values": ("the same, with values", lambda directory: RoundRecorder(directory / "r", values=True), None),
    "prometheus": ("`PrometheusInstrument`", lambda _: PrometheusInstrument(CollectorRegistry()), TARGET),
    "model-ids": (
        "the same, with model ids",
        lambda _: PrometheusInstrument(CollectorRegistry(), model_ids=True),
        None,
    ),
    "socket": ("`StatusSocket`, one reader", lambda directory: StatusSocket(directory / "socket"), None),
    "otel": ("`OpenTelemetryInstrument`: metrics, spans of rounds", tracing, TARGET),
    "otel-counts": (
        "the same, with `durations=False`",
        lambda directory: tracing(directory, durations=False),
        TARGET,
    ),
    "otel-spans": (
        "the same without metrics: spans of rounds alone",
        lambda directory: tracing(directory, metrics=False),
        TARGET,
    ),
    "otel-calls": (
        "metrics, and spans of calls too",
        lambda directory: tracing(directory, calls=True),
        None,
    ),
}
"""Titles, what makes each, and targets."""


class Nothing:
    """The snapshot of a cluster that is not there."""

    models: dict[str, int] = {}  # noqa: RUF012
    orchestrator_connected = True

    def to_dict(self) -> dict[str, Any]:
        return {}


def make_rounds(models: int) -> list[PredictionRound[Any]]:
    """Some rounds: five of a hundred models do not answer in time."""
    runners = [
        ModelRunner(
            cast("Any", None), model_id=str(20_000 + n), deployment_id=str(30_000 + n), longest_text=99
        )
        for n in range(models)
    ]
    dice = random.Random(7)
    rounds = []
    for number in range(8):
        results = {}
        for runner in runners:
            late = dice.random() < 0.05
            results[runner] = PredictResult(
                runner,
                "TIMEOUT" if late else "SUCCESS",  # type: ignore[arg-type]
                value=None if late else {"density": [dice.random(), 1.5], "step": 60},
                elapsed=1.0 if late else dice.random(),
                detail="no answer before the deadline" if late else "",
                error=TimeoutError() if late else None,
            )
        rounds.append(
            PredictionRound(
                results, id=str(number), method="predict", started_at=time.time(), elapsed=1.0, timeout=1.0
            )
        )
    return rounds


@contextlib.contextmanager
def reader_of(instrument: Instrument, directory: Path) -> Iterator[None]:
    """A process that reads the instrument's socket, if it has one."""
    if not isinstance(instrument, StatusSocket):
        yield
        return
    command = [sys.executable, "-c", READ, str(directory / "socket")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        yield
        process.wait(60)


async def tell(
    make: Callable[[Path], Instrument], rounds: Sequence[PredictionRound[Any]], count: int
) -> float:
    """The processor time for a call, seconds."""
    observed = ObservedCluster("bird-game", "package.Service/Call", cast("Any", lambda **_: Nothing()))
    with tempfile.TemporaryDirectory() as name:
        instrument = make(Path(name))
        hooks = Hooks([instrument], observed, 60.0)
        with contextlib.ExitStack() as stack:
            async with hooks.running():
                stack.enter_context(reader_of(instrument, Path(name)))
                for model in rounds[0]:
                    hooks.model_changed(Change(ChangeKind.ANNOUNCED, model))
                await trio.sleep(0.3 if isinstance(instrument, StatusSocket) else 0.01)
                begun = time.process_time()
                for number in range(count):
                    played = rounds[number % len(rounds)]
                    start = RoundStart(played.id, played.method, played.started_at, 1.0, tuple(played))
                    hooks.round_started(start).end(played)
                    await trio.sleep(0.001)
            return (time.process_time() - begun) / (count * len(rounds[0]))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="what instruments cost a call")
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=INSTRUMENTS, default=list(INSTRUMENTS), metavar="NAME")
    options = parser.parse_args()
    machine = describe_machine()
    rounds = make_rounds(options.models)
    figures: dict[str, list[float]] = {name: [] for name in options.only}
    for turn in range(options.turns + 1):
        for name in options.only if turn % 2 else reversed(options.only):
            seconds = trio.run(tell, INSTRUMENTS[name][1], rounds, options.rounds)
            if turn:  # the first one fills caches
                figures[name].append(seconds)
    print("| instrument | us a call: median (min-max) | target | met |")
    print("|---|---|---|---|")
    for name, found in figures.items():
        title, _, target = INSTRUMENTS[name]
        median, least, greatest = (1e6 * each for each in (statistics.median(found), min(found), max(found)))
        verdict = (
            "|"
            if target is None
            else f"<= {target * 1e6:g} | {'yes' if median <= target * 1e6 else '**no**'}"
        )
        print(f"| {title} | {median:.2f} ({least:.2f}-{greatest:.2f}) | {verdict} |")
    print(f"\n{summary(machine)}; {options.models} models, {options.rounds} rounds, {options.turns} turns")


if __name__ == "__main__":
    main()
