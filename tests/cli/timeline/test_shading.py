"""Shading: the rules of a cell's colour, and colours that can be told apart, by whoever looks at them."""

from __future__ import annotations

import itertools
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.cli.timeline.measuring import ABSENT, CODES, FAILED, LATE, Cell, Event, Measures, Model
from trio_model_runner.cli.timeline.page import DARK, LIGHT
from trio_model_runner.cli.timeline.shading import COLOURS, Shade, png, rows_of, shade, shades_of


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([0, 0, 0, 0, 0, 0, 0], Shade.NOTHING),
        ([1, 0, 0, 0, 0, 0, 0], Shade.FIRST_QUARTER),
        ([5, 5, 0, 0, 0, 0, 0], Shade.FIRST_QUARTER),
        ([5, 6, 0, 0, 0, 0, 0], Shade.SECOND_QUARTER),
        ([4, 0, 5, 0, 0, 0, 0], Shade.THIRD_QUARTER),
        ([4, 0, 0, 5, 0, 0, 0], Shade.LAST_QUARTER),
        ([0, 0, 9, 0, 0, 0, 9], Shade.THIRD_QUARTER),
        ([9, 0, 0, 0, 0, 0, 10], Shade.ABSENT),
        ([0, 0, 0, 0, 0, 0, 1], Shade.ABSENT),
        ([10, 0, 0, 0, 0, 1, 0], Shade.FIRST_QUARTER),
        ([9, 0, 0, 0, 0, 1, 0], Shade.SOME_LATE),
        ([5, 0, 0, 0, 0, 4, 0], Shade.SOME_LATE),
        ([5, 0, 0, 0, 0, 5, 0], Shade.MOSTLY_LATE),
        ([5, 0, 0, 0, 0, 5, 9], Shade.MOSTLY_LATE),
        ([9, 0, 0, 0, 1, 0, 0], Shade.FAILED),
        ([10, 0, 0, 0, 1, 0, 0], Shade.FIRST_QUARTER),
        ([6, 0, 0, 0, 2, 2, 0], Shade.FAILED),
        ([6, 0, 0, 0, 1, 2, 0], Shade.SOME_LATE),
        ([0, 0, 0, 0, 5, 5, 0], Shade.MOSTLY_LATE),
        ([0, 0, 0, 0, 1, 0, 0], Shade.FAILED),
    ],
)
def test_a_cell_has_the_shade_that_says_most(counts: list[int], expected: Shade) -> None:
    assert shade(counts) is expected


@given(st.lists(st.integers(0, 900), min_size=CODES, max_size=CODES))
def test_a_cell_has_a_shade_of_something_that_is_in_it(counts: list[int]) -> None:
    found = shade(counts)
    needs = {
        Shade.NOTHING: not any(counts),
        Shade.ABSENT: counts[ABSENT] > 0,
        Shade.FAILED: counts[FAILED] > 0,
        Shade.SOME_LATE: counts[LATE] > 0,
        Shade.MOSTLY_LATE: counts[LATE] > 0,
    }
    assert needs.get(found, any(counts[:FAILED]))


def test_a_cell_with_a_mass_event_shows_how_that_round_ended() -> None:
    plain, event = Cell("1", 0.0), Cell("2", 0.0)
    for cell in (plain, event):
        cell.grow(3)
        cell.counts[0] = cell.counts[CODES] = cell.counts[2 * CODES] = 99
    event.event = Event(2, 0.0, 5, 1.0, 1.0, bytes([LATE, CODES]))
    measures = Measures("predict", [Model("m0"), Model("took no part"), Model("came later")], [plain, event])
    first = Shade.FIRST_QUARTER
    assert shades_of(measures, 0) == [first, Shade.MOSTLY_LATE]
    assert shades_of(measures, 1) == shades_of(measures, 2) == [first, first]


def test_models_that_share_a_row_show_the_worst() -> None:
    models = [[Shade(number), Shade.NOTHING] for number in (1, 8, 4, 7, 2)]
    assert rows_of(models, 1) == [b"\1\0", b"\x08\0", b"\4\0", b"\7\0", b"\2\0"]
    assert rows_of(models, 2) == [b"\x08\0", b"\7\0", b"\2\0"]


