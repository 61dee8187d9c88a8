"""Frames of all kinds, damaged in all ways, read as a coordinator reads them.

    python tests/fuzzing/frames.py [--seconds 60] [--seed SEED] [--keep DIRECTORY] [--as arrow pandas]

Each frame must become a table, or a pandas frame that can be used, or a ValueError. Anything else is a fault:
it is kept in the directory, and the exit code is 1. A frame that ends its reader is no fault, since the
reader is there for that; it is counted and kept. This process must survive, keep its event loop going and not
grow.

What is damaged: bytes anywhere in Parquet files and Arrow streams (bits, numbers that mean something at a
limit, parts that are cut out, doubled or taken from another file), and pandas' metadata inside a file that is
otherwise sound.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import io
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trio

sys.path.append(str(Path(__file__).parents[1]))

from helpers.honest_frames import honest_frames
from helpers.strangers_frames import arrow_of, parquet_of

from trio_model_runner import DataType, Encoded
from trio_model_runner.frame_readers.readers import FrameReaders

MIB = 2**20
MAX_FRAME_BYTES = 32 * MIB
AT_ONCE = 24
LIMITS = (
    0,
    1,
    2,
    7,
    8,
    63,
    64,
    127,
    128,
    255,
    2**15 - 1,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
)


def main() -> int:
    """Damage and read frames for as long as the command line says; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path(".cache/fuzzing"))
    parser.add_argument("--as", dest="frames", nargs="+", default=["arrow", "pandas"])
    options = parser.parse_args()
    fuzzer = Fuzzer(random.Random(options.seed), options.keep, options.frames)
    trio.run(fuzzer.run, options.seconds)
    print(f"seed {options.seed}: {fuzzer.summary()}")
    return 1 if fuzzer.faults else 0


class Fuzzer:
    """Damages frames and reads them.

    Attributes:
        faults: what went wrong, in words.
    """

    def __init__(self, chance: random.Random, directory: Path, frames: list[Any]) -> None:
        self.faults: list[str] = []
        self._chance = chance
        self._directory = directory
        self._frames = frames
        self._seeds = [written for frame in honest_frames() for written in spellings(frame)]
        self._counts: collections.Counter[str] = collections.Counter()
        self._longest_gap = 0.0

    def summary(self) -> str:
        """What happened, in a line or more."""
        counts = ", ".join(f"{count} {what}" for what, count in self._counts.most_common())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        text = f"{counts}; longest gap of the event loop {1000 * self._longest_gap:.0f} ms; peak {peak} MB"
        return "\n".join([text, *self.faults])

    async def run(self, seconds: float) -> None:
        """Damage and read frames for so long."""
        readers = FrameReaders(MAX_FRAME_BYTES)
        end = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            nursery.start_soon(readers.run)
            nursery.start_soon(self._note_gaps)
            async with trio.open_nursery() as workers:
                for _ in range(AT_ONCE):
                    workers.start_soon(self._read_until, end, readers)
            nursery.cancel_scope.cancel()

    async def _note_gaps(self) -> None:
        while True:
            before = time.perf_counter()
            await trio.sleep(0.002)
            self._longest_gap = max(self._longest_gap, time.perf_counter() - before - 0.002)

    async def _read_until(self, end: float, readers: FrameReaders) -> None:
        while trio.current_time() < end:
            await self._read(readers, self.damaged())

    async def _read(self, readers: FrameReaders, encoded: Encoded) -> None:
        frames = self._chance.choice(self._frames)
        try:
            value = await readers.read(encoded, frames)
            await trio.to_thread.run_sync(use, value)
        except ValueError as error:
            self.count_refusal(encoded, str(error))
        except Exception as error:
            self.faults.append(f"{self._kept(encoded)} as {frames}: {type(error).__name__}: {error}"[:500])
        else:
            self._counts[f"read as {frames}"] += 1

    def count_refusal(self, encoded: Encoded, text: str) -> None:
        if "the process that reads it" in text or "processor's time" in text:
            reason = text.rpartition(": ")[2]
            self._counts[f"ended the reader: {reason}"] += 1
            self._kept(encoded)
        else:
            self._counts["refused"] += 1

    def _kept(self, encoded: Encoded) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(encoded.data).hexdigest()[:16]
        path = self._directory / f"{name}.{encoded.data_type.name.lower()}"
        path.write_bytes(encoded.data)
        return path

    def damaged(self) -> Encoded:
        seed = self._chance.choice(self._seeds)
        if self._chance.random() < 0.3 and (changed := self._with_other_metadata(seed)) is not None:
            seed = changed
            if self._chance.random() < 0.7:
                return seed
        data = bytearray(seed.data)
        for _ in range(self._chance.choice([1, 1, 2, 4, 16])):
            self._chance.choice(DAMAGES)(self._chance, data, self._chance.choice(self._seeds).data)
        return Encoded(seed.data_type, bytes(data))

    def _with_other_metadata(self, seed: Encoded) -> Encoded | None:
        table = plain(seed)
        metadata = (table.schema.metadata or {}).get(b"pandas")
        if metadata is None:
            return None
        value = json.loads(metadata)
        for _ in range(self._chance.choice([1, 1, 2, 5])):
            value = changed_json(self._chance, value)
        table = table.replace_schema_metadata({b"pandas": json.dumps(value).encode()})
        return write(table, seed.data_type)


