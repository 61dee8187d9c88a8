"""What is counted of one crunch's results, times, models and reports.

Prometheus' own counters and histograms take a lock, and a walk over the buckets, for each value. Here all
results of a round are counted together, which costs a part of that; whoever is asked for metrics takes a
copy. That happens in other threads. So figures are changed and copied under a lock, which is held for
microseconds, or a millisecond where models are counted one by one.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ..values.results import Status

if TYPE_CHECKING:
    from ..values.prediction_round import PredictionRound
    from ..values.results import Model

__all__ = ["Figures", "Times"]

Labels = tuple[str, ...]


class Times:
    """A histogram: how many seconds were in which bucket, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.total = 0.0

    def cumulative(self, bounds: Sequence[float]) -> list[tuple[float, int]]:
        """How many took at most so many seconds, for each bound, infinity last."""
        return list(zip((*bounds, math.inf), accumulate(self.counts), strict=True))

    def copy(self) -> Times:
        """A copy, which is not added to."""
        copy = Times(0)
        copy.counts, copy.total = self.counts.copy(), self.total
        return copy


class Figures:
    """What is counted of one crunch.

    Args:
        bounds: the histograms' upper bounds, seconds.
        model_ids: results are counted for each model that is announced. A result can come after its model has
            left, and would bring back what was dropped with it.

    Attributes:
        results: how many, by method, status and, if models are counted, model id.
        result_times: how long those that were sent took, by the same.
        round_times: how long rounds took, by method.
        models: how many models there are in each state.
        reports: how many were sent, by code.
        connected: whether the orchestrator is.
    """

    def __init__(self, bounds: tuple[float, ...], *, model_ids: bool) -> None:
        self.bounds = bounds
        self.model_ids = model_ids
        self._lock = threading.Lock()
        self.results: Counter[Labels] = Counter()
        self.result_times: dict[Labels, Times] = {}
        self.round_times: dict[Labels, Times] = {}
        self.models: dict[str, int] = {}
        self.reports: Counter[str] = Counter()
        self.connected = False
        self._announced: dict[str, set[Model]] = {}  # deployments by model id; no other thread reads it

    def count_round(self, played: PredictionRound[Any]) -> None:
        """Count a round and its results."""
        with self._lock:
            self._time(self.round_times, (played.method,), (played.elapsed,))
        self.count_results(played)

    def count_results(self, played: PredictionRound[Any]) -> None:
        """Count results, those with the same labels together."""
        method = played.method
        groups: dict[Labels, list[float]] = {}
        results = played.values()
        if self.model_ids:
            announced = self._announced
            for result in results:
                if (model_id := result.model.model_id) not in announced:
                    continue
                labels: Labels = (method, result.status.value, model_id)
                groups.setdefault(labels, []).append(result.elapsed if result.sent else -1.0)
        else:
            by_status: dict[Status, list[float]] = {status: [] for status in Status}
            for result in results:
                by_status[result.status].append(result.elapsed if result.sent else -1.0)
            groups = {(method, status.value): times for status, times in by_status.items() if times}
        with self._lock:
            for group, times in groups.items():
                self.results[group] += len(times)
                if sent := [each for each in times if each >= 0]:
                    self._time(self.result_times, group, sent)

    def _time(self, histograms: dict[Labels, Times], labels: Labels, times: Sequence[float]) -> None:
        histogram = histograms.get(labels)
        if histogram is None:
            histogram = histograms[labels] = Times(len(self.bounds))
        bounds, counts = self.bounds, histogram.counts
        for seconds in times:
            counts[bisect_left(bounds, seconds)] += 1
        histogram.total += sum(times)

    def count_report(self, code: str) -> None:
        """Count a report that was sent."""
        with self._lock:
            self.reports[code] += 1

    def look(self, models: dict[str, int], *, connected: bool) -> None:
        """Note how many models are in which state, and whether the orchestrator is connected."""
        with self._lock:
            self.models = {**dict.fromkeys(self.models, 0), **models} if models else {}
            self.connected = connected

    def announce(self, deployment: Model) -> None:
        """A deployment of a model is announced."""
        self._announced.setdefault(deployment.model_id, set()).add(deployment)

    def remove(self, deployment: Model) -> None:
        """A deployment is gone, or replaced. With its last one, what was counted of a model is dropped."""
        model_id = deployment.model_id
        deployments = self._announced.get(model_id, set())
        deployments.discard(deployment)
        if not deployments:
            self._announced.pop(model_id, None)
            self._drop(lambda counted: counted == model_id)

    def end(self) -> None:
        """The cluster has ended, and has no models any more. Counts stay."""
        self._announced.clear()
        self.look({}, connected=False)

    def drop_others(self) -> None:
        """Drop what was counted of models that are not announced."""
        self._drop(lambda counted: counted not in self._announced)

    def _drop(self, is_gone: Callable[[str], bool]) -> None:
        if not self.model_ids:
            return
        with self._lock:
            for labels in [labels for labels in self.results if is_gone(labels[2])]:
                del self.results[labels]
                self.result_times.pop(labels, None)

    def copy(self) -> Figures:
        """A copy, to be read in another thread."""
        copy = Figures(self.bounds, model_ids=self.model_ids)
        with self._lock:
            copy.results = self.results.copy()
            copy.result_times = {labels: times.copy() for labels, times in self.result_times.items()}
            copy.round_times = {labels: times.copy() for labels, times in self.round_times.items()}
            copy.models, copy.connected = self.models, self.connected
            copy.reports = self.reports.copy()
        return copy
