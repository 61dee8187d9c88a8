"""Draws the picture of a crunch for a terminal: a headline, then a row for each model, the worst first.

A reader looks at it at night, and wants to know three things: does it run, who is in trouble, and since when.
So the last rounds of each model are letters in a row, as far as there is room, and whoever is well comes last
and may be left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.text import Text

from ..events import shorter
from ..output import clean
from ..table import STYLES, fit, name_width, plain_table
from .lines import STATUS_OF, round_in_words
from .picture import REMEMBERED_ROUNDS, ModelView, Picture

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["LINES_AROUND", "draw"]

LINES_AROUND: Final = 5
"""So many lines are above and below the rows."""

_STATE_WIDTH: Final = 10
_SECONDS_WIDTH: Final = 7
_GAP: Final = 2
_LONGEST: Final = 300
_STATE_STYLES: Final = {"ready": "green", "reachable": "green", "replacing": "green", "failed": "red"}


def draw(
    picture: Picture, *, width: int, rows: int, now: float, ascii_only: bool = False, hint: str = ""
) -> RenderableType:
    """Draw it.

    Args:
        picture: the picture.
        width: cells that a line may have.
        rows: models that may be shown.
        now: POSIX seconds.
        ascii_only: draw with ASCII alone.
        hint: the last line.
    """
    views = picture.worst()
    shown, rest = views[:rows], views[rows:]
    lines: list[RenderableType] = [
        *(_fitted(line, width, ascii_only) for line in (_headline(picture, now), _round_line(picture, now))),
        _table(shown, width, ascii_only=ascii_only),
    ]
    if rest:
        well = all(view.well for view in rest)
        dots = "..." if ascii_only else "…"
        text = f"{dots} and {len(rest)} more{', all well' if well else ''}"
        lines.append(Text(fit(text, width, ascii_only=ascii_only), "bright_black"))
    if hint:
        lines.append(Text(fit(hint, width, ascii_only=ascii_only), "bright_black"))
    return Group(*lines)


def _fitted(line: Text, width: int, ascii_only: bool) -> Text:
    line.truncate(width, overflow="crop" if ascii_only else "ellipsis")
    line.no_wrap = True
    return line


def _headline(picture: Picture, now: float) -> Text:
    """What a reader must not miss stands first: a narrow terminal cuts off the end."""
    line = Text.assemble((_short(picture.crunch_id) or "?", "bold"))
    if picture.ended:
        line.append("  the coordinator has ended", "bold yellow")
    elif picture.silent_since is not None:
        silent = max(0.0, now - picture.silent_since)
        line.append(f"  NOTHING HEARD FOR {silent:.0f} s, IT STANDS STILL", "bold red")
    if picture.connected is False:
        line.append(f"  orchestrator AWAY: {_short(picture.orchestrator_error) or '?'}", "bold red")
    elif picture.connected:
        line.append("  orchestrator connected", "bright_black")
    if picture.connected is not None and not picture.models:
        line.append("  no model runs", "bold yellow")
    if any(picture.reports):
        pending, held = picture.reports
        line.append(f"  reports: {pending} pending, {held} held", "yellow")
    if picture.draining:
        line.append("  draining", "yellow")
    states = picture.count_states()
    counts = ", ".join(f"{count} {_short(state)}" for state, count in states.most_common())
    line.append(f"  {len(picture.models)} models{f': {counts}' if counts else ''}")
    return line


def _round_line(picture: Picture, now: float) -> Text:
    last = picture.last_round
    if last is None:
        ended_at = picture.last_round_at
        text = "no round seen yet" if ended_at is None else f"the last round ended {_ago(now, ended_at)}"
        return Text(text, "bright_black")
    words = round_in_words(last.counts, last.seconds, last.timeout)
    line = Text(f"round {_short(last.number)}: {_short(last.method)}: {words}")
    if picture.last_round_at is not None:
        line.append(f", {_ago(now, picture.last_round_at)}", "bright_black")
    return line


def _ago(now: float, then: float) -> str:
    seconds = max(0.0, now - then)
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.1f} h ago"


def _table(views: list[ModelView], width: int, *, ascii_only: bool) -> Table:
    names = max(5, name_width(_name(view) for view in views))
    fixed = names + _STATE_WIDTH + _SECONDS_WIDTH + 4 * _GAP
    rounds = max(6, min(REMEMBERED_ROUNDS, (width - fixed) // 3))
    texts = max(0, width - fixed - rounds)
    table = plain_table()
    table.add_column("model", width=names, no_wrap=True)
    table.add_column("state", width=_STATE_WIDTH, no_wrap=True)
    table.add_column("last rounds" if rounds >= len("last rounds") else "rounds", width=rounds, no_wrap=True)
    table.add_column("seconds", width=_SECONDS_WIDTH, no_wrap=True, justify="right")
    table.add_column("trouble", width=texts, no_wrap=True)
    for view in views:
        letters = Text()
        for letter in list(view.statuses)[-rounds:]:
            letters.append("." if letter == "S" else letter, STYLES[STATUS_OF[letter]])
        state = clean(view.state[:_LONGEST])
        table.add_row(
            Text(fit(clean(_name(view)), names, ascii_only=ascii_only)),
            Text(fit(state, _STATE_WIDTH, ascii_only=ascii_only), _STATE_STYLES.get(view.state, "yellow")),
            letters,
            Text("" if view.elapsed is None else f"{min(view.elapsed, 99999):.3f}"[:_SECONDS_WIDTH]),
            Text(fit(clean(shorter(view.trouble[:_LONGEST])), texts, ascii_only=ascii_only), "bright_black"),
        )
    return table


def _name(view: ModelView) -> str:
    return (view.name or view.model_id)[:_LONGEST]


def _short(text: str) -> str:
    return clean(text[:_LONGEST])
