"""What a cluster over several processes costs, and how fast it is when a process is lost: a table.

    python tests/benchmarks/sharding.py [--only PART ...] [--turns COUNT] [--json FILE]

The nodes are one process that answers with bytes made beforehand (`cheap_fleet`). Each run is a
coordinator in a process of its own (`sharding_client`), with shards of `LocalEngine`, or a `Cluster` to
compare with. Both kinds run in turns, and the table has medians. All of them share this
machine's cores: nodes, driver, shards, and this program, which is the orchestrator and has nothing to do
meanwhile. The exit code says whether it worked, and nothing about targets.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import trio
from machine import describe_machine, summary

from trio_model_runner.testing.orchestrator import LocalOrchestrator

HERE = Path(__file__).parent
RUN_SECONDS = 300.0

Result: TypeAlias = dict[str, Any]
Figures: TypeAlias = Mapping[int, Sequence[Result]]
"""The results of all runs, by how many shards they had."""


@attrs.frozen
class Row:
    """A row of the table.

    Attributes:
        title: what is measured.
        values: of each run, or each pair of runs.
        unit: what they are multiplied by, and its name.
        target: the most that it should be, in that unit; None if it is there for information.
    """

    title: str
    values: Sequence[float]
    unit: tuple[float, str]
    target: float | None = None

    def __str__(self) -> str:
        factor, unit = self.unit
        median, least, most = (
            factor * each for each in (statistics.median(self.values), min(self.values), max(self.values))
        )
        met = "" if self.target is None else "yes" if median <= self.target else "**no**"
        target = "" if self.target is None else f"<= {self.target:g}{unit}"
        return f"| {self.title} | {shown(median)}{unit} ({shown(least)}-{shown(most)}) | {target} | {met} |"


def shown(value: float) -> str:
    """A figure with three digits, and without zeros that say nothing."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if value else "0"


US, MS, S, TIMES = (1e6, " us"), (1e3, " ms"), (1.0, " s"), (1.0, "")


@attrs.frozen
class Part:
    """A part of the benchmark.

    Attributes:
        function: what clients do.
        models: how many there are, by the number of shards.
        rows: makes rows of what was measured.
        settings: of the job, beside.
        secure: the nodes are secure ones.
        turns: how often it is run, at most.
    """

    function: str
    models: Mapping[int, int]
    rows: Callable[[Figures], Sequence[Row]]
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    secure: bool = False
    turns: int = 5


def of(results: Sequence[Result], key: str) -> list[float]:
    """One figure of each run."""
    return [each[key] for each in results]


def ratios(
    figures: Figures, shards: Callable[[Result], float], one: Callable[[Result], float]
) -> list[float]:
    """Over two shards, divided by one process, of each pair."""
    return [shards(two) / one(cluster) for two, cluster in zip(figures[2], figures[0], strict=True)]


def rows_of_rounds(figures: Figures) -> list[Row]:
    two = figures[2]
    return [
        Row("driver: CPU a model and round (2 shards, 2,000 models)", of(two, "driver"), US, 3),
        Row("driver: CPU for each result that is looked at", of(two, "looking"), US),
        Row("a shard of 1,000, two at once: CPU a call", of(two, "shards"), US),
        Row("a shard of 1,000, alone: CPU a call", of(figures[1], "shards"), US),
        Row("`Cluster` of 1,000: CPU a call", of(figures[0], "driver"), US),
        Row(
            "shard CPU a call / `Cluster`'s",
            ratios(figures, lambda each: each["shards"], lambda each: each["driver"]),
            TIMES,
            1.25,
        ),
        Row(
            "the same of one shard that is alone",
            [one["shards"] / cluster["driver"] for one, cluster in zip(figures[1], figures[0], strict=True)],
            TIMES,
        ),
        Row(
            "a round of 2,000, wall",
            [statistics.median(each["walls"]) for each in two],
            MS,
        ),
        Row(
            "overhead of a round over its slowest shard, 2 shards, 2,000 models",
            [statistics.median(each["overheads"]) for each in two],
            MS,
            20,
        ),
    ]


def rows_of_large(figures: Figures) -> list[Row]:
    def median_wall(each: Result) -> float:
        return float(statistics.median(each["walls"]))

    return [
        Row("10 MB to 200 models, one process, wall", list(map(median_wall, figures[0])), S),
        Row("the same, CPU of the process", [200 * each["driver"] for each in figures[0]], S),
        Row("the same over 2 shards, wall", list(map(median_wall, figures[2])), S),
        Row("the same, CPU of both shards", [200 * each["shards"] for each in figures[2]], S),
        Row(
            "10 MB to 200 models over 2 shards / one process, wall",
            ratios(figures, median_wall, median_wall),
            TIMES,
            0.8,
        ),
    ]


def rows_of_death(figures: Figures) -> list[Row]:
    moved = round(statistics.median(of(figures[2], "moved")))
    return [
        Row("death of a shard known", of(figures[2], "known"), MS, 50),
        Row(f"its {moved} models ready elsewhere", of(figures[2], "ready"), S, 1),
    ]


def rows_of_frozen(figures: Figures) -> list[Row]:
    moved = round(statistics.median(of(figures[2], "moved")))
    return [Row(f"a frozen shard's {moved} models ready elsewhere", of(figures[2], "ready"), S, 4)]


