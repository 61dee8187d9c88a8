"""Metrics for Prometheus: counts and times of a cluster's rounds, and how its models are.

`figures` counts; a collector makes metrics of what was counted when they are scraped. It belongs to the
registry, so crunches that share a registry share it, each with a ``crunch_id`` of its own. They may be in
several threads, and registries are scraped in threads of their own.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import trio
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..cluster.changes import ChangeKind
from ..cluster.instrument import Instrument, ObservedCluster, Report
from ..errors import ConfigError
from ..given import as_float, check_flag
from ..text import quoted, shown
from .checks import OneCluster
from .figures import Figures

if TYPE_CHECKING:
    from ..cluster.changes import Change
    from ..values.prediction_round import PredictionRound

__all__ = ["PrometheusInstrument"]

_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
_SECONDS_BETWEEN_LOOKS: Final = 1.0
_PREFIX: Final = "trio_model_runner"


class PrometheusInstrument(Instrument):
    """Metrics of one cluster, to be scraped from a registry.

    | metric | type | labels |
    |---|---|---|
    | ``trio_model_runner_results_total`` | counter | ``crunch_id method status`` |
    | ``trio_model_runner_result_seconds`` | histogram | ``crunch_id method status`` |
    | ``trio_model_runner_round_seconds`` | histogram | ``crunch_id method`` |
    | ``trio_model_runner_models`` | gauge | ``crunch_id state`` |
    | ``trio_model_runner_reports_total`` | counter | ``crunch_id code`` |
    | ``trio_model_runner_orchestrator_connected`` | gauge, 0 or 1 | ``crunch_id`` |

    Results are those of rounds and of calls of single models. Only requests that were sent have a time. The
    states of the models are looked at every second, and are gone with the cluster's block; counts stay, and
    go on in the next block with the same ``crunch_id``.

    Several crunches, each with a cluster and an instrument of its own, can share a registry: ``crunch_id``
    tells them apart. Two clusters of one crunch at the same time can't, and need a registry each.

    Args:
        registry: where the metrics are scraped from; None for Prometheus' own.
        model_ids: the first two metrics have the label ``model_id``, too. A thousand models are 20,000 series
            and more. Those of a model that leaves are dropped, and results that come later are not counted.
        buckets: the upper bounds of the histograms' buckets, seconds, in order.

    Raises:
        ConfigError: `registry` or `buckets` is none of these; on entering the cluster's block, if this one
            listens to another cluster, or another one counts the same crunch in the same registry.
        TypeError: `model_ids` is not True or False.
        ValueError: the registry has other metrics of these names.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        model_ids: bool = False,
        buckets: Sequence[float] = _BUCKETS,
    ) -> None:
        if registry is not None and not isinstance(registry, CollectorRegistry):
            raise ConfigError(f"registry: must be a CollectorRegistry, got {shown(registry)}")
        check_flag(model_ids, "model_ids")
        bounds = _bounds_given(buckets)
        self._collector = _collector_of(REGISTRY if registry is None else registry)
        self._model_ids = model_ids
        self._bounds = bounds
        self._figures = Figures(bounds, model_ids=model_ids)
        self._has_list = False  # the orchestrator's list of models has come
        self._one = OneCluster(self)

    def running(self, cluster: ObservedCluster) -> AbstractAsyncContextManager[object]:
        """See `Instrument.running`."""
        return self._running(cluster)

    @asynccontextmanager
    async def _running(self, cluster: ObservedCluster) -> AsyncIterator[None]:
        counting = self._collector.counting(cluster.crunch_id, self._bounds, model_ids=self._model_ids)
        with self._one.cluster(), counting as self._figures:
            self._has_list = False
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_at_models, cluster)
                try:
                    yield
                finally:
                    self._figures.end()
                nursery.cancel_scope.cancel()

    async def _look_at_models(self, cluster: ObservedCluster) -> None:
        while True:
            snapshot = cluster.snapshot()
            self._figures.look(dict(snapshot.models), connected=snapshot.orchestrator_connected)
            if self._has_list:  # those that left while no block listened are not in it
                self._has_list = False
                self._figures.drop_others()
            await trio.sleep(_SECONDS_BETWEEN_LOOKS)

    def round_ended(self, token: Any, round: PredictionRound[Any] | None) -> None:  # noqa: A002
        """See `Instrument.round_ended`."""
        if round is not None:
            self._figures.count_round(round)

    def call_ended(self, call: PredictionRound[Any]) -> None:
        """See `Instrument.call_ended`."""
        self._figures.count_results(call)

    def model_changed(self, change: Change) -> None:
        """See `Instrument.model_changed`."""
        if change.kind is ChangeKind.ANNOUNCED and change.model is not None:
            self._figures.announce(change.model)
        elif change.kind is ChangeKind.LEFT and change.model is not None:
            self._figures.remove(change.model)
        elif change.previous is not None:
            self._figures.remove(change.previous)

    def orchestrator_changed(self, connected: bool, error: str | None) -> None:
        """See `Instrument.orchestrator_changed`."""
        self._has_list = self._has_list or connected

    def report_sent(self, report: Report) -> None:
        """See `Instrument.report_sent`."""
        self._figures.count_report(report.code.value)


