"""What is measured, from which runs, and what it should come to."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from clients import Client
from measure_kinds import Absolute, Comparison, Figure, Measure, Quantity, percentile_99
from runs import ClientRun, FloorRun, ImportRun, Result, Run, Workload

__all__ = ["measures_against"]

SMALL_10 = Workload(models=10, rounds=(60, 300), warm_up=20)
SMALL_100 = Workload(models=100, rounds=(10, 60), warm_up=3)
SMALL_500 = Workload(models=500, rounds=(2, 20), warm_up=1)
SMALL_2000 = Workload(models=2000, rounds=(1, 6), warm_up=1)
LARGE = Workload(models=20, rounds=(1, 6), warm_up=1, payload_bytes=10_000_000)
WATCHED_500 = Workload(models=500, rounds=(5, 30), warm_up=2, watching=True)
HUNG_100 = Workload(models=100, rounds=(8, 30), warm_up=1, timeout=0.25, hesitating=True)
HUNG_1000 = Workload(models=1000, rounds=(2, 15), warm_up=1, timeout=1, hesitating=True)
CHEAP_500 = Workload(models=500, rounds=(16, 60), warm_up=2, fleet="cheap")
CHEAP_2000 = Workload(models=2000, rounds=(20, 20), warm_up=2, fleet="cheap")
CHEAP_5000 = Workload(models=5000, rounds=(20, 20), warm_up=2, fleet="cheap")
SECURE_50 = Workload(models=50, rounds=(2, 2), warm_up=1, fleet="secure")
SECURE_100 = Workload(models=100, rounds=(40, 80), warm_up=3, fleet="secure")
SECURE_200 = Workload(models=200, rounds=(2, 2), warm_up=1, fleet="secure")
GATEWAY_100 = Workload(models=100, rounds=(40, 80), warm_up=3, fleet="gateway")

REFERENCE_IMPORT = (
    "from model_runner_client.model_concurrent_runners import DynamicSubclassModelConcurrentRunner"
)
TRIO_IMPORT = "import trio"
OUR_IMPORT = "import trio_model_runner"
OUR_NAMES_IMPORT = "from trio_model_runner import Arguments, Cluster, ClusterConfig, DynamicSubclassService"


def performing(*workloads: Workload) -> Callable[[Client], tuple[Run, ...]]:
    """A client's runs with some workloads."""
    return lambda client: tuple(ClientRun(client, workload) for workload in workloads)


def importing(our_statement: str) -> Callable[[Client], tuple[Run, ...]]:
    """A client's import: the statement is for ours, and the reference has one of its own."""
    return lambda client: (ImportRun(client, REFERENCE_IMPORT if client.tree is None else our_statement),)


def importing_both(client: Client) -> tuple[Run, ...]:
    """The import of Trio alone, and that of what a coordinator needs of ours."""
    return ImportRun(client, TRIO_IMPORT), ImportRun(client, OUR_NAMES_IMPORT)


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


def resident_per_secure_model(few: Result, many: Result) -> float:
    return (resident(many) - resident(few)) / (SECURE_200.models - SECURE_50.models)


def longest_stall(result: Result) -> float:
    return float(statistics.median(result["stalls"]))


def joining_wall(result: Result) -> float:
    return float(result["join"]["wall"])


def joining_cpu(result: Result) -> float:
    return float(result["join"]["cpu"])


def joining_cpu_per_model(result: Result) -> float:
    return joining_cpu(result) / CHEAP_500.models


def worst_wall(result: Result) -> float:
    return float(max(result["round_walls"]))


def worst_to_median(result: Result) -> float:
    return worst_wall(result) / round_wall(result)


def round_cpu(result: Result) -> float:
    return float(statistics.median(result["round_cpus"]))


def worst_cpu(result: Result) -> float:
    return float(max(result["round_cpus"]))


def seconds(result: Result) -> float:
    return float(result["seconds"])


def more_cpu(less: Result, more: Result) -> float:
    return float(more["cpu"] - less["cpu"])


def lateness_99(result: Result) -> float:
    return percentile_99(latenesses(result))


