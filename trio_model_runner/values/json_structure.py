"""What JSON is made of, found out before it is decoded: how many values, how deep, and where it can be cut.

A few bytes of JSON can become many Python objects: ``[[],[],...]`` of 60 MB becomes 20 million lists, takes
gigabytes, and holds the interpreter's lock all the while. So the structure is looked at first: the commas,
colons and brackets that stand outside strings. All of that is done by methods of `bytes`, in C, and in pieces
of 128 KiB, so that other threads have their turn in between.

Nothing here refuses malformed JSON as such. It is counted as if it was well formed, and the decoder refuses
it later.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import accumulate, count
from typing import Final

__all__ = [
    "CLOSED_BY",
    "MAX_DEPTH",
    "MAX_JSON_VALUES",
    "PIECE_BYTES",
    "Structure",
    "TooDeepError",
    "is_deep",
    "last_comma",
    "piece_without_escapes",
]

MAX_DEPTH: Final = 256
"""How deep arrays and objects may be nested in each other."""

MAX_JSON_VALUES: Final = 500_000
"""How many values JSON may have. Each text, number, literal and key is one; an array or an object is four.

An empty array or object is five. Arrays and objects weigh more than numbers, since the garbage collector
visits them again and again, for as long as the coordinator keeps the answer.
"""

PIECE_BYTES: Final = 2**17
"""What is looked at, and decoded, at once. It takes 1 to 10 ms, with the interpreter's lock held."""

CLOSED_BY: Final = bytes.maketrans(b"[{", b"]}")
"""Turns opening brackets into those that close them."""

_VALUES_PER_BRACKET = 4
_BUT_STRUCTURE = bytes(set(range(256)) - set(b'[]{},:"'))
_OPENING_AND_CLOSING = bytes.maketrans(b"[{]}", b"\2\2\0\0")
_MOST_STRINGS_WITHOUT_COMMA = 2 * MAX_DEPTH


class TooDeepError(ValueError):
    """JSON is nested more than `MAX_DEPTH` deep."""


class Structure:
    """The structure of one text of JSON, as far as it was passed.

    Args:
        max_values: how many values there may be; see `MAX_JSON_VALUES`. None is no limit.

    Attributes:
        open: the brackets that are open at this place, outermost first.
        lowest: how many of those that were open when `begin_piece` was called have stayed so.
    """

    __slots__ = ("_count", "_max_values", "lowest", "open")

    def __init__(self, max_values: int | None) -> None:
        self.open = b""
        self.lowest = 0
        self._count = 1
        self._max_values = max_values

    def begin_piece(self) -> None:
        """Begin to note which brackets stay open."""
        self.lowest = len(self.open)

    def advance(self, text: bytes, *, quoted: bool = False) -> None:
        """Pass a part of the text.

        Args:
            text: it has no escapes, see `piece_without_escapes`.
            quoted: it begins inside a string.

        Raises:
            TooDeepError: it is nested too deeply.
            ValueError: there are too many values.
        """
        structure = _outside_strings(b'"' + text if quoted else text)
        brackets = structure.translate(None, b",:")
        opened = brackets.count(b"[") + brackets.count(b"{")
        rest, rounds = _without_pairs(brackets)
        if len(self.open) + opened > MAX_DEPTH:
            most = len(self.open) + rest.count(b"[") + rest.count(b"{") + 2 * rounds
            if most > MAX_DEPTH and _depth(brackets, len(self.open)) > MAX_DEPTH:
                raise TooDeepError
        self._count += len(structure) - len(brackets) + _VALUES_PER_BRACKET * opened
        if self._max_values is not None and self._count > self._max_values:
            raise ValueError(f"JSON of more than {self._max_values} values (max_json_values)")
        opening = rest.lstrip(b"]}")
        staying = max(0, len(self.open) - (len(rest) - len(opening)))
        self.open = self.open[:staying] + opening
        self.lowest = min(self.lowest, staying)


def piece_without_escapes(data: bytes, begin: int) -> bytes:
    r"""Take `PIECE_BYTES` from `begin`, or one more, with ``__`` for each ``\\`` and ``\"``.

    It does not end within one of the two. `begin` must be no escaped character, either.
    """
    piece = data[begin : begin + PIECE_BYTES]
    if piece.endswith(b"\\") and (len(piece) - len(piece.rstrip(b"\\"))) % 2:
        piece = data[begin : begin + PIECE_BYTES + 1]
    return piece.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in piece else piece


def last_comma(text: bytes, *, quoted: bool) -> int:
    """The index of the last comma outside strings; -1 if there is none.

    Args:
        text: a piece without escapes.
        quoted: it begins inside a string.
    """
    end = len(text)
    for _ in range(_MOST_STRINGS_WITHOUT_COMMA):
        comma = text.rfind(b",", 0, end)
        if comma < 0 or (text.count(b'"', 0, comma) + quoted) % 2 == 0:
            return comma
        end = text.rfind(b'"', 0, comma)  # of the string that the comma is in
        if end < 0:
            break
    return -1


def is_deep(data: bytes) -> bool:
    """Say whether JSON is nested more than `MAX_DEPTH` deep. The JSON must be well formed."""
    structure, begin, quoted = Structure(None), 0, False
    if len(data) <= MAX_DEPTH:
        return False
    while begin < len(data):
        piece = piece_without_escapes(data, begin)
        try:
            structure.advance(piece, quoted=quoted)
        except TooDeepError:
            return True
        quoted ^= piece.count(b'"') % 2 == 1
        begin += len(piece)
    return False


def _outside_strings(text: bytes) -> bytes:
    """The commas, colons and brackets of a text without escapes that stand outside its strings."""
    structure = text.translate(None, _BUT_STRUCTURE)
    outside = structure.replace(b'""', b"")
    # If a quote is left, some string has a comma, a colon or a bracket in it.
    return b"".join(structure.split(b'"')[::2]) if b'"' in outside else outside


def _without_pairs(brackets: bytes) -> tuple[bytes, int]:
    """Take away all pairs of brackets; and say in how many rounds, each of which is one or two levels.

    Raises:
        TooDeepError: there are too many.
    """
    for rounds in range(MAX_DEPTH + 1):
        rest = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(rest) == len(brackets):
            return rest, rounds
        brackets = rest
    raise TooDeepError


def _depth(brackets: bytes, depth: int) -> int:
    """How deep brackets are nested, of which so many are open before them."""
    # Each opening bracket counts 2, so that the sum less the number of brackets is the depth.
    counts = accumulate(brackets.translate(_OPENING_AND_CLOSING))
    depths: Iterator[int] = map(operator.sub, counts, count(1))
    return depth + max(depths, default=0)
