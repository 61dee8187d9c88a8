"""How long an answer stops the event loop: a table of kinds of answers and of the largest gaps.

    python tests/benchmarks/stalls.py [--repeat 3] [--kinds text emoji]

Each kind is an answer at its limit, or beyond. It is decoded as the answer of a call is: in the event loop;
where `RoundSpec` says so, in a worker thread, by `returns=` too; data frames in processes of their own, and
given as pandas'. Meanwhile a task that sleeps a millisecond
at a time notes how late it wakes. The largest gap must be no longer than 50 ms, whatever is sent. "kept" is
the gap while the garbage collector runs over the value and over all else that there is, and "freed" while the
value is given up; both happen later, and each is one call that holds the interpreter's lock.

Gaps are given in processor time of this process, which others on the machine don't change much, and the first
also in time. A kind is measured several times; the table has the medians.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import trio
from stalls_returns import KINDS

from trio_model_runner import ClusterConfig, Encoded
from trio_model_runner.frame_readers.readers import FrameReaders
from trio_model_runner.model.decoding import value_of_slow
from trio_model_runner.model.round_spec import RoundSpec, Value

TARGET = 0.050


class Gaps:
    """The largest gap of the event loop since `begin`, in seconds.

    Attributes:
        time: of time.
        processor: of this process's processor time.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what was."""
        self.time = self.processor = 0.0

    async def watch(self) -> None:
        """Note how long each millisecond takes."""
        before, used = time.perf_counter(), time.process_time()
        while True:
            await trio.sleep(0.001)
            now, now_used = time.perf_counter(), time.process_time()
            self.time = max(self.time, now - before - 0.001)
            self.processor = max(self.processor, now_used - used)
            before, used = now, now_used

    async def during(self, work: Callable[[], Any]) -> float:
        """Do something in the event loop; the gap that it makes, of processor time."""
        await trio.sleep(0.005)
        self.begin()
        work()
        await trio.sleep(0.005)
        return self.processor


async def decoded(spec: RoundSpec, encoded: Encoded, readers: FrameReaders) -> Value:
    """Decode an answer as a call does."""
    if not spec.takes_long_to_decode(encoded):
        return spec.value_of(encoded)
    return await value_of_slow(spec, encoded, readers, "stranger")


async def measure(name: str, gaps: Gaps, readers: FrameReaders) -> tuple[list[float], str]:
    """Decode a kind once: gaps while it is decoded (two), collected and freed; seconds; what came of it."""
    data_type, make, returns = KINDS[name]
    encoded = Encoded(data_type, make())
    config = ClusterConfig("stalls", "localhost", frames="pandas")
    spec = RoundSpec.make(config, "predict", lambda _: None, 0.0, returns=returns)  # type: ignore[arg-type,return-value]
    held: list[Value] = []
    await trio.sleep(0.02)
    gaps.begin()
    began = time.perf_counter()
    held.append(await decoded(spec, encoded, readers))
    took = time.perf_counter() - began
    await trio.sleep(0.01)
    during = [gaps.processor, gaps.time]
    came = "a value" if held[0].error is None else held[0].detail
    kept = await gaps.during(gc.collect)
    freed = await gaps.during(held.clear)
    return [*during, kept, freed, took], came


async def main(kinds: list[str], repeat: int) -> None:
    """Print the table."""
    print("| kind | MB | gap, ms | in time | kept | freed | s | what came |")
    print("|---|---|---|---|---|---|---|---|")
    gaps = Gaps()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gaps.watch)
        readers = FrameReaders(ClusterConfig("stalls", "localhost").limits.max_frame_bytes)
        nursery.start_soon(readers.run)
        for name in kinds:
            rows = [await measure(name, gaps, readers) for _ in range(repeat)]
            gap, slow, kept, freed, took = map(statistics.median, zip(*(row[0] for row in rows), strict=True))
            size = len(KINDS[name][1]()) / 1e6
            cells = [f"{1000 * each:.1f}" for each in (gap, slow, kept, freed)]
            late = " LATE" if gap > TARGET else ""
            came = rows[0][1][:60]
            print(f"| {name} | {size:.1f} | {' | '.join(cells)} | {took:.2f} | {came}{late} |", flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    trio.run(main, options.kinds, options.repeat)
