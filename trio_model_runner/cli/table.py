"""The tables of results: a row for each model, on one line each, whatever a model is called or says.

A reader wants to see at once which models were in time, and by how much. So times are drawn as bars: a full
bar is the whole time until the deadline, and the deadline is a line down the table. Statuses are words, so
the table can be read without colours.

Tables are made of plain rows and know nothing of clusters. Texts in rows may come from outside; see `clean`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs
from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from ..values.results import Status
from .output import clean

__all__ = [
    "STYLES",
    "Row",
    "TallyRow",
    "bar",
    "fit",
    "name_width",
    "plain_table",
    "round_table",
    "tally_table",
]

STYLES: Final = {
    Status.SUCCESS: "green",
    Status.FAILED: "red",
    Status.TIMEOUT: "yellow",
    Status.SKIPPED: "bright_black",
    Status.ABSENT: "bright_black",
}

_WAITING: Final = "waiting"
_SECONDS_WIDTH: Final = 7
_STATUS_WIDTH: Final = max(len(each) for each in (*Status, _WAITING))
_WIDEST_NAME: Final = 24
_GAP: Final = 2
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


@attrs.frozen
class Row:
    """What a round's table says of one model.

    Attributes:
        name: the model's.
        status: how its call ended; None while the call goes on.
        elapsed: seconds that the call took, or has taken so far.
        text: its value or what went wrong, in a few words.
    """

    name: str
    status: Status | None = None
    elapsed: float = 0.0
    text: str = ""


@attrs.frozen
class TallyRow:
    """What became of one model's calls in several rounds.

    Attributes:
        name: the model's.
        counts: how many calls ended in each status.
        mean: seconds that its successes took on average; None if it had none.
        text: what there is to say about it.
    """

    name: str
    counts: dict[Status, int]
    mean: float | None
    text: str = ""


def bar(fraction: float, width: int, *, ascii_only: bool = False) -> str:
    """Draw a fraction, 0 to 1, as a bar in `width` cells. Every fraction above 0 can be seen."""
    fraction = min(max(fraction, 0.0), 1.0)
    if ascii_only:
        filled = round(fraction * width)
        return "#" * filled + " " * (width - filled)
    eighths = round(fraction * width * 8)
    if fraction and not eighths:
        eighths = 1
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (_EIGHTHS[rest] if rest else "")
    return drawn + " " * (width - len(drawn))


def fit(text: str, width: int, *, ascii_only: bool = False) -> str:
    """Cut a text to `width` cells, and show by an ellipsis that it was cut."""
    if cell_len(text) <= width:
        return text
    ellipsis = "..." if ascii_only else "…"
    return set_cell_size(text, max(0, width - len(ellipsis))).rstrip() + ellipsis[:width]


def name_width(names: Iterable[str]) -> int:
    """How many cells the column of names gets."""
    return min(_WIDEST_NAME, max((cell_len(clean(name)) for name in names), default=0))


def round_table(
    rows: Sequence[Row], *, deadline: float, width: int, names: int | None = None, ascii_only: bool = False
) -> Table:
    """Lay out the results of a round, or those that have come.

    Args:
        rows: the rows of the models, in their order.
        deadline: how many seconds a full bar stands for.
        width: cells that a line may have.
        names: cells for the names; None for as many as these need.
        ascii_only: draw with ASCII alone.
    """
    names = name_width(row.name for row in rows) if names is None else names
    fixed = names + _STATUS_WIDTH + _SECONDS_WIDTH + 5 * _GAP + 1
    bars = max(8, min(24, (width - fixed) // 3))
    texts = max(8, width - fixed - bars)
    table = plain_table()
    table.add_column("model", width=names, no_wrap=True)
    table.add_column("status", width=_STATUS_WIDTH, no_wrap=True)
    table.add_column("seconds", width=_SECONDS_WIDTH, no_wrap=True, justify="right")
    table.add_column(f"deadline {deadline:g} s", width=bars + 1, no_wrap=True, justify="right")
    table.add_column("answer", width=texts, no_wrap=True)
    for row in rows:
        _add_row(table, row, deadline, names, bars, texts, ascii_only=ascii_only)
    return table


def _add_row(
    table: Table, row: Row, deadline: float, names: int, bars: int, texts: int, *, ascii_only: bool
) -> None:
    style = STYLES[row.status] if row.status is not None else "bright_black"
    called = row.status not in (Status.SKIPPED, Status.ABSENT)
    drawn = bar(row.elapsed / deadline if called else 0.0, bars, ascii_only=ascii_only)
    line = Text.assemble((drawn, style), ("|" if ascii_only else "▏", "bright_black"))
    table.add_row(
        Text(fit(clean(row.name), names, ascii_only=ascii_only), "" if called else "bright_black"),
        Text(row.status or _WAITING, style),
        Text(f"{row.elapsed:.3f}" if called else ""),
        line,
        Text(
            fit(clean(row.text), texts, ascii_only=ascii_only),
            "" if row.status is Status.SUCCESS else "bright_black",
        ),
    )


def tally_table(rows: Sequence[TallyRow], *, width: int, ascii_only: bool = False) -> Table:
    """How many calls of each model ended in which way, and how long its successes took."""
    names = name_width(row.name for row in rows)
    fixed = names + sum(len(status) for status in Status) + _SECONDS_WIDTH + (len(Status) + 2) * _GAP
    texts = width - fixed - _GAP
    table = plain_table()
    table.add_column("model", width=names, no_wrap=True)
    for status in Status:
        table.add_column(status.value, width=len(status), no_wrap=True, justify="right")
    table.add_column("mean s", width=_SECONDS_WIDTH, no_wrap=True, justify="right")
    with_texts = texts >= max((cell_len(clean(row.text)) for row in rows), default=0) > 0
    if with_texts:
        table.add_column("", width=texts, no_wrap=True)
    for row in rows:
        cells = [Text(fit(clean(row.name), names, ascii_only=ascii_only))]
        for status in Status:
            count = row.counts.get(status, 0)
            cells.append(Text(str(count), STYLES[status]) if count else Text("-", "bright_black"))
        cells.append(Text("-", "bright_black") if row.mean is None else Text(f"{row.mean:.3f}"))
        if with_texts:
            cells.append(Text(clean(row.text), "bright_black"))
        table.add_row(*cells)
    return table


def plain_table() -> Table:
    """A table without lines, as all commands have it."""
    return Table(
        box=None,
        pad_edge=False,
        padding=(0, _GAP, 0, _GAP),
        collapse_padding=True,
        header_style="bright_black",
    )
