"""Our client, doing a job: see `job`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import trio
from job import CLASS_NAME, HESITATE, PREDICT, Job, Stopwatch, finish, given_job, play_rounds, resident_bytes

from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterConfig,
    DataType,
    DynamicSubclassService,
    Encoded,
    Status,
)

if TYPE_CHECKING:
    from trio_model_runner import GatewayCredentials, SecureCredentials


async def coordinate(job: Job) -> None:
    """Join, play, and print what was measured."""
    config = ClusterConfig(
        job.crunch_id,
        "127.0.0.1",
        job.port,
        timeout=job.timeout,
        startup_timeout=60,
        report_failures=False,
        credentials=credentials(job),
    )
    joining = Stopwatch()
    async with Cluster(config, DynamicSubclassService(CLASS_NAME)) as cluster:
        join = joining.read()
        job.check(len(cluster.models), "joined")
        if job.hesitating:
            finish({"latenesses": await measure_lateness(job, cluster)})
            return
        large = Encoded(DataType.PARQUET, bytes(job.payload_bytes)) if job.payload_bytes else None

        async def play_round() -> int:
            answers = await cluster.call(PREDICT, Arguments(large or job.small_payload()))
            return len(answers.succeeded)

        results = await play_rounds(job, play_round)
        finish({"join": join, "resident_bytes": resident_bytes(), **results})


def credentials(job: Job) -> SecureCredentials | GatewayCredentials | None:
    """The coordinator's, which the fleet has written. What a job does not need is not in its memory."""
    if job.fleet == "secure":
        from trio_model_runner import SecureCredentials

        return SecureCredentials.from_directory(job.credentials)
    if job.fleet == "gateway":
        import ssl
        from pathlib import Path

        from trio_model_runner import GatewayCredentials

        directory = Path(job.credentials)
        tls = ssl.create_default_context(cafile=str(directory / "gateway-ca.crt"))
        return GatewayCredentials.from_pem((directory / "key.pem").read_bytes(), tls=tls)
    return None


async def measure_lateness(job: Job, cluster: Cluster) -> list[float]:
    """By how much each round with unanswered calls returns after its deadline, seconds."""
    latenesses: list[Any] = []
    for _ in range(job.warm_up + job.rounds):
        deadline = time.perf_counter() + job.timeout
        answers = await cluster.call(HESITATE, Arguments(job.small_payload()))
        latenesses.append(time.perf_counter() - deadline)
        if not answers.timed_out or any(answer.status is Status.FAILED for answer in answers.values()):
            raise RuntimeError(f"this should be a round with timeouts alone: {answers}")
    return latenesses[job.warm_up :]


if __name__ == "__main__":
    trio.run(coordinate, given_job())