def rows_of_mixed(figures: Figures) -> list[Row]:
    def late(shards: int) -> list[float]:
        return [percentile(each["lateness"], 99) for each in figures[shards]]

    def lost(shards: int) -> list[float]:
        return [float(sum(each["lost"])) for each in figures[shards]]

    rounds = len(figures[2][0]["lateness"])
    return [
        Row("lateness of a round, 1,000 models, 5 % hung, 99th percentile", late(2), MS, 30),
        Row("the same of a `Cluster`", late(0), MS),
        Row(f"answers lost that came 50 ms before the deadline, 5 % of {rounds} rounds", lost(2), TIMES, 0),
        Row("the same of a `Cluster`", lost(0), TIMES),
        Row(
            "how late the nodes were with these answers",
            [max(each["answered_late"]) for each in figures[2]],
            MS,
        ),
    ]


def rows_of_join(figures: Figures) -> list[Row]:
    return [
        Row("joining 1,000 secure models, one process: CPU", of(figures[0], "driver"), S),
        Row("the same, wall", of(figures[0], "wall"), S),
        Row("the same over 2 shards: CPU of the shards", of(figures[2], "shards"), S),
        Row("the same, CPU of the driver", of(figures[2], "driver"), S),
        Row("the same, wall, the start of the processes included", of(figures[2], "wall"), S),
        Row(
            "joining 1,000 secure models, CPU over 2 shards / one process",
            ratios(figures, lambda each: each["shards"] + each["driver"], lambda each: each["driver"]),
            TIMES,
            1.15,
        ),
        Row(
            "the same, wall",
            ratios(figures, lambda each: each["wall"], lambda each: each["wall"]),
            TIMES,
            0.5,
        ),
    ]


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent do not exceed."""
    return float(sorted(values)[min(len(values) - 1, len(values) * percent // 100)])


PARTS = {
    "rounds": Part("rounds", {2: 2000, 1: 1000, 0: 1000}, rows_of_rounds, {"rounds": 15}),
    "large": Part("rounds", {2: 200, 0: 200}, rows_of_large, {"rounds": 3, "payload": 10_000_000}, turns=3),
    "death": Part("death", {2: 600}, rows_of_death),
    "frozen": Part("frozen", {2: 600}, rows_of_frozen, turns=3),
    "mixed": Part("mixed", {2: 1000, 0: 1000}, rows_of_mixed, {"rounds": 20, "timeout": 1.0}, turns=3),
    "join": Part("join", {2: 1000, 0: 1000}, rows_of_join, secure=True),
}


@asynccontextmanager
async def platform(models: int, credentials: str) -> AsyncIterator[tuple[subprocess.Popen[str], int]]:
    """Run nodes and an orchestrator; the nodes' process, and the orchestrator's port."""
    command = [sys.executable, str(HERE / "cheap_fleet.py"), str(models)]
    command += ["secure", credentials] if credentials else []
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as fleet:  # noqa: ASYNC220
        assert fleet.stdin is not None
        assert fleet.stdout is not None
        entries = json.loads(fleet.stdout.readline())
        orchestrator = LocalOrchestrator("benchmark")
        orchestrator.announce(*entries)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(orchestrator.run)
                yield fleet, orchestrator.port
                nursery.cancel_scope.cancel()
        finally:
            fleet.stdin.close()


async def run_client(fleet: subprocess.Popen[str], job: Mapping[str, Any]) -> Result:
    """Run a coordinator; what it measured."""

    def run() -> Result:
        command = [sys.executable, str(HERE / "sharding_client.py"), json.dumps(job)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert client.stdin is not None
            assert fleet.stdin is not None
            assert fleet.stdout is not None
            for line in client.stdout:
                if line != "?\n":
                    result: Result = json.loads(line)
                    return result
                fleet.stdin.write("\n")
                fleet.stdin.flush()
                client.stdin.write(fleet.stdout.readline())
                client.stdin.flush()
            raise SystemExit(f"{job} ended with exit code {client.wait()}")

    with trio.fail_after(RUN_SECONDS):
        return await trio.to_thread.run_sync(run, abandon_on_cancel=True)


async def measure(part: Part, turns: int) -> dict[int, list[Result]]:
    """Run a part, both kinds in turns."""
    figures: dict[int, list[Result]] = {shards: [] for shards in part.models}
    for turn in range(min(turns, part.turns)):
        for shards in [*part.models][:: 1 if turn % 2 else -1]:
            with tempfile.TemporaryDirectory() as directory:
                credentials, models = directory if part.secure else "", part.models[shards]
                async with platform(models, credentials) as (fleet, port):
                    job = {"part": part.function, "port": port, "models": models, "shards": shards}
                    job |= {"credentials": credentials, **part.settings}
                    figures[shards].append(await run_client(fleet, job))
                print(".", end="", file=sys.stderr, flush=True)
    return figures


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="what a cluster over several processes costs")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    machine = describe_machine()
    found = {name: trio.run(measure, PARTS[name], options.turns) for name in options.only}
    print(file=sys.stderr)
    print("| measure | median (min-max) | target | met |\n|---|---|---|---|")
    for name, figures in found.items():
        for row in PARTS[name].rows(figures):
            print(row)
    print(f"\n{summary(machine)}, {os.getloadavg()[0]:.1f} after; nodes, driver and shards share the cores")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "figures": found}, indent=1))


if __name__ == "__main__":
    main()
