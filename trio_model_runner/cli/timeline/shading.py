"""Gives each cell of a model one of a few shades, and a picture in which each model is a row of pixels.

Blended colours would all go brown, so a cell has the one shade that says most:

1. A cell with a mass event in it shows how that round ended for the model.
2. If most results are ABSENT: ABSENT.
3. If at least half of the others are late: MOSTLY_LATE.
4. If at least a tenth of them failed, and not fewer than are late: FAILED.
5. If at least a tenth of them are late: SOME_LATE.
6. Otherwise, in which quarter of the time until the deadline the median answer came.

The colours are translucent, and lie on a light page or on a dark one; so one picture does for both. They were
chosen for people who see few colours, too: blue, red and amber, told apart by how light they are.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from .measuring import ABSENT, CODES, FAILED, IN_TIME, LATE, Measures

__all__ = ["COLOURS", "Colour", "Shade", "png", "rows_of", "shades_of"]


class Shade(enum.IntEnum):
    """What a cell shows; of several models that share a row of pixels, the greatest is shown."""

    NOTHING = 0
    FIRST_QUARTER = 1
    SECOND_QUARTER = 2
    THIRD_QUARTER = 3
    LAST_QUARTER = 4
    ABSENT = 5
    SOME_LATE = 6
    FAILED = 7
    MOSTLY_LATE = 8


@attrs.frozen
class Colour:
    """Red, green, blue and opacity, 0 to 255 each."""

    red: int
    green: int
    blue: int
    opacity: int

    def __str__(self) -> str:
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}{self.opacity:02x}"


COLOURS: Final = {
    Shade.NOTHING: Colour(0, 0, 0, 0),
    Shade.FIRST_QUARTER: Colour(40, 120, 200, 36),
    Shade.SECOND_QUARTER: Colour(40, 120, 200, 90),
    Shade.THIRD_QUARTER: Colour(40, 120, 200, 160),
    Shade.LAST_QUARTER: Colour(40, 120, 200, 255),
    Shade.ABSENT: Colour(128, 128, 128, 110),
    Shade.SOME_LATE: Colour(214, 40, 57, 140),
    Shade.FAILED: Colour(190, 134, 0, 255),
    Shade.MOSTLY_LATE: Colour(214, 30, 50, 255),
}

_BY_CODE: Final = {
    **{code: Shade(Shade.FIRST_QUARTER + code) for code in IN_TIME},
    FAILED: Shade.FAILED,
    LATE: Shade.MOSTLY_LATE,
    ABSENT: Shade.ABSENT,
}


def shades_of(measures: Measures, index: int) -> list[Shade]:
    """The shades of a model, one a cell."""
    shades = []
    for cell in measures.cells:
        event = cell.event.codes if cell.event is not None else b""
        if index < len(event) and event[index] < CODES:
            shades.append(_BY_CODE[event[index]])
        else:
            shades.append(shade(cell.counts_of(index)))
    return shades


def shade(counts: Sequence[int]) -> Shade:
    """The shade of a model's results in a cell, by rules 2 to 6."""
    results = sum(counts)
    if not results:
        return Shade.NOTHING
    if 2 * counts[ABSENT] > results:
        return Shade.ABSENT
    others = results - counts[ABSENT]
    late, failed = counts[LATE], counts[FAILED]
    if 2 * late >= others:
        return Shade.MOSTLY_LATE
    if 10 * failed >= others and failed >= late:
        return Shade.FAILED
    if 10 * late >= others:
        return Shade.SOME_LATE
    answers = sum(counts[:FAILED])
    for code in IN_TIME:
        if 2 * sum(counts[: code + 1]) >= answers:
            return _BY_CODE[code]
    raise AssertionError("half of the answers came in some quarter")


def rows_of(models: Iterable[Sequence[Shade]], per_row: int) -> list[bytes]:
    """Rows of pixels, for so many models each; the greatest shade of these is shown."""
    rows: list[bytes] = []
    several: list[Sequence[Shade]] = []
    for shades in models:
        several.append(shades)
        if len(several) == per_row:
            rows.append(bytes(map(max, zip(*several, strict=True))))
            several = []
    if several:
        rows.append(bytes(map(max, zip(*several, strict=True))))
    return rows


def png(rows: Sequence[bytes]) -> bytes:
    """A picture of shades, four bits a pixel (https://www.w3.org/TR/png-3/)."""
    width = len(rows[0])
    packed = bytearray()
    for row in rows:
        packed.append(0)  # no filter
        even = row + bytes(width % 2)
        packed += bytes(left << 4 | right for left, right in zip(even[::2], even[1::2], strict=True))
    palette = bytes(part for each in Shade for part in _rgb(COLOURS[each]))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), 4, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette),
            _chunk(b"tRNS", bytes(COLOURS[each].opacity for each in Shade)),
            _chunk(b"IDAT", zlib.compress(packed, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _rgb(colour: Colour) -> tuple[int, int, int]:
    return colour.red, colour.green, colour.blue


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