@given(st.integers(1, 9), st.lists(st.integers(0, 8), min_size=1, max_size=60))
def test_the_picture_has_the_shades(width: int, shades: list[int]) -> None:
    rows = [bytes((shades * width)[at : at + width]) for at in range(0, len(shades), width)]
    drawn = png(rows)
    assert drawn.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, rest = {}, drawn[8:]
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        kind, data, check = rest[4:8], rest[8 : 8 + length], rest[8 + length : 12 + length]
        assert zlib.crc32(kind + data) == int.from_bytes(check)
        chunks[kind], rest = data, rest[12 + length :]
    assert list(chunks) == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBB", chunks[b"IHDR"][:10]) == (width, len(rows), 4, 3)
    packed = zlib.decompress(chunks[b"IDAT"])
    stride = 1 + (width + 1) // 2
    unpacked = [
        bytes(nibble for byte in packed[at + 1 : at + stride] for nibble in (byte >> 4, byte & 15))[:width]
        for at in range(0, len(packed), stride)
    ]
    assert unpacked == rows


# Colours

SEEING = {
    "all colours": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no blue": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
"""What of red, green and blue is seen (Machado, Oliveira and Fernandes 2009, severity 1)."""

Light = tuple[float, ...]


def linear(part: float) -> float:
    part /= 255
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def on_page(page: str) -> dict[Shade, Light]:
    """The light of each shade on a page."""
    below = [int(page[at : at + 2], 16) for at in (1, 3, 5)]
    lights = {}
    for each, colour in COLOURS.items():
        part = colour.opacity / 255
        above = (colour.red, colour.green, colour.blue)
        lights[each] = tuple(linear(part * a + (1 - part) * b) for a, b in zip(above, below, strict=True))
    return lights


def contrast(one: Light, other: Light) -> float:
    """By WCAG 2."""
    low, high = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (one, other))
    return (high + 0.05) / (low + 0.05)


def seen(light: Light, matrix: list[list[float]]) -> Light:
    return tuple(
        min(1.0, max(0.0, sum(m * part for m, part in zip(row, light, strict=True)))) for row in matrix
    )


def lab(light: Light) -> Light:
    """As CIELAB has it, where distances are what eyes see."""
    to_xyz = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = [sum(m * part for m, part in zip(row, light, strict=True)) for row in to_xyz]
    x, y, z = (
        part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116
        for part in (each / white for each, white in zip(xyz, (0.9505, 1.0, 1.089), strict=True))
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("page", [LIGHT["page"], DARK["page"]])
@pytest.mark.parametrize("matrix", SEEING.values(), ids=SEEING)
def test_shades_can_be_told_apart(page: str, matrix: list[list[float]]) -> None:
    """Troubles by far from whatever is well, and from each other."""
    labs = {each: lab(seen(light, matrix)) for each, light in on_page(page).items()}
    troubles = {Shade.SOME_LATE, Shade.FAILED, Shade.MOSTLY_LATE}
    for one, other in itertools.combinations(Shade, 2):
        apart = sum((a - b) ** 2 for a, b in zip(labs[one], labs[other], strict=True)) ** 0.5
        assert apart > (15 if other in troubles and one is not Shade.ABSENT else 9), (one, other)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_what_matters_has_contrast(colours: dict[str, str]) -> None:
    """3 for pictures, 4.5 for texts, as WCAG 2 asks for."""
    lights = on_page(colours["page"])
    page = lights[Shade.NOTHING]
    for each in (Shade.FAILED, Shade.MOSTLY_LATE, Shade.LAST_QUARTER):
        assert contrast(lights[each], page) > 3, each
    for name, least in (("text", 4.5), ("soft", 4.5), ("deadline", 3.0), ("median", 3.0)):
        assert contrast(on_page(colours[name])[Shade.NOTHING], page) > least, name
