"""The coordinator that is measured: joins, plays rounds with honest and hostile nodes, and prints figures.

    python hostile_coordinator.py JOB    (the fields of `Job` in JSON)

Rounds begin at a fixed pace, so that those with nobody to wait for are spread over the same time. They call
models that would sit out, too, so that every hostile node gets its call in every round that it is ready for.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

import trio_model_runner
from trio_model_runner import Arguments, Cluster, ClusterConfig, DynamicSubclassService, GatewayCredentials

PATIENCE = 20.0
"""Seconds in which the honest models must join."""
GRACE = 1.5
"""Seconds in which hostile models may join after that. Some never do."""
TEXT_LENGTH = 90


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        crunch_id: the crunch; see `hostile_honest`.
        port: the orchestrator's.
        honest: how many of the models are honest; they are the first.
        models: how many there are.
        rounds: how many rounds to play.
        timeout: of a round, seconds.
        period: from one round's beginning to the next one's, seconds; longer than the timeout.
        credentials: a directory with a gateway's key; None speaks plaintext.
    """

    crunch_id: str
    port: int
    honest: int
    models: int
    rounds: int
    timeout: float
    period: float
    credentials: str | None


def memory(which: str) -> float:
    """This process's resident memory in MB: VmRSS is what it has now, VmHWM the most that it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) * 1024 / 1e6


class Rounds:
    """The rounds that are played, and what is measured of them, in seconds.

    Attributes:
        walls: each round's time.
        answers: the time of each honest answer.
        missed: the rounds in which an honest model had no answer.
        words: what the last round says of each hostile model.
    """

    def __init__(self, job: Job) -> None:
        self.walls: list[float] = []
        self.answers: list[float] = []
        self.missed = 0
        self.words: dict[str, str] = {}
        self._job = job
        self._honest = {f"model-{index}" for index in range(job.honest)}

    async def join(self, cluster: Cluster) -> float:
        """Wait for the honest models, and a little for the others; how long the honest ones took.

        Raises:
            trio.TooSlowError: they did not join.
        """
        begun = time.perf_counter()
        with trio.fail_after(PATIENCE):
            async with cluster.changes() as changes:
                while not self._honest <= set(cluster.models):
                    await anext(changes)
        joined = time.perf_counter() - begun
        with trio.move_on_after(GRACE):
            await cluster.wait_for_models(self._job.models)
        return joined

    async def play(self, cluster: Cluster) -> None:
        """Play all rounds."""
        start = trio.current_time()
        for number in range(self._job.rounds):
            await trio.sleep_until(start + number * self._job.period)
            await self._play_one(cluster)

    async def _play_one(self, cluster: Cluster) -> None:
        arguments = Arguments({"symbol": "BTC", "at": time.time(), "horizons": [60, 300, 3600]})
        begun = time.perf_counter()
        results = await cluster.call("predict", arguments, timeout=self._job.timeout, sit_out=False)
        self.walls.append(time.perf_counter() - begun)
        succeeded = {model.model_id: result for model, result in results.succeeded.items()}
        self.answers += [result.elapsed for name, result in succeeded.items() if name in self._honest]
        self.missed += not self._honest <= set(succeeded)
        for model, result in results.items():
            if model.model_id not in self._honest:
                self.words[model.model_id] = f"{result.status.name} {result.detail or ''}"


async def coordinate(job: Job) -> dict[str, Any]:
    """Play, and give the figures."""
    config = ClusterConfig(
        job.crunch_id,
        "127.0.0.1",
        job.port,
        timeout=job.timeout,
        startup_timeout=0,
        report_failures=False,
        credentials=GatewayCredentials.from_directory(job.credentials) if job.credentials else None,
    )
    before = memory("VmRSS")
    rounds = Rounds(job)
    async with Cluster(config, DynamicSubclassService("benchmark.base.Predictor")) as cluster:
        joined = await rounds.join(cluster)
        await rounds.play(cluster)
        states = [
            f"{model.state}: {model.error or rounds.words.get(model.model_id, 'in no round')}"[:TEXT_LENGTH]
            for model in cluster.announced.values()
            if int(model.model_id.removeprefix("model-")) >= job.honest
        ]
    return {
        "package": str(Path(trio_model_runner.__file__).parent),
        "joined": joined,
        "walls": rounds.walls,
        "answers": rounds.answers,
        "missed": rounds.missed,
        "memory": memory("VmHWM") - before,
        "states": states,
    }


def main() -> None:
    """Do the job on the command line, and print what was measured."""
    job = Job(**json.loads(sys.argv[1]))
    print(json.dumps(trio.run(coordinate, job)), flush=True)


if __name__ == "__main__":
    main()
