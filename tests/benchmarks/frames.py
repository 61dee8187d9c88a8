"""Data frames in answers: what reading them costs, and what hostile ones cost everybody else, as two tables.

    python tests/benchmarks/frames.py [--only cost strangers] [--kinds KIND ...] [--models 500] [--rounds 7]

**cost**: so many models answer small frames (2 rows, 2 columns, Parquet), which are read in processes of
their own, and in this one (`isolate_frames = false`). The table has the time of a round, and the processor's
time of the coordinator and of its readers; medians.

**strangers**: one of 20 models answers each kind of frame in `tests/helpers/strangers_frames.py`, in rounds
of 1 s. The table has the latest honest answer of any round, the longest round, how much more memory the
coordinator took, and what became of the stranger's answer. No honest answer may be more than 50 ms later than
in the first row. The readers have been started before, which takes half a second after the first frame.

All models run in another process, which shares the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import trio

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))

from helpers.strangers_frames import FRAMES, parquet_of  # noqa: E402
from machine import describe_machine, summary  # noqa: E402

from trio_model_runner import (  # noqa: E402
    Arguments,
    Cluster,
    ClusterConfig,
    DynamicSubclassService,
    Status,
)
from trio_model_runner.config import Health  # noqa: E402
from trio_model_runner.testing import LocalCrunch  # noqa: E402

SERVICE = DynamicSubclassService("crunch.Model")
HONEST = 19
ROUND_SECONDS = 1.0


def small_frame() -> Any:
    import pyarrow

    return parquet_of(pyarrow.table({"a": [1.0, 2.0], "b": [1, 2]}))


class Fleet:
    """The other process: models that answer frames."""

    made: dict[str, Any]

    class Model:
        """Answers a small frame, or the kind that it is asked for if it is the stranger."""

        stranger = False

        def frame(self, name: str) -> Any:
            return Fleet.made[name if self.stranger else "small"]

    class Stranger(Model):
        """Answers what it is asked for."""

        stranger = True


async def serve(models: int) -> None:
    Fleet.made = {"small": small_frame()}
    names = {f"honest-{number}": Fleet.Model for number in range(models)} | {"stranger": Fleet.Stranger}
    async with LocalCrunch(names) as crunch:
        print(
            json.dumps({"port": crunch.orchestrator.port, "crunch_id": crunch.config().crunch_id}), flush=True
        )
        async for line in trio.lowlevel.FdStream(os.dup(0)):
            for name in line.decode().split():
                Fleet.made[name] = FRAMES[name]()
                print(name, flush=True)


def cpu_seconds(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def children_cpu_seconds() -> float:
    """Of the readers that are running, and of those that have ended."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and b"frame_readers" in path.with_name("cmdline").read_bytes():
                ticks += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK") + cpu_seconds(resource.RUSAGE_CHILDREN)


class Session:
    """A fleet in another process, and configurations for it."""

    def __init__(self, models: int) -> None:
        command = [sys.executable, __file__, "--serve", str(models)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.where = json.loads(self.process.stdout.readline())

    def config(self, **settings: Any) -> ClusterConfig:
        return ClusterConfig(
            self.where["crunch_id"],
            port=self.where["port"],
            max_consecutive_failures=None,
            max_consecutive_timeouts=None,
            health=Health(timeout=60),
            startup_timeout=60,
            **settings,
        )

    def make(self, name: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


async def measure_cost(config: ClusterConfig, rounds: int) -> list[float]:
    async with Cluster(config, SERVICE) as cluster:
        for _ in range(2):
            await cluster.call("frame", Arguments("small"), timeout=60)
        await trio.sleep(1)
        figures = []
        for _ in range(rounds):
            start = time.perf_counter(), cpu_seconds(resource.RUSAGE_SELF), children_cpu_seconds()
            answers = await cluster.call("frame", Arguments("small"), timeout=60)
            assert len(answers.succeeded) == len(answers)
            end = time.perf_counter(), cpu_seconds(resource.RUSAGE_SELF), children_cpu_seconds()
            figures.append([after - before for before, after in zip(start, end, strict=True)])
        return [statistics.median(column) for column in zip(*figures, strict=True)]


def print_cost(models: int, rounds: int) -> None:
    print("| frames | read in | round | CPU here | CPU of the readers |\n|---|---|---|---|---|")
    session = Session(models - 1)
    try:
        for frames in ("arrow", "pandas"):
            for isolate in (False, True):
                config = session.config(frames=frames, isolate_frames=isolate)
                cells = [f"{1000 * figure:.0f} ms" for figure in trio.run(measure_cost, config, rounds)]
                where = "readers" if isolate else "this process"
                print(f"| {frames} | {where} | {' | '.join(cells)} |", flush=True)
    finally:
        session.end()


async def measure_stranger(session: Session, name: str, rounds: int, frames: Any) -> str:
    async with Cluster(session.config(frames=frames), SERVICE) as cluster:
        for _ in range(3):
            await cluster.call("frame", Arguments("small"), timeout=10)
        await trio.sleep(1.5)
        before = resident_bytes()
        latest = longest = more = 0.0
        missing = 0
        said: dict[str, int] = {}
        for _ in range(rounds):
            start = trio.current_time()
            arrived: list[float] = []
            missing += await play(cluster, name, start, arrived, said)
            longest = max(longest, trio.current_time() - start)
            latest = max([latest, *arrived])
            more = max(more, resident_bytes() - before)
            await trio.sleep(0.1)
    seconds = f"{1000 * latest:.0f} ms | {1000 * longest:.0f} ms"
    what = max(said, key=said.__getitem__)
    return f"| {name} | {frames} | {seconds} | {more / 2**20:.0f} MB | {missing} | {what} |"


async def play(cluster: Any, name: str, start: float, arrived: list[float], said: dict[str, int]) -> int:
    """Play a round; note when the honest answers came, and what became of the stranger's."""
    async with cluster.as_completed("frame", Arguments(name), timeout=ROUND_SECONDS) as results:
        async for result in results:
            if result.model.model_id == "stranger":
                text = f"{result.status.value} {result.detail[:90]}".replace("|", "/")
                said[text] = said.get(text, 0) + 1
            elif result.status is Status.SUCCESS:
                arrived.append(trio.current_time() - start)
    return HONEST - len(arrived)


def print_strangers(kinds: list[str], rounds: int) -> None:
    print("| frame | as | latest honest | longest round | more memory | missed | the stranger's |")
    print("|---|---|---|---|---|---|---|")
    session = Session(HONEST)
    try:
        for name in ["small", *kinds]:
            if name != "small":
                session.make(name)
            for frames in ("arrow", "pandas"):
                print(trio.run(measure_stranger, session, name, rounds, frames), flush=True)
    finally:
        session.end()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=["cost", "strangers"], default=["cost", "strangers"])
    parser.add_argument("--kinds", nargs="+", choices=sorted(FRAMES), default=list(FRAMES), metavar="KIND")
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        trio.run(serve, options.serve)
        return
    machine = describe_machine()
    if "cost" in options.only:
        print_cost(options.models, options.rounds)
    if "strangers" in options.only:
        print_strangers(options.kinds, options.rounds)
    print("\n" + summary(machine))


if __name__ == "__main__":
    main()
