"""Values to bytes and back, as the model nodes speak them.

Every argument and every answer crosses the wire as one of seven types and some bytes. This module says what
each type looks like in bytes, and which Python value is sent as which type. It has `Arguments`: the values of
a call, encoded once for any number of models.

There are two rules. First: a value of the coordinator's is sent as what it is, or is refused before anything
is sent, and the error names the place in the payload. Nothing is rounded, shortened or turned into text.
Second: an answer is read in full, or is an `InvalidAnswer`. No bytes lead to any other exception.

The encodings are those of the deployed nodes (release 0.4.2), which decode everything here but NONE and
ARROW. So None is sent as JSON ``null``, a bool as INT and a data frame as Parquet. This module must not
know of messages, services or models.
"""

from __future__ import annotations

import enum
import struct
import threading
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, cast

from ..errors import InvalidAnswer
from ..text import as_argument
from .effort import takes_long_to_encode
from .encoded import DataType, Encoded, require_data_type, to_bytes
from .frames.bounds.limit import MAX_FRAME_BYTES
from .frames.presenting import present
from .frames.reading import read_plain
from .frames.writing import FrameKind, is_frame, write_arrow, write_parquet
from .json_reading import from_json
from .json_structure import MAX_JSON_VALUES
from .jsonable import as_number, require_utf8, to_json
from .refusal import Refusal
from .text_reading import TextTooLargeError, text_of_utf8

__all__ = ["Arguments", "DataType", "Encoded", "decode_data", "decode_encoded", "encode", "encode_data"]

T = TypeVar("T")

_JSON = DataType.JSON
_DOUBLE = struct.Struct("<d")
_INT = struct.Struct("<q")
_SMALLEST_INT = -(2**63)
_LARGEST_INT = 2**63 - 1


def encode(value: Any, data_type: DataType | None = None) -> Encoded:
    """Encode `value`.

    Without `data_type`, the value decides:

    ==========================================================  =======
    value                                                       sent as
    ==========================================================  =======
    `bool`, `int` (64 bits), numpy's booleans and integers      INT
    `float`, numpy's floats (the nearest 64-bit float)          DOUBLE
    `str`                                                       STRING
    pandas frames, whatever has the Arrow PyCapsule interface   PARQUET
    `None`, dicts, lists, tuples, mappings, attrs, dataclasses  JSON
    enums                                                       as their value is
    ==========================================================  =======

    Inside JSON the same kinds of values may appear, frames excepted; keys must be `str`; NaN and
    infinities pass.

    Raises:
        TypeError: the value is, or holds, something that can't be sent: bytes, dates, decimals, sets, arrays
            ... The text starts with the path inside the value, as in ``points[3].time: datetime can't be
            sent as JSON``.
        ValueError: an integer has more than 64 bits, text has a lone surrogate, JSON holds itself or is
            nested too deeply; or `data_type` is not a `DataType`; or `value` is an `Encoded` of another type.
        ImportError: a frame was given and pyarrow (the extra ``arrow``) is missing.
    """
    try:
        return _encode(value, data_type)
    except Refusal as refusal:
        raise refusal.to_error() from None


def encode_data(data_type: DataType, value: Any) -> bytes:
    """Encode `value` as `data_type`, which it must fit.

    Integers fit DOUBLE as well (the nearest float), booleans fit both numbers, and only `None` fits NONE.

    Raises:
        TypeError: the value is of another type; see also `encode`.
        ValueError: the value is out of range; `data_type` is not a `DataType`; see also `encode`.
        ImportError: PARQUET or ARROW was asked for and pyarrow (the extra ``arrow``) is missing.
    """
    try:
        return _encode(value, require_data_type(data_type)).data
    except Refusal as refusal:
        raise refusal.to_error() from None


