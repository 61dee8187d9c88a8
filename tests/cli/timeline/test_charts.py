"""Charts: what stands beside them is where it belongs, and never over another."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.cli.timeline import charts
from trio_model_runner.cli.timeline.charts import HEIGHT, LABEL_GAP, Scale
from trio_model_runner.cli.timeline.measuring import Cell
from trio_model_runner.cli.timeline.shading import Shade

times = st.floats(0, 1e6)


def heights(drawn: str) -> list[float]:
    return [float(y) for y in re.findall(r'<text [^>]*y="([\d.-]+)"', drawn)]


def cell(*, median: float, slow: float, deadline: float | None) -> Cell:
    return Cell(1, 0.0, rounds=1, timed=1, median=median, slow=slow, deadline=deadline)


@given(times, times, st.none() | times)
def test_labels_are_beside_their_lines_and_not_over_each_other(
    one: float, other: float, deadline: float | None
) -> None:
    cells = [cell(median=min(one, other), slow=max(one, other), deadline=deadline)]
    found = heights(charts.seconds_labels(cells, Scale(cells)))
    assert len(found) == (2 if deadline is None else 3)
    assert all(below - above > LABEL_GAP - 0.2 for above, below in itertools.pairwise(found))
    assert min(found) >= 0
    assert max(found) <= HEIGHT + 4.1


@given(st.lists(times, min_size=1, max_size=5))
def test_the_axis_has_a_few_round_numbers(tops: list[float]) -> None:
    cells = [cell(median=0.0, slow=slow, deadline=None) for slow in tops]
    scale = Scale(cells)
    assert 2 <= len(scale.ticks) <= 6
    texts = re.findall(r">([^<]+) s</text>", charts.seconds_axis(scale))
    assert len(set(texts)) == len(texts)
    assert [float(text) for text in texts] == pytest.approx(scale.ticks)
    assert all(0 <= scale.y(each) <= HEIGHT for each in tops)
    found = heights(charts.seconds_axis(scale))
    assert all(above - below > 14 for above, below in itertools.pairwise(found))


def test_lines_have_gaps_where_nothing_was_measured() -> None:
    cells = [
        cell(median=1.0, slow=1.0, deadline=2.0),
        Cell(2, 0.0, rounds=1),
        cell(median=1.0, slow=2.0, deadline=2.0),
    ]
    drawn = charts.times(cells, Scale(cells))
    (median,) = re.findall(r'class="median" d="([^"]*)"', drawn)
    assert median == "M0 72.0H1M2 72.0H3"


def test_a_row_has_a_path_for_each_shade() -> None:
    late, failed = Shade.MOSTLY_LATE, Shade.FAILED
    drawn = charts.row([late, late, Shade.NOTHING, failed, late], redeployed=[3])
    assert re.findall(r'class="([^"]*)" d="([^"]*)"', drawn) == [
        ("s7", "M3 0h1v1h-1z"), ("s8", "M0 0h2v1h-2zM4 0h1v1h-1z"), ("redeployed", "M3 0v1"),
    ]  # fmt: skip