LATENESS = "lateness of a round, {} models, 5 % hung, 99th percentile"
STEADINESS = "worst round / median round of 20, {} models (ours alone)"

FIGURES = (
    Figure(
        "cpu-100", "CPU per call, 100 models, small JSON", "us", performing(SMALL_100), cpu_per_call, 0.38
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
    Figure("cpu-cheap", "CPU per call, 500 cheap nodes", "us", performing(CHEAP_500), cpu_per_call, 0.33),
    Figure("secure-cpu", "CPU per call, 100 secure models", "us", performing(SECURE_100), cpu_per_call, 0.33),
    Figure(
        "secure-join-wall", "joining 100 secure models, wall", "s", performing(SECURE_100), joining_wall, 0.9
    ),
    Figure(
        "secure-join-cpu", "joining 100 secure models, CPU", "s", performing(SECURE_100), joining_cpu, 0.5
    ),
    Figure(
        "gateway-cpu",
        "CPU per call, 100 models behind gateways",
        "us",
        performing(GATEWAY_100),
        cpu_per_call,
        0.28,
    ),
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

ALONE_FIGURES = (
    Figure(
        "secure-memory",
        "resident memory per secure model, from 50 to 200",
        "KB",
        performing(SECURE_50, SECURE_200),
        resident_per_secure_model,
        90e3,
    ),
    Figure(
        "join-model",
        "joining 500 cheap nodes, CPU per model",
        "ms",
        performing(CHEAP_500),
        joining_cpu_per_model,
        0.6e-3,
    ),
    Figure(
        "import-added", "importing those names - `import trio`, CPU", "ms", importing_both, more_cpu, 60e-3
    ),
)
"""What ours has a target for that is no multiple of the reference's."""

OUR_FIGURES = (
    Figure("cpu-10", "CPU per call, 10 models", "us", performing(SMALL_10), cpu_per_call),
    Figure("cpu-2000", "CPU per call, 2,000 models", "us", performing(SMALL_2000), cpu_per_call),
    Figure("late-100", LATENESS.format("100"), "ms", performing(HUNG_100), lateness_99),
    Figure("late-1000", LATENESS.format("1,000"), "ms", performing(HUNG_1000), lateness_99),
    Figure("steady-2000", STEADINESS.format("2,000"), "", performing(CHEAP_2000), worst_to_median),
    Figure("steady-5000", STEADINESS.format("5,000"), "", performing(CHEAP_5000), worst_to_median),
    *ALONE_FIGURES,
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
        lateness("late-100", "100", ClientRun(ours, HUNG_100), 0.020),
        lateness("late-1000", "1,000", ClientRun(ours, HUNG_1000), 0.050),
        *steadiness("2000", ClientRun(ours, CHEAP_2000)),
        *steadiness("5000", ClientRun(ours, CHEAP_5000)),
        *(figure.alone(ours) for figure in ALONE_FIGURES),
        Absolute(
            "floor",
            "system calls of a call alone, 500 cheap nodes",
            "us",
            (FloorRun(ours, CHEAP_500),),
            lambda result: [cpu_per_call(result)],
            None,
        ),
    )


def lateness(key: str, models: str, run: Run, target: float) -> Absolute:
    """How late rounds return, whose calls are not all answered."""
    return Absolute(key, LATENESS.format(models), "ms", (run,), latenesses, target, percentile_99)


def steadiness(models: str, run: Run) -> tuple[Comparison, Comparison]:
    """How much longer the worst round takes than the median one: by the clock, and in CPU.

    Another program that wants the processor lengthens a round by the clock alone.
    """
    wall, worst, cpu, worst_in_cpu = (
        Quantity((run,), value) for value in (round_wall, worst_wall, round_cpu, worst_cpu)
    )
    title = STEADINESS.format(f"{int(models):,}")
    return (
        Comparison(f"steady-{models}", title, "ms", wall, worst, 1.3),
        Comparison(f"steady-cpu-{models}", "the same, CPU", "ms", cpu, worst_in_cpu, None),
    )