def use(value: Any) -> None:
    """Do what coordinators do first."""
    if hasattr(value, "to_pydict"):
        value.validate(full=True)
        str(value.schema)
        return
    assert value.attrs == {}
    value.head()
    list(value.columns)
    list(value.dtypes)
    list(value.index)


def write(table: Any, data_type: DataType) -> Encoded:
    return parquet_of(table) if data_type is DataType.PARQUET else arrow_of(table)


def plain(encoded: Encoded) -> Any:
    import pyarrow
    from pyarrow import parquet

    if encoded.data_type is DataType.PARQUET:
        return parquet.ParquetFile(io.BytesIO(encoded.data)).read()
    return pyarrow.ipc.open_stream(encoded.data).read_all()


def spellings(table: Any) -> Iterator[Encoded]:
    """A table in all forms that it can be written in."""
    import pyarrow

    for options in ({}, {"compression": "zstd", "data_page_version": "2.0"}, {"use_dictionary": False}):
        try:
            yield parquet_of(table, **options)
        except (pyarrow.ArrowException, ValueError):
            break
    for compression in (None, "lz4", "zstd"):
        yield arrow_of(table, compression=compression)


def flip(chance: random.Random, data: bytearray, _: bytes) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def set_number(chance: random.Random, data: bytearray, _: bytes) -> None:
    size = chance.choice([1, 2, 4, 8])
    place = chance.randrange(len(data))
    number = (chance.choice(LIMITS) + chance.choice([0, 0, -1, 1])) % 256**size
    data[place : place + size] = number.to_bytes(size, "little")[: len(data) - place]


def cut_out(chance: random.Random, data: bytearray, _: bytes) -> None:
    place = chance.randrange(len(data))
    del data[place : place + chance.choice([1, 4, 8, 100])]
    data or data.append(0)


def double(chance: random.Random, data: bytearray, _: bytes) -> None:
    place = chance.randrange(len(data))
    part = data[place : place + chance.choice([1, 8, 64, 1000])]
    data[place:place] = part


def splice(chance: random.Random, data: bytearray, other: bytes) -> None:
    length = chance.choice([4, 16, 64, 256])
    place, source = chance.randrange(len(data)), chance.randrange(len(other))
    part = other[source : source + length]
    data[place : place + len(part)] = part


DAMAGES: tuple[Callable[[random.Random, bytearray, bytes], None], ...] = (
    flip,
    set_number,
    set_number,
    cut_out,
    double,
    splice,
)

WORDS = (
    "S600000000",
    "U99999999",
    "V100000000",
    "object",
    "category",
    "datetime64[ns]",
    "datetime64[ns, UTC]",
    "period[D]",
    "interval[int64, right]",
    "string[pyarrow]",
    "list<item: int64>[pyarrow]",
    "unicode",
    "bytes",
    "Int64",
    "boolean",
    "Sparse[int]",
    "timedelta64[ns]",
    "range",
    "(1, 2)",
    "('a', [[[[]]]])",
    "__index_level_0__",
    "a" * 5000,
    "\ud800",
    "",
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1.5,
    [],
    {},
    [[[[[]]]]],
)


def changed_json(chance: random.Random, value: Any) -> Any:
    """The same JSON with one thing changed somewhere."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        changed = {**value, key: changed_json(chance, value[key])}
        if chance.random() < 0.1:
            del changed[key]
        return changed
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        if chance.random() < 0.1:
            return value[:place] + value[place + 1 :]
        if chance.random() < 0.1:
            return value[:place] + [value[place]] * chance.choice([2, 3, 1000]) + value[place:]
        return [*value[:place], changed_json(chance, value[place]), *value[place + 1 :]]
    return chance.choice(WORDS)


if __name__ == "__main__":
    sys.exit(main())
