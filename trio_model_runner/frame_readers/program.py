"""What a reader process does: it reads frames from its standard input, and writes plain tables to its output.

It has no thread but one that takes in what is sent: so a coordinator that writes never waits for a reader
that writes. pandas is never imported here.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Any

from ..values.encoded import DataType
from ..values.frames import reading
from .confinement import cpu_seconds, limit_memory, limited_time, take_default_signals
from .messages import HEAD_BYTES, Kind, head, parse_head
from .streams import to_stream

__all__ = ["main"]

_LONGEST_TEXT = 4000
"""In bytes. A stranger's names and texts can be in it."""

_WRITTEN_TOGETHER = 2**16
"""So many bytes of a body are copied, so that they are written with its head."""


def main() -> None:
    """Read frames until the standard input ends. The argument is how large a frame may become, in bytes."""
    max_frame_bytes = int(sys.argv[1])
    take_default_signals()
    output = os.dup(1)
    os.dup2(2, 1)  # whatever prints must not print into the messages
    try:
        import pyarrow

        _warm_up(pyarrow)
    except BaseException as error:
        _write(output, 0, Kind.BROKEN, _text(error))
        raise
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    limit_memory(max_frame_bytes)
    frames: queue.SimpleQueue[tuple[int, int, bytes] | None] = queue.SimpleQueue()
    threading.Thread(target=_take_in, args=[frames], daemon=True).start()
    _write(output, 0, Kind.READY, b"")
    while (frame := frames.get()) is not None:
        number, data_type, data = frame
        kind, body = Kind.TABLE, b""
        with limited_time(cpu_seconds(len(data))):
            try:
                body = to_stream(reading.read_plain(data, DataType(data_type), max_frame_bytes))
            except (ValueError, MemoryError) as error:
                kind, body = Kind.REFUSAL, _text(error)
        _write(output, number, kind, body)
        del frame, data, body


def _warm_up(pyarrow: Any) -> None:
    """Read a small frame: the first one takes 10 ms longer than others."""
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({"a": [1.0]}), sink)
    to_stream(reading.read_plain(sink.getvalue().to_pybytes(), DataType.PARQUET, 2**20))


def _text(error: BaseException) -> bytes:
    text = str(error) or type(error).__name__
    return text.encode("utf-8", "replace")[:_LONGEST_TEXT]


def _take_in(frames: queue.SimpleQueue[tuple[int, int, bytes] | None]) -> None:
    try:
        with open(0, "rb", closefd=False) as source:
            while len(start := source.read(HEAD_BYTES)) == HEAD_BYTES:
                number, data_type, length = parse_head(start)
                frames.put((number, data_type, source.read(length)))
    finally:
        frames.put(None)


def _write(output: int, number: int, kind: Kind, body: Any) -> None:
    rest = memoryview(body)
    start = head(number, kind, len(rest)) + rest[:_WRITTEN_TOGETHER]
    for part in (memoryview(start), rest[_WRITTEN_TOGETHER:]):
        while part:
            part = part[os.write(output, part) :]