def decode_data(
    data: bytes,
    data_type: DataType | int,
    *,
    frames: FrameKind = "arrow",
    max_frame_bytes: int = MAX_FRAME_BYTES,
    max_json_values: int = MAX_JSON_VALUES,
) -> Any:
    """Read a value back from the wire.

    A data frame is read in this process, whoever wrote it. Its columns must have types from a list, and what
    it says about pandas is checked; but pyarrow reads the bytes. So what is made for it can end this process,
    or take far more memory than `max_frame_bytes` and any time while it is read. A `Cluster` reads strangers'
    frames in processes of their own. `DataFrame.attrs` are not kept.

    Args:
        data: the bytes.
        data_type: their type. A bare number, as on the wire, is taken as a number of `DataType`.
        frames: read PARQUET and ARROW as a `pyarrow.Table` ("arrow") or a `pandas.DataFrame` ("pandas").
        max_frame_bytes: how large a frame may become when it is read, in bytes. Each value counts as 8 bytes
            or more. A small file can hold a large frame. The default is 256 MiB. For "pandas" there is also a
            bound on what becomes Python objects: about two million dates, decimals or lists (before pandas 3:
            or texts), and fewer dicts.
        max_json_values: how many values JSON may hold. Each number, text, literal and key is one, an array or
            an object is four, an empty one five. The default is 500,000.

    Raises:
        InvalidAnswer: the bytes are not of that type: a length other than 8 for the numbers, any length
            but 0 for NONE, broken UTF-8, JSON (also lone surrogates, or too deep a nesting) or frames; or
            the value is too large: JSON of more values, a key or a number in JSON of more than 2 MiB, a text
            that would take more than 80 MiB of memory. Its ``value`` is the `Encoded`, or the bytes alone
            where the type has an unknown number.
        ValueError: `frames` is something else.
        ImportError: a frame came, and pyarrow or pandas is not installed here. It is not the sender's fault.
    """
    if frames not in ("arrow", "pandas"):
        raise ValueError(f'frames: must be "arrow" or "pandas", got {frames!r}')
    data = to_bytes(data)
    if not isinstance(data_type, DataType):
        try:
            data_type = DataType(data_type)
        except ValueError:
            raise InvalidAnswer(f"unknown data type {data_type!r}", data) from None
    return decode_encoded(
        Encoded(data_type, data),
        frames=frames,
        max_frame_bytes=max_frame_bytes,
        max_json_values=max_json_values,
    )


def decode_encoded(encoded: Encoded, *, frames: FrameKind, max_frame_bytes: int, max_json_values: int) -> Any:
    """Read back what is known to be an `Encoded`; see `decode_data`.

    Raises:
        InvalidAnswer, ImportError: as there.
    """
    try:
        return _read(encoded.data, encoded.data_type, frames, max_frame_bytes, max_json_values)
    except ValueError as error:
        raise InvalidAnswer(str(error), encoded) from error.__cause__


class Arguments:
    """The arguments of a call, positional and by keyword: plain Python values.

    They are encoded together, on first use, and never again. So one `Arguments` may be given to any number of
    models and calls: it is encoded once and never copied. The values are encoded as they are at the first
    use, so do not change them before, or call `encode` first. After that, `Arguments` does not keep the
    values. Equality is identity::

        arguments = Arguments({"price": 101.5}, performance_metrics={})

    They may be used from several threads. A thread that uses them while another one encodes them is blocked
    until that is done. So an event loop first asks `takes_long_to_encode`, and if the answer is True, calls
    `encode` in a worker thread.

    The use of arguments that can't be sent raises what `encode` raises, every time with the same text. The
    text begins with the argument: ``argument payload.points[3].time: ...``, or
    ``argument 1 at points[3].time: ...``.

    Attributes:
        shape: the types of the positional arguments, and the keywords with the types of theirs. Calls with
            the same shape can be compared.
    """

    __slots__ = (
        "__weakref__",
        "_count",
        "_encoded",
        "_lock",
        "_made",
        "_names",
        "_refused",
        "_values",
        "shape",
    )

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        self.shape: Hashable = (
            tuple(map(type, args)),
            frozenset((name, type(value)) for name, value in kwargs.items()),
        )
        self._count = len(args)
        self._names = tuple(kwargs)
        self._values: tuple[tuple[Any, ...], dict[str, Any]] | None = (args, kwargs)
        self._encoded: tuple[tuple[Encoded, ...], Mapping[str, Encoded]] | None = None
        self._refused: tuple[type[TypeError] | type[ValueError], str] | None = None
        self._made: dict[Hashable, Any] = {}
        self._lock = threading.RLock()  # reentrant: `once` uses the encoded arguments

    def __repr__(self) -> str:
        """Show how many there are and the keywords, never a value."""
        parts = [f"{self._count} positional"] if self._count else []
        parts += [f"{as_argument(name)}=..." for name in self._names]
        return f"Arguments({', '.join(parts)})"

    @property
    def positional(self) -> tuple[Encoded, ...]:
        """The positional arguments, encoded; raises as `encode` does."""
        return self._encode_once()[0]

    @property
    def keyword(self) -> Mapping[str, Encoded]:
        """The keyword arguments, encoded, in their order; read-only; raises as `encode` does."""
        return self._encode_once()[1]

    @property
    def takes_long_to_encode(self) -> bool:
        """Whether they should be encoded in a thread: they are large, and are not encoded yet.

        This is a guess and takes microseconds. It is True as well while another thread encodes them.
        """
        values = self._values
        if values is None:
            return False
        args, kwargs = values
        return any(map(takes_long_to_encode, args)) or any(map(takes_long_to_encode, kwargs.values()))

    def encode(self) -> None:
        """Encode now, not on first use, so that a refusal comes before anything is sent.

        Raises:
            TypeError, ValueError, ImportError: see `encode`.
        """
        self._encode_once()

    def once(self, key: Hashable, make: Callable[[Arguments], T]) -> T:
        """Return what `make` makes of these arguments. The first call with a `key` makes it; it is kept.

        A service keeps its own wire form of the arguments here, so that a round's request is built once.
        """
        if key not in self._made:
            with self._lock:
                if key not in self._made:
                    self._made[key] = make(self)
        return cast("T", self._made[key])

    def _encode_once(self) -> tuple[tuple[Encoded, ...], Mapping[str, Encoded]]:
        if self._encoded is None:
            with self._lock:
                if self._encoded is None and self._refused is None:
                    self._try_to_encode()
            if self._refused is not None:
                kind, text = self._refused
                raise kind(text)
        assert self._encoded is not None
        return self._encoded

    def _try_to_encode(self) -> None:
        # Other exceptions (no pyarrow, a mapping of the caller's that fails) leave as they are, and the
        # values are kept for another try.
        assert self._values is not None
        args, kwargs = self._values
        try:
            positional = tuple(_encode_argument(position, value) for position, value in enumerate(args, 1))
            keyword = {name: _encode_argument(name, value) for name, value in kwargs.items()}
        except Refusal as refusal:
            self._refused = refusal.kind, str(refusal.to_error())
        else:
            self._encoded = positional, MappingProxyType(keyword)
        self._values = None


