"""JSON that a stranger sent, read within bounds and without holding up other threads.

Python's JSON is one call into C. While it runs no other thread does, so a worker thread does not help: with
60 MB the event loop would stand still for seconds. So large JSON is cut at commas into pieces of about 128
KiB. Each is made a text of JSON of its own, and what is decoded of it is added to what there is. For example,
``{"a":[1,2,3],"b":4}``, cut before the 3, becomes ``{"a":[1,2,">"]}`` and ``{"<":["<",3],"b":4}``.

The signs in it stand for a key, and for what is left out, since something must be on both sides of a comma.
They are taken away again. In truth they are random: otherwise a stranger could send them.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
from typing import Any, Final

import attrs

from ..abandoned import stop_if_abandoned
from .json_structure import (
    CLOSED_BY,
    MAX_DEPTH,
    MAX_JSON_VALUES,
    PIECE_BYTES,
    Structure,
    TooDeepError,
    last_comma,
    piece_without_escapes,
)
from .text_reading import TextTooLargeError, text_of_json

__all__ = ["LONGEST_GAP_BYTES", "LONGEST_TOKEN_BYTES", "from_json"]

LONGEST_TOKEN_BYTES: Final = 2**21
"""A key in JSON may be refused from so many bytes on. A longer text is decoded by itself, in pieces."""

LONGEST_GAP_BYTES: Final = 2 * LONGEST_TOKEN_BYTES
"""From one comma to the next there may be so many bytes, and one long text: they are decoded at once."""

_MAX_DIGITS = 10_000  # of whole numbers, where Python has no limit; so many take 0.3 ms, ten times as many 30
_LONG_KEY = f"a key of more than {LONGEST_TOKEN_BYTES >> 20} MiB"
_LONG_GAP = f"more than {LONGEST_GAP_BYTES >> 20} MiB between two commas"
_SURROGATE_ESCAPE = re.compile(r"\\u[dD]")


def from_json(data: bytes, max_values: int = MAX_JSON_VALUES) -> Any:
    """Read JSON in UTF-8. If a key comes twice, the later one counts.

    Args:
        data: the JSON.
        max_values: how many values there may be; see `MAX_JSON_VALUES`.

    Raises:
        ValueError: the JSON is malformed; it has too many values, is nested too deeply, or something in it is
            too long: see `LONGEST_TOKEN_BYTES`, `LONGEST_GAP_BYTES` and `text_reading.MAX_TEXT_MEMORY`; or
            the value could not be sent again: lone surrogates, whole numbers with too many digits for Python
            (`sys.set_int_max_str_digits`; 10,000 at most, whatever that is).
    """
    try:
        if len(data) > PIECE_BYTES:
            return _Reader(data, max_values).read()
        # Few bytes can't be many values, and few brackets can't be deep.
        may_be_deep = len(data) > MAX_DEPTH and data.count(b"[") + data.count(b"{") > MAX_DEPTH
        if may_be_deep or 5 * len(data) > max_values:
            structure = Structure(max_values)
            structure.advance(data.replace(rb"\\", b"__").replace(rb"\"", b"__"))
        return _decode(_decoder(), _to_text(data, 0), is_piece=False)
    except TooDeepError:
        raise ValueError(f"JSON that is nested too deeply: more than {MAX_DEPTH} levels") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deeply for the stack that was left") from None


def _in_order(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose last key comes last, though it may have come before."""
    made = dict(pairs)
    if pairs:
        made[pairs[-1][0]] = made.pop(pairs[-1][0])
    return made


def _bounded_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits, more than {_MAX_DIGITS}")
    return int(digits)


_DECODER = json.JSONDecoder()
_DECODER_OF_MANY_DIGITS = json.JSONDecoder(parse_int=_bounded_int)
_DECODER_IN_ORDER = json.JSONDecoder(object_pairs_hook=_in_order, parse_int=_bounded_int)


