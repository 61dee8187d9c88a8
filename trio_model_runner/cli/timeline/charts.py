"""Draws the charts of the page, as SVG: times against the deadline, rounds without answers, rows of cells.

Every chart is as wide as its place, whatever that is: a cell is one unit wide, and is stretched. So charts
hold no text; what is written beside them is SVG that is not stretched, and placed in percent of its width.

Everything here is drawn from numbers; the names of rounds are all that comes from outside.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from .measuring import Cell
from .shading import Shade
from .words import round_name

__all__ = ["Scale", "missed", "rounds_axis", "row", "seconds_axis", "seconds_labels", "swatch", "times"]

HEIGHT: Final = 132
MISSED_HEIGHT: Final = 34
ROW_HEIGHT: Final = 14
LABEL_GAP: Final = 15


class Scale:
    """Where seconds are, from the bottom of a chart to its top.

    Attributes:
        ticks: seconds at which the axis has a number.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        deadlines = [cell.deadline for cell in cells if cell.deadline]
        top = max([*deadlines, *(slow_of(cell) or 0.0 for cell in cells)], default=0.0) * 1.1
        self._top = top if top > 0.001 else 1.0  # a record has tenths of milliseconds
        step = next(each for each in _steps(self._top) if self._top / each < 5)
        self.ticks = [step * number for number in range(int(self._top / step) + 1)]

    def y(self, seconds: float) -> float:
        """In pixels from the top."""
        return round(HEIGHT * (1 - min(seconds / self._top, 1.0)), 1)


def _steps(top: float) -> Iterable[float]:
    power = math.floor(math.log10(top)) - 1
    return (digit * 10.0 ** (power + more) for more in range(3) for digit in (1, 2, 5))


def median_of(cell: Cell) -> float | None:
    """The median of a cell's mass event, or else the mean of its rounds' medians; None if it has no times."""
    if cell.event is not None:
        return cell.event.median
    return cell.median / cell.timed if cell.timed else None


def slow_of(cell: Cell) -> float | None:
    """What 95 % took at most, as `median_of` is."""
    if cell.event is not None:
        return cell.event.slow
    return cell.slow / cell.timed if cell.timed else None


def times(cells: Sequence[Cell], scale: Scale) -> str:
    """The median, the 95 %, and the deadline."""
    grid = "".join(f"M0 {scale.y(tick)}H{len(cells)}" for tick in scale.ticks)
    return _chart(
        "times of the answers",
        len(cells),
        HEIGHT,
        f'<path class="grid-line" d="{grid}"/>'
        f'<path class="band" d="{_area([slow_of(cell) for cell in cells], scale)}"/>'
        f'<path class="median" d="{_line([median_of(cell) for cell in cells], scale)}"/>'
        f'<path class="deadline" d="{_line([cell.deadline for cell in cells], scale)}"/>',
    )


def missed(cells: Sequence[Cell]) -> str:
    """Which share of the models gave no answer, in the worst round of each cell."""
    bars = "".join(
        f"M{at} {MISSED_HEIGHT}v{-max(1.0, cell.missed * MISSED_HEIGHT):.1f}h1V{MISSED_HEIGHT}z"
        for at, cell in enumerate(cells)
        if cell.missed
    )
    return _chart(
        "models without an answer",
        len(cells),
        MISSED_HEIGHT,
        f'<path class="grid-line" d="M0 0H{len(cells)}M0 {MISSED_HEIGHT}H{len(cells)}"/>'
        f'<path class="s{Shade.MOSTLY_LATE:d}" d="{bars}"/>',
    )


def row(shades: Sequence[Shade], redeployed: Iterable[int] = ()) -> str:
    """A model's cells, and lines where it was deployed anew. It is for those who see; words are beside it."""
    paths: dict[Shade, str] = {}
    at = 0
    for shade, group in itertools.groupby(shades):
        count = len(list(group))
        if shade is not Shade.NOTHING:
            paths[shade] = paths.get(shade, "") + f"M{at} 0h{count}v1h-{count}z"
        at += count
    drawn = "".join(f'<path class="s{shade:d}" d="{path}"/>' for shade, path in sorted(paths.items()))
    if marks := "".join(f"M{each} 0v1" for each in redeployed):
        drawn += f'<path class="redeployed" d="{marks}"/>'
    return (
        f'<svg class="row" aria-hidden="true" width="100%" height="{ROW_HEIGHT}" '
        f'viewBox="0 0 {len(shades)} 1" preserveAspectRatio="none">{drawn}</svg>'
    )


