r"""The JSON in messages, written and read strictly.

Python's JSON takes more than JSON has: NaN, an object with the same key twice, ``1e999`` as infinity, and
text with lone surrogates, which nobody can write to a file. All of these are refused here, as is what is
nested too deeply or has too many values. What is written has none of them: a lone surrogate in a text becomes
``\ud83d``, written out. This module must not know what the JSON is about.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from ..text import quoted
from ..values.json_structure import MAX_DEPTH, MAX_JSON_VALUES, Structure, TooDeepError

__all__ = ["WireError", "read_json", "write_json"]

_MOST_DIGITS: Final = 5_000
"""Of a whole number. Python itself writes and reads 4300, unless a program lifts that."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD]")


class WireError(ValueError):
    """Bytes are no message, or a message can't be made bytes. The text says what is wrong where."""


def write_json(value: Any) -> bytes:
    """Write JSON in UTF-8. Mappings of all kinds are objects, and tuples are arrays.

    Raises:
        WireError: there is something in it that JSON does not have.
    """
    try:
        text = _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"can't be sent: {error}") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub(_written_out, text).encode()


def _written_out(match: re.Match[str]) -> str:
    return f"\\\\u{ord(match[0]):04x}"


def _object(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_object
)


def read_json(data: bytes) -> Any:
    """Read JSON in UTF-8.

    Many small values take at most 60 MB meanwhile, and long texts four times their bytes, or twice that for a
    moment.

    Raises:
        WireError: it is malformed, too deep or too large.
    """
    try:
        # Few bytes can't be many values, and few brackets can't be deep.
        if 5 * len(data) > MAX_JSON_VALUES or data.count(b"[") + data.count(b"{") > MAX_DEPTH:
            Structure(MAX_JSON_VALUES).advance(data.replace(rb"\\", b"__").replace(rb"\"", b"__"))
        text = data.decode()
        value = _DECODER.decode(text)
        if _SURROGATE_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (TooDeepError, RecursionError):
        raise WireError("has JSON that is nested too deeply") from None
    except UnicodeError:
        raise WireError("has JSON that is not UTF-8, or with a lone surrogate in it") from None
    except WireError:
        raise
    except ValueError as error:
        raise WireError(f"has JSON that can't be read: {error}") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise WireError("has JSON with a key that comes twice in its object")
    return made


def _refuse_constant(text: str) -> NoReturn:
    raise WireError(f"has JSON with {text}, which is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise WireError(f"has JSON with a number that is too large: {quoted(text, 40)}")
    return number


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise WireError(f"has JSON with a whole number of {len(digits)} digits")
    return int(digits)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole
)
