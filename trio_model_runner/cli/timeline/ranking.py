"""Decides which models a reader must see, and in which words: the four categories of the page.

A model is in one category at most, the first that fits. `R` is the number of rounds in the record. Results in
a mass event, and what a model then misses until its next answer, count for nothing here; so does ABSENT before
a model's first answer, when it joins.

| category | a model is in it if |
|---|---|
| Stopped answering | it has missed all results since its last answer, or has never answered, and these are at least 10 (in records of less than 40 rounds a quarter, at least 3), mostly not FAILED |
| Fails | the same, mostly FAILED; or at least 5 % of its results are FAILED, and more than are late |
| Always late | at least 5 % of its results are late: TIMEOUT, SKIPPED, or ABSENT after its first answer |
| Got slower | its answers take at least half as long again, and at least 5 % of the deadline (without one: 0.1 s) longer |

5 % count from three results on; two in records of less than 20 rounds, one in those of less than 10. How long
answers take is the median of the means in the cells of the first third of a model's cells, against the last
third; fewer than six cells can't say.

The worst is first: of those that stopped, or fail now without end, who has missed most, and who never answered
comes last, since that is no news; of those that fail at times or are late, who does it most; of those that got
slower, who lost most seconds. A ratio would rank a model that went from 1 ms to 20 ms above one that went from
0.3 s to 1.5 s.

Nothing here knows how the page looks.
"""  # noqa: E501

from __future__ import annotations

import enum
import statistics
from collections.abc import Sequence
from typing import Final

import attrs

from .measuring import ABSENT, CODES, FAILED, IN_TIME, LATE, Measures, Run
from .words import round_name, seconds, share

__all__ = ["Category", "Facts", "Finding", "judge", "others_in_order", "rank"]

NOTABLE: Final = 0.05
SLOWER: Final = 1.5
SLOWER_WITHOUT_DEADLINE: Final = 0.1  # seconds
FEWEST_CELLS: Final = 6


class Category(enum.StrEnum):
    """What a reader must know of a model; the value is the page's heading."""

    STOPPED = "Stopped answering"
    LATE = "Always late"
    SLOWER = "Got slower"
    FAILS = "Fails"


@attrs.frozen
class Facts:
    """What became of a model's results.

    Attributes:
        rounds: of the whole record.
        answers: how many results are SUCCESS.
        failed: how many are FAILED, outside of mass events.
        late: how many are TIMEOUT or SKIPPED, outside of mass events.
        absent: how many are ABSENT, outside of mass events, and after the first answer.
        run: what was missed since the last answer; None if nothing was.
        means: the mean seconds of the answers in each cell that has some, in their order.
        deadline: seconds; None without one.
    """

    rounds: int
    answers: int = 0
    failed: int = 0
    late: int = 0
    absent: int = 0
    run: Run | None = None
    means: Sequence[float] = ()
    deadline: float | None = None


@attrs.frozen
class Finding:
    """Why a model is in a category.

    Attributes:
        category: which.
        reason: in a few words.
        weight: how bad it is; more is worse.
        index: which model.
    """

    category: Category
    reason: str
    weight: float
    index: int = 0


def rank(measures: Measures) -> dict[Category, list[Finding]]:
    """The models in each category, the worst first."""
    found: dict[Category, list[Finding]] = {category: [] for category in Category}
    for index in range(len(measures.models)):
        if (finding := judge(facts_of(measures, index))) is not None:
            found[finding.category].append(attrs.evolve(finding, index=index))
    for findings in found.values():
        findings.sort(key=lambda finding: -finding.weight)
    return found


def others_in_order(measures: Measures, ranked: dict[Category, list[Finding]]) -> list[int]:
    """All other models, the slowest first."""
    listed = {finding.index for findings in ranked.values() for finding in findings}
    means: dict[int, float] = {}
    for index in set(range(len(measures.models))) - listed:
        took = sum(cell.seconds[index] for cell in measures.cells)
        means[index] = took / max(1, sum(sum(cell.counts_of(index)[:FAILED]) for cell in measures.cells))
    return sorted(means, key=lambda index: (-means[index], index))


def facts_of(measures: Measures, index: int) -> Facts:
    """What the cells know of a model."""
    totals = [0] * CODES
    means = []
    for cell in measures.cells:
        counts = cell.counts_of(index)
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        if answers := sum(counts[:FAILED]):
            means.append(cell.seconds[index] / answers)
    model = measures.models[index]
    return Facts(
        rounds=measures.rounds,
        answers=sum(totals[code] for code in IN_TIME),
        failed=totals[FAILED] - model.excused[FAILED],
        late=totals[LATE] - model.excused[LATE],
        absent=totals[ABSENT] - model.excused[ABSENT],
        run=model.run,
        means=means,
        deadline=max((cell.deadline for cell in measures.cells if cell.deadline), default=None),
    )


def judge(facts: Facts) -> Finding | None:
    """The category of a model, by the table above; None if there is nothing to say."""
    return _judge_run(facts) or _judge_misses(facts) or _judge_pace(facts)


def _judge_run(facts: Facts) -> Finding | None:
    run = facts.run
    if run is None or run.missed < max(3, min(10, -(-facts.rounds // 4))):
        return None
    if 2 * run.failed > run.missed:
        reason = "always failed" if run.never else f"fails since round {round_name(run.round_id)}"
        return Finding(Category.FAILS, reason, 1.0 if run.never else run.missed)
    if run.never:
        return Finding(Category.STOPPED, "never answered", 0.0)
    return Finding(Category.STOPPED, f"since round {round_name(run.round_id)}", run.missed)


def _judge_misses(facts: Facts) -> Finding | None:
    missed = facts.late + facts.absent
    results = facts.answers + facts.failed + missed
    enough = max(NOTABLE * results, min(3, 1 + facts.rounds // 10))
    if facts.failed >= enough and facts.failed > missed:
        return Finding(Category.FAILS, f"{share(facts.failed, results)} failed", facts.failed / results)
    if missed >= enough:
        word = "late" if facts.late >= facts.absent else "absent"
        return Finding(Category.LATE, f"{share(missed, results)} {word}", missed / results)
    return None


def _judge_pace(facts: Facts) -> Finding | None:
    if len(facts.means) < FEWEST_CELLS:
        return None
    third = len(facts.means) // 3
    before, after = statistics.median(facts.means[:third]), statistics.median(facts.means[-third:])
    least = SLOWER_WITHOUT_DEADLINE if facts.deadline is None else NOTABLE * facts.deadline
    if after < SLOWER * before or after - before < least:
        return None
    return Finding(Category.SLOWER, f"{seconds(before)} → {seconds(after)} s", after - before)
