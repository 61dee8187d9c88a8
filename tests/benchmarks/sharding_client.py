"""A coordinator, doing one part of `sharding`: a process of its own, which prints what it measured.

    python sharding_client.py JOB

A job is a JSON object; see `Job`. Its shards are processes that `LocalEngine` launches, as for any
coordinator, but each notes when its part of a round began and ended (`sharding_probe`).
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import trio
from job import CLASS_NAME, PREDICT
from sharding_probe import PATH_VARIABLE

from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterConfig,
    DataType,
    DynamicSubclassService,
    Encoded,
    PredictionRound,
    SecureCredentials,
)
from trio_model_runner.sharding import LocalEngine, Shard, ShardedCluster
from trio_model_runner.sharding.local import LocalShard

PROBE = "sharding_probe:serve_shard"
MIXED = "mixed"
BEFORE_DEADLINE = 0.05


@attrs.frozen
class Job:
    """What to do.

    Attributes:
        part: the name of a function here.
        port: the orchestrator's.
        models: how many there are.
        shards: over how many processes; 0 is a `Cluster`.
        rounds: how many are measured.
        credentials: the directory; empty in plaintext.
        payload: bytes of the argument; 0 for a small one.
        timeout: of a round, seconds.
    """

    part: str
    port: int
    models: int
    shards: int
    rounds: int = 0
    credentials: str = ""
    payload: int = 0
    timeout: float = 30.0


class WatchedEngine(LocalEngine):
    """Remembers the processes, and what each had cost when it was launched."""

    def __init__(self, serve: str) -> None:
        super().__init__(serve=serve)
        self.pids: dict[int, int] = {}
        self.cost_of_launch = 0.0

    async def launch(self, index: int, first_message: bytes) -> Shard:
        shard = await super().launch(index, first_message)
        assert isinstance(shard, LocalShard)
        self.pids[index] = shard.pid
        self.cost_of_launch += cpu_of(shard.pid)
        return shard

    def cpu(self) -> float:
        """Processor time of all shards since they were launched, seconds."""
        return sum(map(cpu_of, self.pids.values())) - self.cost_of_launch


def cpu_of(pid: int) -> float:
    """Processor time of all threads that a process has, seconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class Coordinator:
    """What all parts need: a cluster of the job's kind, and what its shards cost."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.engine = WatchedEngine(PROBE)
        credentials = SecureCredentials.from_directory(job.credentials) if job.credentials else None
        config = ClusterConfig(
            "benchmark",
            "127.0.0.1",
            job.port,
            timeout=job.timeout,
            startup_timeout=60,
            report_failures=False,
            credentials=credentials,
        )
        service = DynamicSubclassService(CLASS_NAME)
        self._cluster: Cluster = (
            ShardedCluster(config, service, shards=job.shards, engine=self.engine)
            if job.shards
            else Cluster(config, service)
        )

    def cluster(self) -> AbstractAsyncContextManager[Cluster]:
        return self._cluster


def check(found: int, wanted: int) -> None:
    if found != wanted:
        sys.exit(f"{found} models, and not {wanted}")


async def rounds(job: Job) -> dict[str, Any]:
    """Rounds of small calls, or large ones: what they cost in each process, and how long they take."""
    coordinator = Coordinator(job)
    async with coordinator.cluster() as cluster:
        await cluster.wait_for_models(job.models)
        large = Encoded(DataType.PARQUET, bytes(job.payload)) if job.payload else None
        walls, overheads = [], []

        async def play() -> PredictionRound[Any]:
            arguments = Arguments(large or {"symbol": "BTC", "at": time.time(), "price": 65432.1})
            clear_notes()
            began = time.perf_counter()
            results = await cluster.call(PREDICT, arguments)
            walls.append(time.perf_counter() - began)
            check(len(results.succeeded), job.models)
            if job.shards:
                overheads.append(walls[-1] - max(part_seconds(job.shards)))
            return results

        for _ in range(1 if job.payload else 3):
            await play()
        walls.clear()
        overheads.clear()
        ours, theirs = time.process_time(), coordinator.engine.cpu()
        for _ in range(job.rounds):
            await play()
        calls = job.rounds * job.models
        driver, shards = time.process_time() - ours, coordinator.engine.cpu() - theirs
        results = await play()
        ours = time.process_time()
        check(sum(each.value == 1.5 for each in results.values()), job.models)
        looking = time.process_time() - ours
        return {
            "driver": driver / calls,
            "shards": shards / calls,
            "looking": looking / job.models,
            "walls": walls,
            "overheads": overheads,
        }


def clear_notes() -> None:
    for path in Path(os.environ[PATH_VARIABLE]).iterdir():
        path.unlink()


def part_seconds(shards: int) -> list[float]:
    """How long the shards took for the last round."""
    notes = [path.read_text() for path in Path(os.environ[PATH_VARIABLE]).iterdir()]
    check(len(notes), shards)
    return [float(each) for each in notes]


class When(logging.Handler):
    """Notes when a shard was found to be lost."""

    moment = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if "was lost" in record.getMessage():
            self.moment = time.perf_counter()


async def lost(job: Job, number: signal.Signals) -> dict[str, Any]:
    """One shard ends or stands still: when that is known, and when its models are ready elsewhere."""
    when = When()
    logging.getLogger("trio_model_runner.sharding").addHandler(when)
    coordinator = Coordinator(job)
    async with coordinator.cluster() as cluster:
        await cluster.wait_for_models(job.models)
        await trio.sleep(1.0)  # all leases are on their way
        moved = cluster.snapshot().shards[0]["models"]
        began = time.perf_counter()
        os.kill(coordinator.engine.pids[0], number)
        while len(cluster.models) == job.models:  # noqa: ASYNC110 - a signal would cost more than it tells
            await trio.sleep(0.001)
        while len(cluster.models) < job.models:  # noqa: ASYNC110
            await trio.sleep(0.005)
        ended = time.perf_counter()
        with suppress(ProcessLookupError):
            os.kill(coordinator.engine.pids[0], signal.SIGKILL)
    return {"known": when.moment - began, "ready": ended - began, "moved": moved}


async def death(job: Job) -> dict[str, Any]:
    """A shard is killed."""
    return await lost(job, signal.SIGKILL)


async def frozen(job: Job) -> dict[str, Any]:
    """A shard stands still."""
    return await lost(job, signal.SIGSTOP)


async def mixed(job: Job) -> dict[str, Any]:
    """Rounds in which some models hang, and some answer just before the deadline."""
    coordinator = Coordinator(job)
    async with coordinator.cluster() as cluster:
        await cluster.wait_for_models(job.models)
        lateness, lost, late, texts = [], [], [], Counter[str]()
        for number in range(job.rounds + 2):
            arguments = Arguments({"at": time.time() + job.timeout - BEFORE_DEADLINE})
            deadline = time.perf_counter() + job.timeout
            results = await cluster.call(MIXED, arguments, timeout=job.timeout, sit_out=False)
            seconds = time.perf_counter() - deadline
            print("?", flush=True)
            fleet = json.loads(sys.stdin.readline())
            if number >= 2:
                lateness.append(seconds)
                lost.append(len(results.timed_out) - fleet["hung"])
                late.append(fleet["lateness"])
                texts.update(each.detail for each in results.timed_out.values())
    return {"lateness": lateness, "lost": lost, "answered_late": late, "texts": texts}


async def join(job: Job) -> dict[str, Any]:
    """Enter the block, until all models are ready."""
    coordinator = Coordinator(job)
    began, ours = time.perf_counter(), time.process_time()
    async with coordinator.cluster() as cluster:
        await cluster.wait_for_models(job.models)
        return {
            "wall": time.perf_counter() - began,
            "driver": time.process_time() - ours,
            "shards": coordinator.engine.cpu(),
            "of each": [cpu_of(each) for each in coordinator.engine.pids.values()],
        }


@contextmanager
def notes() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as directory:
        os.environ[PATH_VARIABLE] = directory
        yield


def main() -> None:
    """Do a job."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    job = Job(**json.loads(sys.argv[1]))
    logging.getLogger("trio_model_runner").setLevel(logging.ERROR)
    with notes():
        print(json.dumps(trio.run(globals()[job.part], job)), flush=True)


if __name__ == "__main__":
    main()
