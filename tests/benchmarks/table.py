"""The table that a comparison ends in, for people (Markdown) and for programs (JSON)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from measure_kinds import Absolute, Comparison, Measure
from runs import Result, Run

__all__ = ["Row", "as_markdown", "fill_row"]

UNITS = {"us": 1e6, "ms": 1e3, "s": 1.0, "KB": 1e-3, "MB": 1e-6, "": 1.0}
"""How many of each are in a second or a byte; a number has none."""


@dataclass(frozen=True)
class Row:
    """What became of one measure.

    Attributes:
        cells: as the table has them.
        data: the same for programs, in seconds and bytes.
        met: whether the target was met; None if there is none.
    """

    cells: tuple[str, ...]
    data: dict[str, Any]
    met: bool | None


def fill_row(measure: Measure, rounds: Sequence[Mapping[Run, Result]]) -> Row:
    """The row of a measure, from the results of all times that its runs were performed."""
    rounds = [results for results in rounds if all(run in results for run in measure.runs)]
    if isinstance(measure, Absolute):
        return absolute_row(measure, rounds)
    return comparison_row(measure, rounds)


def comparison_row(measure: Comparison, rounds: Sequence[Mapping[Run, Result]]) -> Row:
    bases = [measure.base.of(results) for results in rounds]
    ours = [measure.ours.of(results) for results in rounds]
    ratios = [our / base for our, base in zip(ours, bases, strict=True)]
    ratio = statistics.median(ratios)
    met = None if measure.target is None else ratio <= measure.target
    base_cell, our_cell = (in_unit(statistics.median(each), measure.unit) for each in (bases, ours))
    if not measure.paired:
        base_cell, our_cell = "", f"{our_cell} / {base_cell}"
    cells = (
        measure.title,
        base_cell,
        our_cell,
        f"{ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        "" if measure.target is None else f"<= {measure.target}",
        verdict(met),
    )
    data = {
        "key": measure.key,
        "title": measure.title,
        "unit": plain_unit(measure.unit),
        measure.base.client.name if measure.paired else "base": bases,
        "ours": ours,
        "ratio": {"median": ratio, "min": min(ratios), "max": max(ratios)},
        "target": measure.target,
        "met": met,
    }
    return Row(cells, data, met)


def absolute_row(measure: Absolute, rounds: Sequence[Mapping[Run, Result]]) -> Row:
    samples = [sample for results in rounds for sample in measure.samples_of(results)]
    figure = measure.summary(samples)
    met = None if measure.target is None else figure <= measure.target
    least, greatest = (each(samples) * UNITS[measure.unit] for each in (min, max))
    spread = f" ({least:.3g}-{greatest:.3g})" if measure.ranged and len(samples) > 1 else ""
    cells = (
        measure.title,
        "",
        in_unit(figure, measure.unit) + spread,
        "",
        "" if measure.target is None else f"<= {in_unit(measure.target, measure.unit)}",
        verdict(met),
    )
    data = {
        "key": measure.key,
        "title": measure.title,
        "unit": plain_unit(measure.unit),
        "ours": figure,
        "samples": samples,
        "target": measure.target,
        "met": met,
    }
    return Row(cells, data, met)


def in_unit(figure: float, unit: str) -> str:
    """A figure as one reads it, to three digits."""
    scaled = figure * UNITS[unit]
    return (f"{scaled:.3g} {unit}" if abs(scaled) < 100 else f"{scaled:.0f} {unit}").rstrip()


def plain_unit(unit: str) -> str:
    """What programs read the same figures in."""
    return "bytes" if unit.endswith("B") else "seconds" if unit else ""


def verdict(met: bool | None) -> str:
    return "" if met is None else "yes" if met else "**no**"


def as_markdown(rows: Sequence[Row], base: str) -> str:
    """The rows as a table, aligned for those who read it as it is.

    Args:
        rows: the rows.
        base: the name of the client that ours is compared with.
    """
    headings = ("measure", base, "ours", "ratio (min-max)", "target", "met")
    lines = [headings, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    text.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in text)