def _bounds_given(buckets: object) -> tuple[float, ...]:
    bounds: list[float] = []
    if isinstance(buckets, Iterable) and not isinstance(buckets, str | bytes | Mapping):
        bounds.extend(as_float(each) if _is_number(each) else math.nan for each in buckets)
    if not bounds or not all(one < other for one, other in pairwise((0.0, *bounds, math.inf))):
        raise ConfigError(f"buckets: must be numbers of seconds that grow, got {shown(buckets)}")
    return tuple(bounds)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


class _Collector(Collector):
    """Makes the metrics of all crunches that one registry has, whenever it is scraped."""

    def __init__(self) -> None:
        self._figures: dict[str, Figures] = {}
        self._counted: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def counting(self, crunch_id: str, bounds: tuple[float, ...], *, model_ids: bool) -> Iterator[Figures]:
        """The figures of a crunch, which go on where they were left.

        Raises:
            ConfigError: another one counts it.
        """
        with self._lock:
            if crunch_id in self._counted:
                raise ConfigError(
                    f"instruments: crunch {quoted(crunch_id)} is counted in this registry by another "
                    "PrometheusInstrument; give one of the clusters a registry of its own"
                )
            figures = self._figures.get(crunch_id)
            if figures is None or (figures.bounds, figures.model_ids) != (bounds, model_ids):
                figures = Figures(bounds, model_ids=model_ids)
            self._figures = {**self._figures, crunch_id: figures}  # a scrape may be going through the old one
            self._counted.add(crunch_id)
        try:
            yield figures
        finally:
            self._counted.remove(crunch_id)

    def describe(self) -> Iterable[Metric]:
        """The metrics without anything in them."""
        return _Families()

    def collect(self) -> Iterable[Metric]:
        """The metrics."""
        families = _Families()
        for crunch_id, figures in self._figures.items():
            families.add(crunch_id, figures.copy())
        return families


_collectors: weakref.WeakKeyDictionary[CollectorRegistry, _Collector] = weakref.WeakKeyDictionary()
_collectors_lock = threading.Lock()


def _collector_of(registry: CollectorRegistry) -> _Collector:
    with _collectors_lock:
        collector = _collectors.get(registry)
        if collector is None:
            collector = _Collector()
            registry.register(collector)
            _collectors[registry] = collector
        return collector


class _Families:
    """The metrics of one scrape."""

    def __init__(self) -> None:
        of_results = ["crunch_id", "method", "status", "model_id"]  # the last one only where it is counted
        self.results = CounterMetricFamily(
            f"{_PREFIX}_results", "Results of calls, by status.", labels=of_results
        )
        self.result_seconds = HistogramMetricFamily(
            f"{_PREFIX}_result_seconds", "Seconds from a request to its answer.", labels=of_results
        )
        self.round_seconds = HistogramMetricFamily(
            f"{_PREFIX}_round_seconds", "Seconds that rounds took.", labels=["crunch_id", "method"]
        )
        self.models = GaugeMetricFamily(
            f"{_PREFIX}_models", "Announced models, by state.", labels=["crunch_id", "state"]
        )
        self.reports = CounterMetricFamily(
            f"{_PREFIX}_reports", "Reports sent to the orchestrator.", labels=["crunch_id", "code"]
        )
        self.connected = GaugeMetricFamily(
            f"{_PREFIX}_orchestrator_connected",
            "1 while the orchestrator is connected.",
            labels=["crunch_id"],
        )

    def add(self, crunch_id: str, figures: Figures) -> None:
        """Add what was counted of a crunch."""
        for labels, count in figures.results.items():
            self.results.add_metric((crunch_id, *labels), count)
        for family, histograms in (
            (self.result_seconds, figures.result_times),
            (self.round_seconds, figures.round_times),
        ):
            for labels, times in histograms.items():
                counts = times.cumulative(figures.bounds)
                rows = [("+Inf" if math.isinf(bound) else repr(bound), count) for bound, count in counts]
                family.add_metric((crunch_id, *labels), rows, times.total)
        for state, count in figures.models.items():
            self.models.add_metric((crunch_id, state), count)
        for code, count in figures.reports.items():
            self.reports.add_metric((crunch_id, code), count)
        self.connected.add_metric((crunch_id,), float(figures.connected))

    def __iter__(self) -> Iterator[Metric]:
        return iter(
            (
                self.results,
                self.result_seconds,
                self.round_seconds,
                self.models,
                self.reports,
                self.connected,
            )
        )