def _encode_argument(argument: str | int, value: Any) -> Encoded:
    try:
        if isinstance(argument, str):
            require_utf8(argument, what="its name")
        return _encode(value, None)
    except Refusal as refusal:
        raise refusal.in_argument(argument) from None


def _encode(value: Any, data_type: DataType | None) -> Encoded:
    if isinstance(value, Encoded):
        if data_type is not None and require_data_type(data_type) is not value.data_type:
            raise Refusal(ValueError, f"already encoded, as {value.data_type.name}, not {data_type.name}")
        return value
    value = _without_enum(value)
    data_type = _detect(value) if data_type is None else require_data_type(data_type)
    return Encoded(data_type, _write(data_type, value))


def _without_enum(value: Any) -> Any:
    while isinstance(value, enum.Enum):
        value = value.value
    return value


def _detect(value: Any) -> DataType:
    if value is None or isinstance(value, (dict, list)):
        return DataType.JSON
    if isinstance(value, str):
        return DataType.STRING
    number = as_number(value)
    if number is not None:
        return DataType.DOUBLE if isinstance(number, float) else DataType.INT
    return DataType.PARQUET if is_frame(value) else DataType.JSON


def _write(data_type: DataType, value: Any) -> bytes:
    match data_type:
        case DataType.JSON:
            return to_json(value)
        case DataType.STRING if isinstance(value, str):
            require_utf8(value)
            return value.encode("utf-8")
        case DataType.DOUBLE if (number := as_number(value)) is not None:
            try:
                return _DOUBLE.pack(float(number))
            except OverflowError:
                raise Refusal(ValueError, "the integer is too large for a DOUBLE") from None
        case DataType.INT if isinstance(number := as_number(value), int):
            if not _SMALLEST_INT <= number <= _LARGEST_INT:
                span = f"{_SMALLEST_INT} to {_LARGEST_INT}"
                raise Refusal(ValueError, f"the integer does not fit INT's signed 64 bits ({span})")
            return _INT.pack(number)
        case DataType.PARQUET if is_frame(value):
            return write_parquet(value)
        case DataType.ARROW if is_frame(value):
            return write_arrow(value)
        case DataType.NONE if value is None:
            return b""
    raise Refusal(TypeError, f"{type(value).__name__} can't be sent as {data_type.name}")


def _read(
    data: bytes, data_type: DataType, frames: FrameKind, max_frame_bytes: int, max_json_values: int
) -> Any:
    if data_type is _JSON:  # as most are; to look up an enum's member takes long
        return from_json(data, max_json_values)
    match data_type:
        case DataType.DOUBLE:
            return _DOUBLE.unpack(_of_length(8, data, data_type))[0]
        case DataType.INT:
            return _INT.unpack(_of_length(8, data, data_type))[0]
        case DataType.STRING:
            return _read_text(data)
        case DataType.NONE:
            _of_length(0, data, data_type)
            return None
        case DataType.PARQUET | DataType.ARROW:
            return present(read_plain(data, data_type, max_frame_bytes), frames)


def _of_length(length: int, data: bytes, data_type: DataType) -> bytes:
    if len(data) != length:
        raise ValueError(f"{data_type.name} of {len(data)} bytes instead of {length}")
    return data


def _read_text(data: bytes) -> str:
    try:
        return text_of_utf8(data)
    except UnicodeError as error:
        raise ValueError(f"STRING that is not UTF-8: {error}") from None
    except TextTooLargeError as error:
        raise ValueError(f"STRING of {error}") from None
