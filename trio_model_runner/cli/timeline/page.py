"""Writes the page: a headline, the times, the models with troubles by category, and all models.

The page must be safe to open and to pass on. Names, methods and details were written by strangers, so every
text goes through `_shown`, which writes out what can't be seen and escapes what HTML would obey. And the page
may load and run nothing: its Content-Security-Policy allows the one style sheet, by its hash, and pictures
that are in the page.

Its size is bounded whatever the record: at most ten models a category have a row, at most `_MOST_NAMED` are
named besides, texts are cut, and with more than `MOST_ROWS` models some share a row of pixels.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs
from rich.cells import cell_len

from ..output import clean
from ..table import fit
from . import charts
from .measuring import Event, Measures
from .ranking import Category, Finding, others_in_order, rank
from .shading import COLOURS, Shade, png, rows_of, shades_of
from .words import counted, one_line, precise, round_name

__all__ = ["MOST_ROWS", "Surroundings", "draw"]

MOST_ROWS: Final = 2_000
_IN_FULL: Final = 10
_MOST_NAMED: Final = 200
_NAMED_ROWS: Final = 40  # with no more models, each has its name beside its row of pixels
_WIDEST_NAME: Final = 24
_WIDEST_DETAIL: Final = 84
_LONGEST_TITLE: Final = 300

_RULES: Final = {
    Category.STOPPED: "no answer any more",
    Category.LATE: "no answer in time in 5% of the rounds, or more",
    Category.SLOWER: "by half and by 5% of the deadline, or more; the first third against the last",
    Category.FAILS: "in 5% of the rounds, or more",
}

_LEGEND: Final = {
    Shade.FIRST_QUARTER: "answered in the first quarter of the time",
    Shade.SECOND_QUARTER: "second",
    Shade.THIRD_QUARTER: "third",
    Shade.LAST_QUARTER: "last",
    Shade.SOME_LATE: "some late",
    Shade.MOSTLY_LATE: "half or more late",
    Shade.FAILED: "failed",
    Shade.ABSENT: "absent",
}


@attrs.frozen
class Surroundings:
    """What a page says of the record besides.

    Attributes:
        crunch_ids: of which crunches the rounds were.
        others: the other methods, with their numbers of rounds.
        notes: what could not be read, a line each.
    """

    crunch_ids: Sequence[str] = ()
    others: Sequence[tuple[str, int]] = ()
    notes: Sequence[str] = ()


def draw(measures: Measures, surroundings: Surroundings) -> str:
    """The page, whole.

    Args:
        measures: closed, of one round at least.
        surroundings: what else there is to say.
    """
    ranked = rank(measures)
    style = _style(measures)
    policy = (
        f"default-src 'none'; style-src 'sha256-{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    title = _shown(f"{measures.method}: {', '.join(surroundings.crunch_ids)}", 80)
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width">\n',
            '<meta name="referrer" content="no-referrer">\n',
            f"<title>{title}</title>\n<style>{style}</style></head>\n<body><main>\n",
            f"<h1>{_headline(measures)}</h1>\n",
            *(f"<p>{line}</p>\n" for line in _besides(measures, surroundings)),
            f'<ul class="legend">{_legend()}</ul>\n<div class="grid">\n',
            _times(measures),
            *(_category(measures, category, ranked[category]) for category in Category),
            _all(measures, ranked),
            "</div>\n</main></body></html>\n",
        )
    )


def _headline(measures: Measures) -> str:
    models, rounds = counted(len(measures.models), "model"), counted(measures.rounds, "round")
    if not measures.results:
        return f"{_shown(measures.method, 40)}: {rounds}, in which no model took part."
    worst = "Every model answered in every round."
    if measures.worst is not None:
        missed = measures.worst.missed / measures.worst.models
        worst = f"Worst: round {_round(measures.worst.round_id)}, {missed:.0%} without an answer."
    return (
        f"{_shown(measures.method, 40)}: {models}, {rounds}, "
        f"{_percent(measures.answers, measures.results)} in time. {worst}"
    )


def _besides(measures: Measures, surroundings: Surroundings) -> Iterable[str]:
    cells = measures.cells
    parts = [_shown(", ".join(surroundings.crunch_ids[:3]), 60)]
    parts.append(f"{_time(cells[0].started)} to {_time(measures.last)} UTC")
    parts.append(_within(measures))
    yield "; ".join(filter(None, parts)) + "."
    events = sorted((cell.event for cell in cells if cell.event), key=lambda event: -event.newly)
    if events:
        yield f"Many missed at once, the worst first: {'; '.join(map(_event, events[:3]))}."
    if surroundings.others:
        others = (
            f"{_shown(method, 40)} ({counted(count, 'round')})" for method, count in surroundings.others[:8]
        )
        yield f"Also in the record: {', '.join(others)}."
    for note in surroundings.notes[:8]:
        yield _shown(note, 120)


def _within(measures: Measures) -> str:
    """When half of all results had come, and 95 %: the headline says how many did by the deadline."""
    if not measures.answers:
        return ""
    deadline = next((cell.deadline for cell in reversed(measures.cells) if cell.deadline), None)
    half, most = (measures.durations.reached_by(percent, measures.results) for percent in (50, 95))
    if most is not None:
        text = f"half of the results within {precise(half or 0.0)} s, 95% within {precise(most)} s"
        return text if deadline is None else f"{text}, the deadline is {deadline:g} s"
    by_then = "" if deadline is None else f" by the deadline, {deadline:g} s"
    if half is None:
        return f"not even half of the results{by_then}"
    return f"half of the results within {precise(half)} s, not even 95%{by_then}"


def _event(event: Event) -> str:
    return f"round {_round(event.round_id)} ({counted(event.newly, 'model')}, {_time(event.started)})"


def _legend() -> str:
    shades = (f"<li>{charts.swatch(shade)} {words}</li>" for shade, words in _LEGEND.items())
    mark = '<svg width="6" height="12" aria-hidden="true"><path class="redeployed" d="M3 0v12"/></svg>'
    return "".join(shades) + f"<li>{mark} deployed anew</li>"


def _times(measures: Measures) -> str:
    scale = charts.Scale(measures.cells)
    axis = charts.rounds_axis(measures.cells, measures.last)
    return (
        f"<div>{charts.seconds_axis(scale)}</div><div>{charts.times(measures.cells, scale)}</div>"
        f"<div>{charts.seconds_labels(measures.cells, scale)}</div>\n"
        f'<div class="name">100%</div><div>{charts.missed(measures.cells)}</div>'
        f'<div class="why">no answer,<br>worst rounds</div>\n'
        f"<div></div><div>{axis}</div><div></div>\n"
    )


def _category(measures: Measures, category: Category, findings: Sequence[Finding]) -> str:
    first = f" (first {_IN_FULL})" if len(findings) > _IN_FULL else ""
    rule = f" <small>{_RULES[category]}</small>" if findings else ""
    head = f"<h2>{category}: {len(findings):,}{first}{rule}</h2>\n"
    rows = (_finding(measures, finding) for finding in findings[:_IN_FULL])
    more = [_name(measures, finding.index) for finding in findings[_IN_FULL : _IN_FULL + _MOST_NAMED]]
    if not more:
        return head + "".join(rows)
    unnamed = len(findings) - _IN_FULL - len(more)
    rest = f" and {unnamed:,} more" if unnamed else ""
    listed = f"<summary>{len(findings) - _IN_FULL:,} more</summary><p>{', '.join(more)}{rest}</p>"
    return f"{head}{''.join(rows)}<div></div><details>{listed}</details><div></div>\n"


def _finding(measures: Measures, finding: Finding) -> str:
    index, model = finding.index, measures.models[finding.index]
    redeployed = (at for at, cell in enumerate(measures.cells) if index in cell.redeployed)
    drawn = charts.row(shades_of(measures, index), redeployed)
    line = (
        f'{_named(measures, index)}<div>{drawn}</div><div class="why">{html.escape(finding.reason)}</div>\n'
    )
    if finding.category is not Category.FAILS or not model.detail:
        return line
    told = f"round {_round(model.detail_round)}: {_shown(model.detail, _WIDEST_DETAIL)}"
    return f'{line}<div></div><div class="detail">{told}</div><div></div>\n'


def _all(measures: Measures, ranked: dict[Category, list[Finding]]) -> str:
    if not measures.models:
        return ""
    findings = [finding for category in Category for finding in ranked[category]]
    order = [finding.index for finding in findings] + others_in_order(measures, ranked)
    per_row = -(-len(order) // MOST_ROWS)
    rows = rows_of((shades_of(measures, index) for index in order), per_row)
    words = (
        "a row of pixels each" if per_row == 1 else f"{per_row} share a row of pixels, which shows the worst"
    )
    head = (
        f"<h2>All {counted(len(order), 'model')} <small>{words}; in the order of the categories, "
        "then the slowest first; stripes are rounds in which many missed at once</small></h2>\n"
    )
    picture = base64.b64encode(png(rows)).decode()
    names, reasons = "", ""
    if len(order) <= _NAMED_ROWS:
        names = "".join(_named(measures, index) for index in order)
        reasons = "".join(f"<div>{html.escape(finding.reason)}</div>" for finding in findings)
    return (
        f'{head}<div class="names">{names}</div>'
        f'<div><img class="all" alt="all models" height="{len(rows) * _row_height(len(rows))}" '
        f'src="data:image/png;base64,{picture}"></div><div class="names why top">{reasons}</div>\n'
        f"<div></div><div>{charts.rounds_axis(measures.cells, measures.last)}</div><div></div>\n"
    )


def _row_height(rows: int) -> int:
    return 18 if rows <= _NAMED_ROWS else max(1, min(6, 240 // rows))


def _named(measures: Measures, index: int) -> str:
    whole = _shown(measures.models[index].id, _LONGEST_TITLE)
    return f'<div class="name" title="{whole}">{_name(measures, index)}</div>'


def _name(measures: Measures, index: int) -> str:
    """A model's id, with its middle left out if it is long: many differ at their ends alone."""
    name = clean(measures.models[index].id[: 2 * _LONGEST_TITLE]) or '""'
    if cell_len(name) > _WIDEST_NAME:
        tail = name[-6:]
        name = fit(name, _WIDEST_NAME - cell_len(tail)) + tail
    return html.escape(name)


