"""What the asyncio client and our door from asyncio have in common: a coordinator, but for its imports.

Neither is imported here: `Words` has what a coordinator needs of one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from job import CLASS_NAME, PREDICT, Job, Stopwatch, finish, play_rounds, resident_bytes

__all__ = ["Words", "coordinate"]

TICK = 0.001  # seconds


@dataclass(frozen=True)
class Words:
    """The names that a coordinator imports."""

    runner: Any
    success: Any
    argument: Any
    variant: Any
    variant_type: Any
    encode_data: Any


async def coordinate(job: Job, words: Words, **credentials: Any) -> None:
    """Join, play, and print what was measured.

    Args:
        job: the job.
        words: the coordinator's imports.
        credentials: ``secure_credentials`` or ``gateway_credentials`` of the runner, if any.
    """
    joining = Stopwatch()
    crunch = (job.crunch_id, "127.0.0.1", job.port)
    runner = words.runner(job.timeout, *crunch, CLASS_NAME, report_failure=False, **credentials)
    await runner.init()
    join = joining.read()
    job.check(len(runner.model_cluster.models_run), "joined")
    sync = asyncio.create_task(runner.sync())  # as coordinators do; it must be kept, or it may vanish
    large = bytes(job.payload_bytes)
    stalls: list[float] = []

    async def play_round() -> int:
        if job.payload_bytes:
            value = words.variant(type=words.variant_type.PARQUET, value=large)
        else:
            encoded = words.encode_data(words.variant_type.JSON, job.small_payload())
            value = words.variant(type=words.variant_type.JSON, value=encoded)
        arguments = ([words.argument(position=1, data=value)], [])
        async with watching(stalls) if job.watching else contextlib.nullcontext():
            answers = await runner.call(PREDICT, arguments)
        return sum(each.status is words.success for each in answers.values())

    results = await play_rounds(job, play_round)
    finish({"join": join, "resident_bytes": resident_bytes(), "stalls": stalls[job.warm_up :], **results})
    assert not sync.done()
    os._exit(0)  # the asyncio client can't close, and its `__del__` registers a handler that fails at exit


@contextlib.asynccontextmanager
async def watching(stalls: list[float]) -> AsyncIterator[None]:
    """Note for how long the event loop has stood still at most meanwhile, seconds."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            longest = max(longest, time.perf_counter() - due)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        yield
        await asyncio.sleep(2 * TICK)  # so that a stall at the end is seen, too
    finally:
        ticking.cancel()
    stalls.append(longest)
