"""A crunch that people depend on: keys, a look at the way before the start, alarms, metrics, a status socket.

It needs the extras ``secure``, ``cli`` and ``prometheus``. Run it with a file of settings::

    python tests/examples/guarded_crunch.py /etc/birds/config.toml /run/birds/status.sock 9100

    trio-model-runner watch /run/birds/status.sock  # what it does, for an operator at 3 a.m.
    trio-model-runner status /run/birds/status.sock  # in a line, for a container's HEALTHCHECK
    curl http://127.0.0.1:9100/metrics

The file has the orchestrator, and a directory with ``ca.crt``, ``tls.crt`` and ``tls.key``, as
``crunch-certificate`` makes them::

    [trio-model-runner]
    crunch_id = "bird-game"
    host = "orchestrator.example.org"
    tls = true
    credentials_mode = "secure"
    credentials_path = "/etc/birds/credentials"
    allowed_networks = ["10.0.0.0/8"]

Before it starts, ``trio-model-runner check`` goes the way to the orchestrator and to all nodes, and says
what to do where that fails. Models that can't be reached are no reason not to start: they join when they can.

Three things wake somebody: a round to which less than half of the models answer, an orchestrator that is
away, and a report that is held, since so many models share a trouble that it may be ours. Hooks must not
wait, so `Alarms` wakes people in a task of its own.
"""

from __future__ import annotations

import logging
import math
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import prometheus_client
import trio

from trio_model_runner import (
    Cluster,
    ClusterConfig,
    ClusterDraining,
    DynamicSubclassService,
    FailureCode,
    PredictionRound,
)
from trio_model_runner.instruments import (
    Instrument,
    ObservedCluster,
    PrometheusInstrument,
    Report,
    StatusSocket,
)

SERVICE = DynamicSubclassService("birdgame.trackers.trackerbase.TrackerBase")
DRAIN_SECONDS = 5.0
SECONDS_BETWEEN_ROUNDS = 1.0
MOST_USELESS = 100  # answers of NaN in a row, after which a model is reported
WELL, FINDINGS = 0, 1  # exit codes of `trio-model-runner check`

logger = logging.getLogger("guarded_crunch")


class Alarms(Instrument):
    """Wakes somebody, once for each trouble until it is over.

    Args:
        wake: an async function that takes a text. It may take long, and what it raises is logged.
    """

    def __init__(self, wake: Callable[[str], Awaitable[None]]) -> None:
        self._wake = wake
        self._send, self._texts = trio.open_memory_channel[str](100)
        self._troubles: set[str] = set()

    @asynccontextmanager
    async def running(self, cluster: ObservedCluster) -> AsyncIterator[None]:
        """See `Instrument.running`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wake_for_each)
            yield
            nursery.cancel_scope.cancel()

    def round_ended(self, token: Any, round: PredictionRound[Any] | None) -> None:  # noqa: A002
        """See `Instrument.round_ended`."""
        if round is not None:
            self._note("silence", str(round) if 2 * len(round.succeeded) < len(round) else None)

    def orchestrator_changed(self, connected: bool, error: str | None) -> None:
        """See `Instrument.orchestrator_changed`."""
        self._note("orchestrator", None if connected else f"the orchestrator is away: {error}")

    def report_held(self, report: Report) -> None:
        """See `Instrument.report_held`."""
        text = f"{report.model_id} is not reported as {report.code}: {report.reason}"
        self._note(f"held {report.model_id}", text)

    def _note(self, trouble: str, text: str | None) -> None:
        """There is a trouble, or there is none any more."""
        if text is None:
            self._troubles.discard(trouble)
        elif trouble not in self._troubles:
            self._troubles.add(trouble)
            with suppress(trio.WouldBlock):  # a hundred wait: one more would tell nobody anything
                self._send.send_nowait(text)

    async def _wake_for_each(self) -> None:
        async for text in self._texts:
            try:
                await self._wake(text)
            except Exception:
                logger.exception("nobody was woken: %s", text)


async def log_alarm(text: str) -> None:
    """Put a pager here."""
    await trio.lowlevel.checkpoint()
    logger.critical("%s", text)


class Judge:
    """Reports models whose answers are of no use. The library itself reports who fails or is late."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._useless: Counter[str | None] = Counter()

    async def judge(self, results: PredictionRound[float]) -> None:
        """Count the answers that are NaN, in a row, and report whoever has had too many."""
        for model, result in results.succeeded.items():
            if not math.isnan(result.unwrap()):
                del self._useless[model.deployment_id]
                continue
            self._useless[model.deployment_id] += 1
            if self._useless[model.deployment_id] == MOST_USELESS:
                reason = f"predict returned NaN {MOST_USELESS} times in a row"
                await self._cluster.report_failure(model, FailureCode.LOW_PERFORMANCE, reason)


async def play(cluster: Cluster) -> None:
    """Play rounds until the cluster takes no more calls."""
    judge = Judge(cluster)
    with suppress(ClusterDraining):
        while True:
            results = await cluster.call("predict", returns=float)
            await judge.judge(results)
            await trio.sleep(SECONDS_BETWEEN_ROUNDS)


async def main(config: ClusterConfig, instruments: Sequence[Instrument]) -> None:
    """Play until SIGTERM comes, also while the cluster is still coming up."""
    cluster: Cluster | None = None

    async def stop_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        await anext(signals)
        if cluster is not None:
            await cluster.drain(DRAIN_SECONDS)
        scope.cancel()

    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_at_signal, signals, nursery.cancel_scope)
            async with Cluster(config, SERVICE, instruments=instruments) as cluster:
                await play(cluster)
            nursery.cancel_scope.cancel()


def check(settings: str) -> None:
    """Look at the way to the orchestrator and to all models; without an orchestrator, leave."""
    command = [sys.executable, "-m", "trio_model_runner", "check", "--config", settings]
    code = subprocess.run(command, check=False).returncode
    if code not in (WELL, FINDINGS):
        sys.exit(code)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    settings, socket, port = sys.argv[1:]
    check(settings)
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.start_http_server(int(port), "127.0.0.1", registry)
    listening = [Alarms(log_alarm), PrometheusInstrument(registry), StatusSocket(socket)]
    trio.run(main, ClusterConfig.load(settings), listening)