def _shown(text: str, width: int) -> str:
    """A text from outside on one line: nothing in it is obeyed, and it takes no more room than that."""
    return html.escape(one_line(text, width))


def _round(round_id: int | str) -> str:
    return html.escape(round_name(round_id))


def _percent(part: int, whole: int) -> str:
    """A share with a decimal, rounded down: it is 100% only if nothing is missing."""
    return "100%" if part == whole else f"{1000 * part // whole / 10:.1f}%"


def _time(posix: float) -> str:
    return datetime.fromtimestamp(posix, UTC).strftime("%-d %b %Y %H:%M:%S")


def _hash(style: str) -> str:
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def _style(measures: Measures) -> str:
    shades = "".join(f".s{shade:d}{{fill:{COLOURS[shade]}}}" for shade in Shade)
    height = _row_height(len(measures.models))
    return f"{_STYLE}{shades}.names div{{height:{height}px;line-height:{height}px}}"


LIGHT: Final = {
    "page": "#ffffff",
    "text": "#1a1d21",
    "soft": "#59616b",
    "line": "#d5dae0",
    "deadline": "#c81e32",
    "median": "#1562ab",
}
DARK: Final = {
    "page": "#14171c",
    "text": "#e8eaed",
    "soft": "#a2a9b3",
    "line": "#363d47",
    "deadline": "#ff6b78",
    "median": "#8cc4f8",
}


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


