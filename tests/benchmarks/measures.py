"""What is measured, from which runs, and what it should come to.

A `Comparison` is made pair by pair: ours and the reference, one right after the other, share whatever
else the machine is doing just then, so their ratio is steadier than either. An `Absolute` one pools all
of our runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runs import OURS, REFERENCE, ClientRun, ImportRun, Result, Run, Workload

__all__ = ["MEASURES", "Absolute", "Comparison", "Measure", "Quantity", "percentile"]

SMALL_10 = Workload(models=10, rounds=(60, 300), warm_up=20)
SMALL_100 = Workload(models=100, rounds=(10, 60), warm_up=3)
SMALL_500 = Workload(models=500, rounds=(2, 20), warm_up=1)
SMALL_2000 = Workload(models=2000, rounds=(1, 6), warm_up=1)
LARGE = Workload(models=20, rounds=(1, 6), warm_up=1, payload_bytes=10_000_000)
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
        runs: the runs.
        value: takes their results, in the same order.
    """

    runs: tuple[Run, ...]
    value: Callable[..., float]

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
        base: what it is compared with: the reference's figure, or one of ours where `target` says so.
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
        """The runs that it takes, the base's first."""
        return self.base.runs + self.ours.runs

    @property
    def paired(self) -> bool:
        """Whether it has the reference in it."""
        return any(run.client == REFERENCE for run in self.runs)


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
        """Whether it has the reference in it."""
        return False


Measure = Comparison | Absolute


def percentile(samples: Sequence[float], percent: int) -> float:
    """The smallest sample that so many percent of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[-(-len(ordered) * percent // 100) - 1]


def compare(
    key: str, title: str, unit: str, target: float, value: Callable[..., float], *workloads: Workload
) -> Comparison:
    """The same figure of both clients."""
    reference, ours = (
        Quantity(tuple(ClientRun(client, workload) for workload in workloads), value)
        for client in (REFERENCE, OURS)
    )
    return Comparison(key, title, unit, reference, ours, target)


def compare_imports(key: str, title: str, target: float | None, our_statement: str) -> Comparison:
    """How long it takes to import either package."""
    reference, ours = ImportRun(REFERENCE, REFERENCE_IMPORT), ImportRun(OURS, our_statement)
    return Comparison(key, title, "s", Quantity((reference,), seconds), Quantity((ours,), seconds), target)


def lateness(key: str, models: str, workload: Workload, target: float) -> Absolute:
    """How late rounds return in which some models hang."""
    title = f"lateness of a round, {models} models, 5 % hung, 99th percentile"
    return Absolute(key, title, "ms", ClientRun(OURS, workload), lambda result: result["latenesses"], target)


def cpu_per_call(result: Result) -> float:
    return float(result["cpu_per_call"])


def round_wall(result: Result) -> float:
    return statistics.median(result["round_walls"])


def resident(result: Result) -> float:
    return float(result["resident_bytes"])


def resident_per_model(few: Result, many: Result) -> float:
    return (resident(many) - resident(few)) / (SMALL_500.models - SMALL_100.models)


def joining_wall(result: Result) -> float:
    return float(result["join"]["wall"])


def joining_cpu(result: Result) -> float:
    return float(result["join"]["cpu"])


def seconds(result: Result) -> float:
    return float(result["seconds"])


MEASURES: tuple[Measure, ...] = (
    compare("cpu-100", "CPU per call, 100 models, small JSON", "us", 0.55, cpu_per_call, SMALL_100),
    compare("cpu-500", "CPU per call, 500 models", "us", 0.45, cpu_per_call, SMALL_500),
    compare("wall-500", "wall time of a round, median, 500 models", "ms", 0.6, round_wall, SMALL_500),
    compare("cpu-large", "CPU per call, 20 models, 10 MB payload", "ms", 0.5, cpu_per_call, LARGE),
    compare("wall-large", "wall time of that round", "ms", 0.7, round_wall, LARGE),
    compare(
        "memory-model",
        "resident memory per connected model",
        "KB",
        1.0,
        resident_per_model,
        SMALL_100,
        SMALL_500,
    ),
    compare("memory-100", "resident memory of the process, 100 models", "MB", 0.45, resident, SMALL_100),
    compare_imports("import", "`import trio_model_runner`", 1.0, OUR_IMPORT),
    compare_imports("import-names", "`from trio_model_runner import Cluster, ...`", None, OUR_NAMES_IMPORT),
    compare("join-wall", "joining 500 models, wall", "s", 1.0, joining_wall, SMALL_500),
    compare("join-cpu", "joining 500 models, CPU", "s", 1.0, joining_cpu, SMALL_500),
    Comparison(
        "scaling",
        "CPU per call, 2,000 models / 10 models (ours alone)",
        "us",
        Quantity((ClientRun(OURS, SMALL_10),), cpu_per_call),
        Quantity((ClientRun(OURS, SMALL_2000),), cpu_per_call),
        1.3,
    ),
    lateness("late-100", "100", HUNG_100, 0.020),
    lateness("late-1000", "1,000", HUNG_1000, 0.050),
)