def swatch(shade: Shade) -> str:
    """What stands for a shade in the legend."""
    square = f'<rect class="s{shade:d}" width="22" height="12"/>'
    return f'<svg width="22" height="12" aria-hidden="true">{square}</svg>'


def seconds_axis(scale: Scale) -> str:
    """The numbers at the left of the times."""
    digits = 0 if scale.ticks[1] >= 1 else -math.floor(math.log10(scale.ticks[1]))
    texts = [(scale.y(tick), f"{tick:.{digits}f} s") for tick in scale.ticks]
    return _texts(texts, "left", 'x="100%" text-anchor="end"')


def seconds_labels(cells: Sequence[Cell], scale: Scale) -> str:
    """The names at the right of the times, each beside the end of its line, but none over another."""
    ends = {"deadline": [cell.deadline for cell in cells]}
    ends |= {"95%": [slow_of(cell) for cell in cells], "median": [median_of(cell) for cell in cells]}
    placed = []
    last = -float(LABEL_GAP)
    for name, line in ends.items():
        if (end := next((each for each in reversed(line) if each is not None), None)) is not None:
            placed.append((max(scale.y(end), last + LABEL_GAP), name))
            last = placed[-1][0]
    lowest = float(HEIGHT)
    for at in reversed(range(len(placed))):
        y, name = placed[at]
        placed[at] = (min(y, lowest), name)
        lowest = placed[at][0] - LABEL_GAP
    return _texts(placed, "right", 'x="0"')


def rounds_axis(cells: Sequence[Cell], last: float) -> str:
    """Rounds and times of day, below the cells.

    Args:
        cells: those above.
        last: when the last round was, in POSIX seconds.
    """
    first = cells[0].started
    form = "%H:%M:%S" if last - first < 600 else "%H:%M" if last - first < 86_400 else "%-d %b %H:%M"
    texts = []
    count = min(5, len(cells))
    for number in range(count):
        at = number * len(cells) // count
        name = html.escape(round_name(cells[at].round_id))
        x = f"{100 * at / len(cells):.2f}%"
        time = datetime.fromtimestamp(cells[at].started, UTC).strftime(form)
        texts.append(
            f'<text x="{x}" y="13">{"round " * (not number)}{name}</text><text x="{x}" y="28">{time}</text>'
        )
    return f'<svg class="axis" width="100%" height="34">{"".join(texts)}</svg>'


def _chart(label: str, width: int, height: int, drawn: str) -> str:
    return (
        f'<svg class="chart" role="img" aria-label="{label}" width="100%" height="{height}" '
        f'viewBox="0 0 {width} {height}" preserveAspectRatio="none">{drawn}</svg>'
    )


def _line(values: Sequence[float | None], scale: Scale) -> str:
    """A line with a step at each cell, and gaps where there is nothing."""
    drawn, pen = [], False
    for at, value in enumerate(values):
        if value is not None:
            drawn.append(f"V{scale.y(value)}H{at + 1}" if pen else f"M{at} {scale.y(value)}H{at + 1}")
        pen = value is not None
    return "".join(drawn)


def _area(values: Sequence[float | None], scale: Scale) -> str:
    return "".join(
        f"M{at} {HEIGHT}V{scale.y(value)}h1V{HEIGHT}z" for at, value in enumerate(values) if value is not None
    )


def _texts(placed: Iterable[tuple[float, str]], side: str, where: str) -> str:
    texts = "".join(f'<text {where} y="{y + 4:.1f}">{text}</text>' for y, text in placed)
    return f'<svg class="axis {side}" height="{HEIGHT}">{texts}</svg>'