_STYLE: Final = (
    f":root{{color-scheme:light dark;{_variables(LIGHT)}}}"
    f"@media(prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    """
body{margin:0;background:var(--page);color:var(--text);font:14px/1.4 system-ui,"DejaVu Sans",sans-serif}
main{max-width:1200px;margin:0 auto;padding:20px 24px}
h1{font-size:20px;line-height:1.3;margin:0 0 6px;overflow-wrap:anywhere}
p{margin:0 0 4px;color:var(--soft);overflow-wrap:anywhere}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;list-style:none;margin:12px 0;padding:0;font-size:13px}
.legend svg{vertical-align:-1px}
.grid{display:grid;grid-template-columns:max-content minmax(0,1fr) max-content}
.grid{gap:2px 10px;align-items:center}
h2{grid-column:1/-1;font-size:15px;margin:14px 0 2px}
small{font-size:12px;font-weight:400;color:var(--soft);margin-left:6px}
svg,img{display:block}
.legend svg{display:inline}
.name{font:12px/14px ui-monospace,"DejaVu Sans Mono",monospace;text-align:right;white-space:nowrap}
.why{font-size:12px;line-height:14px;white-space:nowrap}
.detail,details{font-size:12px;color:var(--soft);overflow-wrap:anywhere}
.names:empty{min-height:0}
.top,.names{align-self:start}
.all{width:100%;image-rendering:pixelated;outline:1px solid var(--line)}
.row{shape-rendering:crispEdges}
.axis{font-size:12px;fill:var(--soft);overflow:visible}
.left,.right{width:64px}
.left{margin-left:auto}
.grid-line,.median,.deadline,.redeployed{fill:none;vector-effect:non-scaling-stroke}
.grid-line{stroke:var(--line)}
.median{stroke:var(--median);stroke-width:2}
.deadline{stroke:var(--deadline);stroke-width:2}
.redeployed{stroke:var(--text);stroke-width:2}
.band{fill:#2878c85a}
"""
)
