"""The reference client, doing a job as the coordinators in the field have it do theirs: see `job`."""

from __future__ import annotations

import asyncio
import os

from job import CLASS_NAME, PREDICT, Job, Stopwatch, finish, given_job, play_rounds, resident_bytes
from model_runner_client.grpc.generated.commons_pb2 import Argument, Variant, VariantType
from model_runner_client.model_concurrent_runners import (
    DynamicSubclassModelConcurrentRunner,
    ModelPredictResult,
)
from model_runner_client.utils.datatype_transformer import encode_data


async def coordinate(job: Job) -> None:
    """Join, play, and print what was measured."""
    joining = Stopwatch()
    runner = DynamicSubclassModelConcurrentRunner(
        job.timeout, job.crunch_id, "127.0.0.1", job.port, CLASS_NAME, report_failure=False
    )
    await runner.init()
    join = joining.read()
    job.check(len(runner.model_cluster.models_run), "joined")
    sync = asyncio.create_task(runner.sync())  # as coordinators do; it must be kept, or it may vanish
    large = bytes(job.payload_bytes)

    async def play_round() -> int:
        if job.payload_bytes:
            value = Variant(type=VariantType.PARQUET, value=large)
        else:
            encoded = encode_data(VariantType.JSON, job.small_payload())
            value = Variant(type=VariantType.JSON, value=encoded)
        answers = await runner.call(PREDICT, ([Argument(position=1, data=value)], []))
        successes = [each.status is ModelPredictResult.Status.SUCCESS for each in answers.values()]
        return sum(successes)

    results = await play_rounds(job, play_round)
    finish({"join": join, "resident_bytes": resident_bytes(), **results})
    assert not sync.done()
    os._exit(0)  # it has no way to close, and its `__del__` registers a handler that fails at exit


if __name__ == "__main__":
    asyncio.run(coordinate(given_job()))
