"""Which values are large enough to be encoded or decoded in a worker thread instead of the event loop.

While a value is encoded or decoded in the event loop, nothing else happens there: no answer is read, no
deadline is noticed. A trip to a thread and back takes about 60 us, and 200 us on a busy machine. So a job of
less than about half a millisecond is best done at once, and a longer one in a thread. The sizes here take
about half a millisecond each, as measured by ``tests/benchmarks/threads.py`` on one core of a server.

The size of a value is not known before it is encoded. `looks_large` guesses it within microseconds: it looks
at a few items of a list, and takes the others to be alike. A wrong guess costs time only.

This module knows nothing of threads; its callers decide what to do.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from .encoded import DataType, Encoded
from .frames.writing import is_frame

__all__ = [
    "FRAMES",
    "INLINE_FRAME_BYTES",
    "INLINE_JSON_BYTES",
    "INLINE_JSON_VALUES",
    "INLINE_STRUCTURED_VALUES",
    "INLINE_TEXT_BYTES",
    "LARGEST_AMONG_OTHERS",
    "NEVER_LONG_BYTES",
    "looks_large",
    "takes_long_to_decode",
    "takes_long_to_encode",
]

INLINE_JSON_BYTES: Final = 32 * 2**10
"""JSON takes 12 to 15 ns a byte to decode and 25 to 28 to encode (0.5 and 0.9 ms)."""

INLINE_JSON_VALUES: Final = 4096
"""Many small values in few bytes take longer: up to 100 ns each to decode (0.4 ms)."""

INLINE_STRUCTURED_VALUES: Final = 128
"""To make of a value what `returns=` asks for takes 0.1 to 7 us, the longest in unions (0.9 ms)."""

INLINE_TEXT_BYTES: Final = 256 * 2**10
"""Text takes 0.1 to 2 ns a byte either way: most where one character among many is of the widest (0.5 ms)."""

INLINE_FRAME_BYTES: Final = 4 * 2**10
"""Parquet takes 0.1 ms, and 50 us more for each column. A column has 300 bytes or more (0.8 ms)."""

LARGEST_AMONG_OTHERS: Final = 2**18
"""Larger answers (bytes) keep a thread for 5 ms or more, even for seconds: they get one of their own."""

FRAMES: Final = frozenset({DataType.PARQUET, DataType.ARROW})
"""The types of data frames."""

_INLINE_BYTES = {
    DataType.STRING: INLINE_TEXT_BYTES,
    DataType.JSON: INLINE_JSON_BYTES,
} | dict.fromkeys(FRAMES, -1)

NEVER_LONG_BYTES: Final = MappingProxyType(
    {kind: _INLINE_BYTES.get(kind, sys.maxsize) for kind in DataType}
    | {DataType.JSON: INLINE_STRUCTURED_VALUES}
)
"""Up to so many bytes nobody needs to ask `takes_long_to_decode`: a value of this type never does.

A frame of few bytes can take any time. JSON has no more values than bytes.
"""

_NUMBER_BYTES: Final = 16
"""What a number with its comma takes in JSON, about; a key or a pair of brackets counts the same."""

_LOOKED_AT: Final = 64
"""How many items of a list are looked at. In a list inside a list, it is a quarter of that, and so on."""

_NUMBERS = frozenset({int, float, bool, type(None)})


def takes_long_to_decode(encoded: Encoded, *, structured: bool = False) -> bool:
    """Say whether `encoded` is so large that it should not be decoded in the event loop. All frames are.

    Args:
        encoded: an answer.
        structured: a type is made of it, too, as `returns=` asks for.
    """
    if encoded.data_type is DataType.JSON:
        data = encoded.data
        values = INLINE_STRUCTURED_VALUES if structured else INLINE_JSON_VALUES
        return len(data) > INLINE_JSON_BYTES or (len(data) > values and _most_values(data) > values)
    return len(encoded.data) > _INLINE_BYTES.get(encoded.data_type, sys.maxsize)


def _most_values(data: bytes) -> int:
    """How many values JSON has at most: what is in its texts is counted, too. It takes 0.1 ms at most."""
    return 1 + sum(map(data.count, (b",", b":", b"[", b"{")))


def takes_long_to_encode(value: Any) -> bool:
    """Say whether `value` is so large that it should be encoded in a thread.

    Frames count as large until pyarrow is imported: the import takes a good part of a second.
    """
    if isinstance(value, str):
        return len(value) > INLINE_TEXT_BYTES
    if is_frame(value):
        return "pyarrow.parquet" not in sys.modules or _frame_bytes(value) > INLINE_FRAME_BYTES
    return looks_large(value, INLINE_JSON_BYTES)


def _frame_bytes(frame: Any) -> float:
    """About how large a frame is, in bytes. A stream counts as infinite, since it can be read only once."""
    size = getattr(frame, "nbytes", None)
    if isinstance(size, int):
        return size
    shape = getattr(frame, "shape", None)
    if isinstance(shape, tuple) and len(shape) == 2:
        return float(shape[0] * shape[1] * _NUMBER_BYTES)
    return float("inf")


def looks_large(value: Any, limit: int) -> bool:
    """Say whether `value` takes more than about `limit` bytes as JSON."""
    return _size(value, limit, _LOOKED_AT) > limit


def _size(value: Any, limit: int, samples: int) -> float:
    """About how large `value` is as JSON, in bytes. What is over `limit` may be larger than this says."""
    if isinstance(value, str):
        return len(value)
    held = _held_by(value)
    numbers_only = _NUMBER_BYTES * (1 + len(held))
    if numbers_only > limit or not samples or _NUMBERS.issuperset(map(type, held)):
        return numbers_only
    looked_at = held[:: 1 + len(held) // samples]
    inner = sum(_size(item, limit, samples // 4) for item in looked_at)
    return _NUMBER_BYTES + inner * len(held) / len(looked_at)


def _held_by(value: Any) -> tuple[Any, ...] | list[Any]:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, dict):  # keys are text of unknown length, but rarely long
        return list(value.values())
    if isinstance(value, (int, float)) or value is None:
        return ()
    kind = type(value)
    if attrs.has(kind):
        return [getattr(value, field.name, None) for field in attrs.fields(kind)]
    if dataclasses.is_dataclass(kind):
        return [getattr(value, field.name, None) for field in dataclasses.fields(kind)]
    return list(value.values()) if isinstance(value, Mapping) else ()