def _decoder() -> json.JSONDecoder:
    """The quickest decoder that does not take long over the digits of a number."""
    return _DECODER if 0 < sys.get_int_max_str_digits() <= _MAX_DIGITS else _DECODER_OF_MANY_DIGITS


def _to_text(data: bytes, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"JSON that is not UTF-8: {error.reason} at byte {offset + error.start}") from None


def _decode(decoder: json.JSONDecoder, text: str, *, is_piece: bool) -> Any:
    try:
        value = _scanned(decoder, text)
        # JSON can spell lone surrogates, and UTF-8 can't. A program that writes such an answer to a file
        # would fail.
        if _SURROGATE_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("JSON with a lone surrogate in it") from None
    except json.JSONDecodeError as error:
        reason = error.msg if is_piece else error  # which has a place, and in a piece that is another
        raise ValueError(f"JSON that can't be read: {reason}") from None
    except ValueError as error:
        raise ValueError(f"JSON that can't be read: {error}") from None
    return value


def _scanned(decoder: json.JSONDecoder, text: str) -> Any:
    """The same as ``decoder.decode(text)``, in half the time where there is no white space around it."""
    try:
        value, end = decoder.scan_once(text, 0)  # type: ignore[attr-defined]
    except StopIteration:
        end = -1
    return value if end == len(text) else decoder.decode(text)


@attrs.frozen
class _LongText:
    """A text that is longer than `LONGEST_TOKEN_BYTES`.

    Attributes:
        begin: where its first quote is.
        end: where its last quote is.
        text: the text.
    """

    begin: int
    end: int
    text: str


