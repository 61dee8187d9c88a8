"""How long answers took: the times of a round, and the percentiles of a whole record.

The latter take memory that stays as it is. A record has tenths of milliseconds, so many answers took the same
time, and each time is counted. Where there are too many different ones, those that differ by less than half a
percent are counted as one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final

from .record import Round

__all__ = ["Durations", "timed", "times_of"]

_MOST: Final = 1 << 15
_STEP: Final = 0.005  # of the logarithm


class Durations:
    """Counts durations, in seconds."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()

    def add(self, durations: Iterable[float]) -> None:
        """Count some."""
        self._counts.update(durations)
        if len(self._counts) > _MOST:
            merged: Counter[float] = Counter()
            for duration, count in self._counts.items():
                merged[_rounded(duration)] += count
            self._counts = merged

    def reached_by(self, percent: int, results: int) -> float | None:
        """Within how many seconds so many percent of the results came; None if they never did.

        Args:
            percent: how many.
            results: how many there are. Those that are not counted here brought no answer.
        """
        left = -(-results * percent // 100)
        for duration in sorted(self._counts):
            left -= self._counts[duration]
            if left <= 0:
                return duration
        return None


def times_of(told: Round, misses: dict[int, str]) -> tuple[list[float], list[float]]:
    """The seconds of the answers, 0 for whatever is none; and those of the answers alone, sorted."""
    times = [0.0 if each is None else each for each in told.elapsed]
    for column in misses:
        times[column] = 0.0
    return times, sorted(times)[len(misses) :]


def timed(told: Round, misses: dict[int, str], answered: list[float]) -> tuple[float | None, float]:
    """The median and the 95 % of a round. A TIMEOUT took as long as it could.

    The median is None if nothing took any time.
    """
    late = sum(status == "T" for status in misses.values())
    longest = told.seconds if told.timeout is None else told.timeout
    if not (count := len(answered) + late):
        return None, 0.0

    def reached_by(percent: int) -> float:
        place = (count * percent + 99) // 100 - 1
        return answered[place] if place < len(answered) else longest

    return reached_by(50), reached_by(95)


def _rounded(duration: float) -> float:
    """To within a quarter of a percent; rounded again it is the same."""
    return math.exp(round(math.log(duration) / _STEP) * _STEP) if duration > 0 else 0.0
