"""From which size on values should leave the event loop to be encoded or decoded, in tables.

    python tests/benchmarks/threads.py [--seconds 0.3]

The first table is what it takes to decode and to encode a value, by type and size (processor time), and the
second what a trip to a worker thread costs. The others are what large values do to everybody else: so many
are decoded or encoded at once, in the event loop or in at most so many threads at a time, while a task that
only sleeps a millisecond at a time notes how late it wakes. The figures in `trio_model_runner.values.effort`
come from here.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import pyarrow
import trio

from trio_model_runner import Encoded, decode_data, encode

KIB, MIB = 1 << 10, 1 << 20
SIZES = [KIB, 8 * KIB, 64 * KIB, 512 * KIB, 4 * MIB]
LOADS = [(300, 64 * KIB), (20, MIB), (20, 10 * MIB)]
ENCODINGS = [(1, 4 * MIB), (5, 4 * MIB)]
THREADS = [0, 1, 2, 8]  # none: in the event loop


def floats(size: int) -> Any:
    """JSON of numbers: about 19 bytes each."""
    return {"values": [random.random() for _ in range(size // 19)]}


def objects(size: int) -> Any:
    """JSON of small objects: about 60 bytes each."""
    return [{"time": index, "price": random.random(), "side": "left"} for index in range(size // 60)]


def text(size: int) -> Any:
    """A text."""
    return "0123456789abcdef" * (size // 16)


def frame(size: int) -> Any:
    """A table of three columns: about 24 bytes a row."""
    rows = size // 24
    prices = [random.random() for _ in range(rows)]
    return pyarrow.table({"time": list(range(rows)), "price": prices, "other": prices[::-1]})


KINDS: dict[str, Callable[[int], Any]] = {
    "JSON, numbers": floats,
    "JSON, objects": objects,
    "STRING": text,
    "PARQUET": frame,
}


def duration(work: Callable[[], object], seconds: float) -> float:
    """The shortest time of several, in milliseconds of the processor's."""
    shortest, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end or shortest == math.inf:
        began = time.process_time()
        work()
        shortest = min(shortest, time.process_time() - began)
    return shortest * 1000


def show_sizes(seconds: float) -> None:
    """Print what it takes to decode and to encode."""
    header("decode / encode, ms", [f"{size // KIB} KiB" for size in SIZES])
    for name, make in KINDS.items():
        cells = []
        for size in SIZES:
            value = make(size)
            encoded = encode(value)
            decoding = duration(partial(decode_data, encoded.data, encoded.data_type), seconds)
            encoding = duration(partial(encode, value), seconds)
            cells.append(f"{decoding:.3f} / {encoding:.3f}")
        row(name, cells)


@attrs.define
class Lateness:
    """How late a task woke that slept a millisecond at a time, in milliseconds."""

    samples: list[float] = attrs.field(factory=list)

    async def measure(self) -> None:
        """Sleep and note, until cancelled."""
        while True:
            due = time.perf_counter() + 0.001
            await trio.sleep(0.001)
            self.samples.append((time.perf_counter() - due) * 1000)

    def __str__(self) -> str:
        ordered = sorted(self.samples) or [0.0]
        return f"{ordered[int(len(ordered) * 0.9)]:.1f} / {ordered[-1]:.1f}"


async def show_trip(seconds: float) -> None:
    """Print what a trip to a thread costs, alone and with others."""
    header("a trip to a thread, us each", ["one at a time", "300 at a time"])
    began, trips = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        await trio.to_thread.run_sync(int)
        trips += 1
    alone = (time.perf_counter() - began) / trips
    limiter = trio.CapacityLimiter(2)
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(partial(trio.to_thread.run_sync, int, limiter=limiter))
    together = (time.perf_counter() - began) / 300
    row("", [f"{alone * 1e6:.0f}", f"{together * 1e6:.0f}"])


async def do_all(work: Callable[[], object], count: int, threads: int) -> tuple[float, Lateness]:
    """Do something so many times at once; how long it took, in milliseconds."""
    limiter = trio.CapacityLimiter(max(threads, 1))

    async def do_one() -> None:
        await trio.lowlevel.checkpoint()
        if threads:
            await trio.to_thread.run_sync(work, limiter=limiter)
        else:
            work()

    lateness = Lateness()
    async with trio.open_nursery() as watching:
        watching.start_soon(lateness.measure)
        await trio.sleep(0.01)
        lateness.samples.clear()
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(do_one)
        took = (time.perf_counter() - began) * 1000
        await trio.sleep(0.002)
        watching.cancel_scope.cancel()
    return took, lateness


async def show_loads(verb: str, loads: list[tuple[int, int]], work: Callable[[Any], object]) -> None:
    """Print what working on many values does to the event loop."""
    columns = [f"{threads} threads" if threads else "event loop" for threads in THREADS]
    header(f"to {verb}, ms in all (90 % / all of the wake-ups at most so many ms late)", columns)
    for count, size in loads:
        for name, make in KINDS.items():
            value = make(size)
            subject = encode(value) if verb == "decode" else value
            cells = []
            for threads in THREADS:
                took, lateness = await do_all(partial(work, subject), count, threads)
                cells.append(f"{took:.0f} ({lateness})")
            row(f"{count} x {size // KIB} KiB {name}", cells)


def decode(encoded: Encoded) -> Any:
    """Decode an answer."""
    return decode_data(encoded.data, encoded.data_type)


def header(title: str, columns: list[str]) -> None:
    """Print a table's head."""
    print(f"\n{title}")
    row("", columns)


def row(name: str, cells: list[str]) -> None:
    """Print a row."""
    print(f"{name:30}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


@contextmanager
def warmed_up() -> Iterator[None]:
    """Everything is imported, and has run once."""
    for make in KINDS.values():
        encoded = encode(make(KIB))
        decode_data(encoded.data, encoded.data_type)
    yield


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each figure of the first two tables")
    seconds = parser.parse_args().seconds
    random.seed(1)
    with warmed_up():
        show_sizes(seconds)
        trio.run(show_trip, seconds)
        trio.run(show_loads, "decode", LOADS, decode)
        trio.run(show_loads, "encode", ENCODINGS, encode)


if __name__ == "__main__":
    main()
