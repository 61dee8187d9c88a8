"""What is measured, from which runs, and what it should come to.

A `Comparison` is made pair by pair: ours and the base, one right after the other, share whatever else the
machine is doing just then, so their ratio is steadier than either. The base is the reference client or
another source tree of ours. An `Absolute` measure pools all of our runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from clients import Client
from runs import ClientRun, ImportRun, Result, Run, Workload

__all__ = ["Absolute", "Comparison", "Measure", "Quantity", "measures_against", "percentile"]

SMALL_10 = Workload(models=10, rounds=(60, 300), warm_up=20)
SMALL_100 = Workload(models=100, rounds=(10, 60), warm_up=3)
SMALL_500 = Workload(models=500, rounds=(2, 20), warm_up=1)
SMALL_2000 = Workload(models=2000, rounds=(1, 6), warm_up=1)
LARGE = Workload(models=20, rounds=(1, 6), warm_up=1, payload_bytes=10_000_000)
WATCHED_500 = Workload(models=500, rounds=(5, 30), warm_up=2, watching=True)
HUNG_100 = Workload(models=100, rounds=(8, 30), warm_up=1, timeout=0.25, hesitating=True)
HUNG_1000 = Workload(models=1000, rounds=(2, 15), warm_up=1, timeout=1, hesitating=True)

REFERENCE_IMPORT = (
    "from model_runner_client.model_concurrent_runners import DynamicSubclassModelConcurrentRunner"
)
OUR_IMPORT = "import trio_model_runner"
OUR_NAMES_IMPORT = "from trio_model_runner import Arguments, Cluster, ClusterConfig, DynamicSubclassService"


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
    """The 99th percentile of what all of our runs measured.

    Attributes:
        target: what it should be at most, in seconds.
    """

    key: str
    title: str
    unit: str
    run: Run
    samples: Callable[[Result], Sequence[float]]
    target: float

    @property
    def runs(self) -> tuple[Run, ...]:
        """The run that it takes."""
        return (self.run,)

    @property
    def paired(self) -> bool:
        """Whether there are two clients in it."""
        return False


Measure = Comparison | Absolute


def percentile(samples: Sequence[float], percent: int) -> float:
    """The smallest sample that so many percent of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[-(-len(ordered) * percent // 100) - 1]


@dataclass(frozen=True)
class Figure:
    """What is measured of any client, and compared between two.

    Attributes:
        key: see `Comparison`, as for `title` and `unit`.
        runs: the runs that it takes of a client.
        value: takes their results, in the same order.
        target: what ours should be at most, as a multiple of the reference's.
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


def performing(*workloads: Workload) -> Callable[[Client], tuple[Run, ...]]:
    """A client's runs with some workloads."""
    return lambda client: tuple(ClientRun(client, workload) for workload in workloads)


def importing(our_statement: str) -> Callable[[Client], tuple[Run, ...]]:
    """A client's import: the statement is for ours, and the reference has one of its own."""
    return lambda client: (ImportRun(client, REFERENCE_IMPORT if client.tree is None else our_statement),)


def latenesses(result: Result) -> list[float]:
    return [float(each) for each in result["latenesses"]]


def cpu_per_call(result: Result) -> float:
    return float(result["cpu_per_call"])


def round_wall(result: Result) -> float:
    return float(statistics.median(result["round_walls"]))


def resident(result: Result) -> float:
    return float(result["resident_bytes"])


def resident_per_model(few: Result, many: Result) -> float:
    return (resident(many) - resident(few)) / (SMALL_500.models - SMALL_100.models)


def longest_stall(result: Result) -> float:
    return float(statistics.median(result["stalls"]))


def joining_wall(result: Result) -> float:
    return float(result["join"]["wall"])


def joining_cpu(result: Result) -> float:
    return float(result["join"]["cpu"])


def seconds(result: Result) -> float:
    return float(result["seconds"])


def lateness_99(result: Result) -> float:
    return percentile(latenesses(result), 99)


LATENESS = "lateness of a round, {} models, 5 % hung, 99th percentile"

FIGURES = (
    Figure(
        "cpu-100", "CPU per call, 100 models, small JSON", "us", performing(SMALL_100), cpu_per_call, 0.55
    ),
    Figure("cpu-500", "CPU per call, 500 models", "us", performing(SMALL_500), cpu_per_call, 0.45),
    Figure(
        "wall-500", "wall time of a round, median, 500 models", "ms", performing(SMALL_500), round_wall, 0.6
    ),
    Figure("cpu-large", "CPU per call, 20 models, 10 MB payload", "ms", performing(LARGE), cpu_per_call, 0.5),
    Figure("wall-large", "wall time of that round", "ms", performing(LARGE), round_wall, 0.7),
    Figure(
        "memory-model",
        "resident memory per connected model",
        "KB",
        performing(SMALL_100, SMALL_500),
        resident_per_model,
        1.0,
    ),
    Figure(
        "memory-100",
        "resident memory of the process, 100 models",
        "MB",
        performing(SMALL_100),
        resident,
        0.45,
    ),
    Figure("import", "`import trio_model_runner`", "s", importing(OUR_IMPORT), seconds, 1.0),
    Figure(
        "import-names",
        "`from trio_model_runner import Cluster, ...`",
        "s",
        importing(OUR_NAMES_IMPORT),
        seconds,
    ),
    Figure("join-wall", "joining 500 models, wall", "s", performing(SMALL_500), joining_wall, 1.0),
    Figure("join-cpu", "joining 500 models, CPU", "s", performing(SMALL_500), joining_cpu, 1.0),
)
"""What any two clients are compared by."""

DOOR_FIGURES = (
    Figure(
        "door",
        "wall time of a round from asyncio, median, 500 models",
        "ms",
        performing(SMALL_500),
        round_wall,
        0.7,
    ),
    Figure(
        "door-stall",
        "longest stall of the asyncio loop in such a round, median",
        "ms",
        performing(WATCHED_500),
        longest_stall,
        0.5,
    ),
)
"""What the reference client and our door from asyncio are compared by."""

OUR_FIGURES = (
    Figure("cpu-10", "CPU per call, 10 models", "us", performing(SMALL_10), cpu_per_call),
    Figure("cpu-2000", "CPU per call, 2,000 models", "us", performing(SMALL_2000), cpu_per_call),
    Figure("late-100", LATENESS.format("100"), "ms", performing(HUNG_100), lateness_99),
    Figure("late-1000", LATENESS.format("1,000"), "ms", performing(HUNG_1000), lateness_99),
)
"""What two trees of ours are compared by as well; beside the reference, ours alone is measured by such."""


def measures_against(base: Client, ours: Client) -> tuple[Measure, ...]:
    """All measures of ours against another client.

    Against the reference there are targets, and some measures are of ours alone. Against another tree of
    ours each measure is a comparison without a target.
    """
    if base.tree is None:
        compared = [figure.compared(base, ours) for figure in FIGURES]
        from_asyncio = [figure.compared(base, ours.door) for figure in DOOR_FIGURES]
        return (*compared, *from_asyncio, *measures_of_ours_alone(ours))
    return tuple(figure.compared(base, ours) for figure in FIGURES + OUR_FIGURES)


def measures_of_ours_alone(ours: Client) -> tuple[Measure, ...]:
    """The measures that have no other client in them: how it scales, and how late rounds return."""
    few, many = (Quantity((ClientRun(ours, load),), cpu_per_call) for load in (SMALL_10, SMALL_2000))
    direct, through = (Quantity((ClientRun(each, SMALL_10),), round_wall) for each in (ours, ours.door))
    return (
        Comparison("door-hop", "a round of 10 models, from asyncio / from Trio", "ms", direct, through, None),
        Comparison("scaling", "CPU per call, 2,000 models / 10 models (ours alone)", "us", few, many, 1.3),
        Absolute("late-100", LATENESS.format("100"), "ms", ClientRun(ours, HUNG_100), latenesses, 0.020),
        Absolute("late-1000", LATENESS.format("1,000"), "ms", ClientRun(ours, HUNG_1000), latenesses, 0.050),
    )
