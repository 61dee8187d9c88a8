"""What both clients do, and how it is measured: the part of a benchmark that must not differ between them.

A client is a process that reads a `Job` from its command line, joins, plays rounds and prints one line of
JSON. How to join and how to play a round is each client's own; counting, timing and the payload are here.
Only the standard library may be imported here, and little of it, since both clients' memory has it in it.

CPU is user and system time of all threads of the process, since grpcio works in threads of its own. Times
are in seconds, sizes in bytes.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "CLASS_NAME",
    "HESITATE",
    "PREDICT",
    "Job",
    "Stopwatch",
    "finish",
    "given_job",
    "play_rounds",
    "resident_bytes",
]

CLASS_NAME = "benchmark.base.Predictor"
PREDICT = "predict"
HESITATE = "hesitate"
"""The method that one call in twenty gets no answer from; see `fleet`."""


@dataclass(frozen=True)
class Job:
    """What a client has to do.

    Attributes:
        port: the orchestrator's port on this machine.
        fleet: the name of the fleet that has the nodes; see `platform_processes`.
        models: how many models to join.
        warm_up: rounds that are not measured.
        rounds: rounds that are.
        timeout: of each round, s.
        payload_bytes: the argument's size; 0 for a small JSON object, encoded anew for each round.
        hesitating: call the method that leaves calls unanswered, and measure how late rounds return.
        watching: watch for how long the event loop stands still; of the asyncio clients alone.
        credentials: where the coordinator's credentials are, for the fleets "secure" and "gateway".
    """

    port: int
    fleet: str
    models: int
    warm_up: int
    rounds: int
    timeout: float
    payload_bytes: int = 0
    hesitating: bool = False
    watching: bool = False
    credentials: str = ""

    @property
    def crunch_id(self) -> str:
        """The crunch that has as many models of the fleet; see `orchestrator`."""
        return f"{self.fleet}-{self.models}"

    def as_argument(self) -> str:
        """The job as a client's command line has it."""
        return json.dumps(asdict(self))

    def small_payload(self) -> dict[str, Any]:
        """What is sent where no size is given."""
        return {"symbol": "BTC", "at": time.time(), "price": 65432.1, "horizons": [60, 300, 3600]}

    def check(self, count: int, what: str) -> None:
        """End the benchmark unless all models are counted: the figures would mean something else."""
        if count != self.models:
            sys.exit(f"{what}: {count} of {self.models} models")


class Stopwatch:
    """Wall time and CPU time since it was made."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = time.process_time()

    def read(self) -> dict[str, float]:
        """Both, as `wall` and `cpu`."""
        return {"wall": time.perf_counter() - self._wall, "cpu": time.process_time() - self._cpu}


async def play_rounds(job: Job, play_round: Callable[[], Awaitable[int]]) -> dict[str, Any]:
    """Play a job's rounds one after the other, and measure those after the warm-up.

    Args:
        job: the job.
        play_round: plays one round, and returns how many models succeeded.
    """
    for _ in range(job.warm_up):
        job.check(await play_round(), "a round for warming up")
    rounds = []
    whole = Stopwatch()
    for _ in range(job.rounds):
        one = Stopwatch()
        answered = await play_round()
        rounds.append(one.read())
        job.check(answered, "a round")
    return {
        "cpu_per_call": whole.read()["cpu"] / (job.rounds * job.models),
        "round_walls": [each["wall"] for each in rounds],
        "round_cpus": [each["cpu"] for each in rounds],
    }


def resident_bytes() -> int:
    """The memory that this process holds now, garbage apart."""
    gc.collect()
    with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib is an import of its own
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def given_job() -> Job:
    """The job on the command line. As many files may be open as the system lets us open."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return Job(**json.loads(sys.argv[1]))


def finish(results: dict[str, Any]) -> None:
    """Print what was measured."""
    print(json.dumps(results), flush=True)
