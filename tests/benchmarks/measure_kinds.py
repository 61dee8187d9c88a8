"""What a measure is: a figure of ours against another client's, or of ours alone.

A `Comparison` is made pair by pair: ours and the base, one right after the other, share whatever else the
machine is doing just then, so their ratio is steadier than either. The base is the reference client or
another source tree of ours. An `Absolute` measure is of ours alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from clients import Client
from runs import Result, Run

__all__ = ["Absolute", "Comparison", "Figure", "Measure", "Quantity", "percentile", "percentile_99"]


@dataclass(frozen=True)
class Quantity:
    """A figure that the results of some runs give.

    Attributes:
        runs: the runs, all of one client.
        value: takes their results, in the same order.
    """

    runs: tuple[Run, ...]
    value: Callable[..., float]

    @property
    def client(self) -> Client:
        """Whose figure it is."""
        return self.runs[0].client

    def of(self, results: Mapping[Run, Result]) -> float:
        """The figure."""
        return self.value(*(results[run] for run in self.runs))


@dataclass(frozen=True)
class Comparison:
    """One figure against another, in pairs.

    Attributes:
        key: its name on the command line.
        title: what the table calls it.
        unit: `us`, `ms`, `s`, `KB` or `MB`; see `table`.
        base: what it is compared with: another client's figure, or another one of ours.
        ours: our figure.
        target: what the ratio should be at most; None if it is there for information.
    """

    key: str
    title: str
    unit: str
    base: Quantity
    ours: Quantity
    target: float | None

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs that it takes, the base's first, and what is compared side by side."""
        return tuple(chain.from_iterable(zip(self.base.runs, self.ours.runs, strict=True)))

    @property
    def paired(self) -> bool:
        """Whether there are two clients in it."""
        return self.base.client != self.ours.client


@dataclass(frozen=True)
class Absolute:
    """What ours alone comes to.

    Attributes:
        key: see `Comparison`, as for `title` and `unit`.
        runs: the runs that it takes.
        samples: takes their results, in the same order; those of all times are pooled.
        target: what it should be at most, in seconds or bytes; None if it is there for information.
        summary: makes the figure of all samples.
    """

    key: str
    title: str
    unit: str
    runs: tuple[Run, ...]
    samples: Callable[..., Sequence[float]]
    target: float | None
    summary: Callable[[Sequence[float]], float] = statistics.median

    def samples_of(self, results: Mapping[Run, Result]) -> Sequence[float]:
        """The samples that the runs gave this time."""
        return self.samples(*(results[run] for run in self.runs))

    @property
    def ranged(self) -> bool:
        """Whether the least and the greatest sample say how sure the figure is."""
        return self.summary is statistics.median

    @property
    def paired(self) -> bool:
        """Whether there are two clients in it."""
        return False


Measure = Comparison | Absolute


def percentile(samples: Sequence[float], percent: int) -> float:
    """The smallest sample that so many percent of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[-(-len(ordered) * percent // 100) - 1]


def percentile_99(samples: Sequence[float]) -> float:
    """The smallest sample that 99 % of the samples do not exceed."""
    return percentile(samples, 99)


@dataclass(frozen=True)
class Figure:
    """What is measured of any client, and compared between two.

    Attributes:
        key: see `Comparison`, as for `title` and `unit`.
        runs: the runs that it takes of a client.
        value: takes their results, in the same order.
        target: what ours should be at most: as a multiple of the reference's, or, if it is measured alone,
            in seconds or bytes.
    """

    key: str
    title: str
    unit: str
    runs: Callable[[Client], tuple[Run, ...]]
    value: Callable[..., float]
    target: float | None = None

    def of(self, client: Client) -> Quantity:
        """The figure of one client."""
        return Quantity(self.runs(client), self.value)

    def compared(self, base: Client, ours: Client) -> Comparison:
        """Ours against another client's."""
        target = self.target if base.tree is None else None
        return Comparison(self.key, self.title, self.unit, self.of(base), self.of(ours), target)

    def alone(self, ours: Client) -> Absolute:
        """Ours against nothing but its target."""
        value = self.value
        return Absolute(
            self.key, self.title, self.unit, self.runs(ours), lambda *results: [value(*results)], self.target
        )