class _Reader:
    """Reads one large text of JSON, piece by piece."""

    def __init__(self, data: bytes, max_values: int) -> None:
        self._data = data
        self._structure = Structure(max_values)
        self._open: list[Any] = []  # the arrays and objects in which the next piece begins, outermost first
        mark = secrets.token_hex(8)
        self._first, self._last, self._in_place_of_text = f"<{mark}", f"{mark}>", f"<{mark}>"
        self._text: _LongText | None = None

    def read(self) -> Any:
        """Read it all; raises as `from_json` does."""
        begin, whole = 0, None
        while begin <= len(self._data):
            stop_if_abandoned()
            opened = self._structure.open
            end = self._pass_to_comma(begin)
            try:
                value = self._read_piece(begin, end, opened)
            except ValueError as error:
                raise ValueError(f"{error}, in bytes {begin} to {end}") from None
            if begin == 0:
                whole = value
            begin = end + 1
        return whole

    def _pass_to_comma(self, begin: int) -> int:
        """Pass on to the last comma of the next piece, to a later one if it has none, or to the end."""
        place, quoted, structure = begin, False, self._structure
        first_quote = long_bytes = 0
        structure.begin_piece()
        self._text = None
        while place < len(self._data):
            stop_if_abandoned()
            piece = piece_without_escapes(self._data, place)
            comma = last_comma(piece, quoted=quoted)
            found = comma >= 0 and place + len(piece) < len(self._data)
            structure.advance(piece[: comma + 1] if found else piece, quoted=quoted)
            if found:
                return place + comma
            quoted ^= piece.count(b'"') % 2 == 1
            if b'"' in piece:
                first_quote = place + piece.rfind(b'"')
            place += len(piece)
            if place >= len(self._data):
                break
            if quoted and place - first_quote > LONGEST_TOKEN_BYTES:
                if self._text is not None:  # a key, and now its value
                    raise ValueError(f"JSON with {_LONG_KEY}, in bytes {begin} to {place}")
                text, place = self._long_text(first_quote + 1)
                self._text = _LongText(first_quote, place, text)
                long_bytes = place - first_quote
            elif place - begin - long_bytes > LONGEST_GAP_BYTES:
                raise ValueError(f"JSON with {_LONG_GAP}, in bytes {begin} to {place}")
        return place

    def _long_text(self, begin: int) -> tuple[str, int]:
        try:
            return text_of_json(self._data, begin)
        except UnicodeError as error:
            raise ValueError(f"JSON that is not UTF-8: {error}") from None
        except TextTooLargeError as error:
            raise ValueError(f"JSON with {error}") from None

    def _read_piece(self, begin: int, end: int, opened: bytes) -> Any:
        """Read the piece between two commas and add it to what there is.

        Args:
            begin: behind the first comma, or at the begin of the JSON.
            end: at the second comma, or at the end of the JSON.
            opened: the brackets that are open at the first.

        Returns:
            what the piece has become; of the first one, that is the value itself.
        """
        structure = self._structure
        final = end == len(self._data)
        text = self._prefix(opened) + self._piece(begin, end)
        if not final:
            text += self._suffix(structure.open)
        for decoder in (_decoder(), _DECODER_IN_ORDER):
            whole_piece = [_decode(decoder, text, is_piece=True)]
            parts = self._left(whole_piece[0], opened)
            self._put_text(parts[-1] if parts else whole_piece)
            staying = [whole_piece, *parts][: 1 + structure.lowest]
            new = [] if final else self._right(staying[-1], structure.open[structure.lowest :])
            if new is not None:  # else a key that is open came before in its object
                break
        assert new is not None
        for whole, part in zip(self._open, parts, strict=True):
            if isinstance(whole, list):
                whole.extend(part)
            else:
                whole.update(part)
        self._open = self._open[: structure.lowest] + new
        return whole_piece[0]

    def _piece(self, begin: int, end: int) -> str:
        """The text of a piece, with a mark in the place of the long text that is in it."""
        if self._text is None:
            return _to_text(self._data[begin:end], begin)
        before = _to_text(self._data[begin : self._text.begin], begin)
        behind = _to_text(self._data[self._text.end + 1 : end], self._text.end + 1)
        if behind.lstrip(" \t\n\r").startswith(":"):
            raise ValueError(f"JSON with {_LONG_KEY}")
        return f'{before}"{self._in_place_of_text}"{behind}'

    def _put_text(self, place: Any) -> None:
        """Put the long text into its place, which is the first in the first array or object, and so on."""
        if self._text is None:
            return
        while place:
            key: Any = 0 if isinstance(place, list) else next(iter(place))
            if place[key] == self._in_place_of_text:
                place[key] = self._text.text
            place = place[key] if isinstance(place[key], (list, dict)) else None

    def _prefix(self, opened: bytes) -> str:
        """Open the brackets that are open where a piece begins; in the innermost comes a mark first."""
        keyed = f'{{"{self._first}":'
        inner = {ord("["): f'["{self._first}",', ord("{"): f"{keyed}0,"}
        outer = {ord("["): "[", ord("{"): keyed}
        return "".join([outer[each] for each in opened[:-1]] + [inner[each] for each in opened[-1:]])

    def _suffix(self, opened: bytes) -> str:
        """Close the brackets that are open where a piece ends. The innermost gets a mark as its last item."""
        mark = f',"{self._last}"' if opened.endswith(b"[") else f',"{self._last}":0'
        return mark + opened[::-1].translate(CLOSED_BY).decode()

    def _left(self, value: Any, opened: bytes) -> list[Any]:
        """What there is for each array and object in which a piece begins, outermost first, without marks."""
        parts = []
        for bracket in opened:
            parts.append(value)
            value = value.pop(0) if bracket == ord("[") else value.pop(self._first)
        return parts

    def _right(self, value: Any, opened: bytes) -> list[Any] | None:
        """The new arrays and objects that go on where a piece ends, outermost first.

        The mark in the innermost is taken away. It also proves that the way was right; else this is None.

        Args:
            value: the innermost that goes on and is not new, or a list of the whole value.
            opened: the brackets of the new ones.
        """
        new = []
        for bracket in opened:
            items = value if isinstance(value, list) else value.values()
            value = next(reversed(items), None)
            if not isinstance(value, list if bracket == ord("[") else dict):
                return None
            new.append(value)
        if isinstance(value, list):
            return new if value and value.pop() == self._last else None
        return new if value.pop(self._last, None) == 0 else None
