"""Measures the rounds of one method as they pass, in memory that does not grow with their number.

A page has room for some 240 cells a row, so rounds are counted in cells of equal numbers of rounds: when all
cells are full, neighbours are merged, and a cell holds twice as many. For each model a cell counts how its
results ended, and adds up the seconds of its answers; all of that can be merged exactly.

Two things would drown in a cell of many rounds, or blame the wrong one, and are kept apart:

- **A mass event** is a round in which many models give no answer although they answered the last time: at
  least a tenth of its models, and at least five, or in smaller fleets more than half and two. The cell keeps
  how that round ended for every model. What such a model misses until its next answer is excused.
- **A run** is what a model has missed since its last answer.

What this means for a model, `ranking` decides. Nothing here knows colours or words. Most of the time goes
into `_flush`, which works on many rounds at once: 10 million results take seconds.
"""

from __future__ import annotations

import operator
import re
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from .durations import Durations, timed, times_of
from .record import Round

__all__ = [
    "ABSENT", "CODES", "FAILED", "IN_TIME", "LATE", "MOST_CELLS",
    "Cell", "Event", "Measures", "Model", "Run", "Worst",
]  # fmt: skip

IN_TIME: Final = range(4)
"""Answered in the first quarter of the time until the deadline, in the second, third, last."""

FAILED: Final = 4
LATE: Final = 5  # TIMEOUT and SKIPPED: no answer by the deadline, and not asked because of that
ABSENT: Final = 6
CODES: Final = 7
"""How a result ended, as a cell counts it."""

MOST_CELLS: Final = 240
MASS_FRACTION: Final = 10  # a tenth
MASS_MINIMUM: Final = 5

_MISS: Final = re.compile("[^S]")
_CODE_OF: Final = {"F": FAILED, "T": LATE, "K": LATE, "A": ABSENT}
_MOST_ROWS: Final = 64


@attrs.define
class Run:
    """What a model has missed since its last answer.

    Attributes:
        round_id: the first round that it missed.
        started: when that was, in POSIX seconds.
        never: it has not answered before.
        excused: it began in a mass event.
        missed: how many results there are.
        failed: how many of them are FAILED.
        absent: how many of them are ABSENT.
    """

    round_id: int | str
    started: float
    never: bool
    excused: bool
    missed: int = 0
    failed: int = 0
    absent: int = 0


@attrs.define
class Model:
    """A model of the record.

    Attributes:
        id: the model's.
        deployment_id: the last one known.
        run: what it has missed up to the record's end; None if it has answered the last time.
        excused: how many results of each kind are not held against it: those in a mass event, up to the next
            answer; and those that were ABSENT before the first answer, since it was joining.
        detail: what its last failure said; "" if that was not recorded.
        detail_round: the round of that failure.
    """

    id: str
    deployment_id: str | None = None
    run: Run | None = None
    excused: list[int] = attrs.Factory(lambda: [0] * CODES)
    detail: str = ""
    detail_round: int | str = 0


@attrs.frozen
class Event:
    """A mass event.

    Attributes:
        round_id: the round's.
        started: when, in POSIX seconds.
        newly: how many models gave no answer that had answered the last time.
        median: of the seconds that answers took.
        slow: 95 % of them took no longer.
        codes: how the round ended for each model, by its index; `CODES` if it took no part.
    """

    round_id: int | str
    started: float
    newly: int
    median: float
    slow: float
    codes: bytes


@attrs.frozen
class Worst:
    """The round in which most models gave no answer.

    Attributes:
        round_id: the round's.
        started: when, in POSIX seconds.
        missed: how many gave none.
        models: how many there were.
    """

    round_id: int | str
    started: float
    missed: int
    models: int


@attrs.define
class Cell:
    """Some rounds in a row, added up. Lists have an entry a model, by its index, as far as it was known.

    Attributes:
        round_id: the first round's.
        started: when that was, in POSIX seconds.
        rounds: how many.
        timed: how many of them had answers or timeouts.
        median: the sum of these rounds' medians, in seconds.
        slow: the sum of what 95 % of their results took at most. A TIMEOUT counts as the round's deadline.
        deadline: of the last round that had one, in seconds.
        missed: the greatest share of a round's models that gave no answer.
        event: the greatest mass event.
        counts: results, `CODES` entries a model.
        seconds: the sums of the models' answers.
        redeployed: models of which another deployment was seen for the first time.
    """

    round_id: int | str
    started: float
    rounds: int = 0
    timed: int = 0
    median: float = 0.0
    slow: float = 0.0
    deadline: float | None = None
    missed: float = 0.0
    event: Event | None = None
    counts: array[int] = attrs.Factory(lambda: array("I"))
    seconds: array[float] = attrs.Factory(lambda: array("d"))
    redeployed: set[int] = attrs.Factory(set)

    def grow(self, models: int) -> None:
        """Have room for so many models."""
        if (more := models - len(self.seconds)) > 0:
            self.counts.frombytes(bytes(more * CODES * self.counts.itemsize))
            self.seconds.frombytes(bytes(more * self.seconds.itemsize))

    def counts_of(self, index: int) -> Sequence[int]:
        """How the results of a model ended, `CODES` numbers."""
        return self.counts[index * CODES : (index + 1) * CODES] or _NOTHING

    def merge(self, later: Cell) -> None:
        """Take in the rounds of the cell behind this one."""
        self.grow(len(later.seconds))
        self.rounds += later.rounds
        self.timed += later.timed
        self.median += later.median
        self.slow += later.slow
        self.deadline = self.deadline if later.deadline is None else later.deadline
        self.missed = max(self.missed, later.missed)
        self.event = max(filter(None, (self.event, later.event)), key=lambda event: event.newly, default=None)
        self.counts = array("I", map(operator.add, self.counts, later.counts))
        self.seconds = array("d", map(operator.add, self.seconds, later.seconds))
        self.redeployed |= later.redeployed


_NOTHING: Final = (0,) * CODES


@attrs.frozen
class _Layout:
    """Which models the columns of a round are."""

    model_ids: list[str]
    indexes: list[int]
    members: frozenset[int]


@attrs.define
class Measures:
    """All rounds of one method.

    Attributes:
        method: its name.
        models: all that were seen, in the order in which they came; an index is a place in here.
        cells: at most `MOST_CELLS`.
        per_cell: how many rounds a cell holds; the last may hold fewer.
        rounds: how many there were.
        results: how many there were.
        answers: how many of them are SUCCESS.
        durations: how long these took.
        last: when the last round started, in POSIX seconds.
        worst: None if every model answered in every round.
    """

    method: str
    models: list[Model] = attrs.Factory(list)
    cells: list[Cell] = attrs.Factory(list)
    per_cell: int = 1
    rounds: int = 0
    results: int = 0
    answers: int = 0
    durations: Durations = attrs.Factory(Durations)
    last: float = 0.0
    worst: Worst | None = None
    _indexes: dict[str, int] = attrs.field(factory=dict, init=False)
    _new: set[int] = attrs.field(factory=set, init=False)
    _running: set[int] = attrs.field(factory=set, init=False)
    _layout: _Layout = attrs.field(factory=lambda: _Layout([], [], frozenset()), init=False)
    _deployments: list[str | None] = attrs.field(factory=list, init=False)
    _codes: list[bytes] = attrs.field(factory=list, init=False)
    _times: list[list[float]] = attrs.field(factory=list, init=False)

    def add(self, told: Round) -> None:
        """Count a round."""
        self._lay_out(told)
        cell = self._cell_for(told)
        misses = {match.start(): match[0] for match in _MISS.finditer(told.statuses)}
        self._note_totals(told, cell, len(misses))
        self._note_deployments(told, cell)
        newly = self._follow_runs(told, misses)
        times, answered = times_of(told, misses)
        self.durations.add(answered)
        median, slow = timed(told, misses, answered)
        codes = bytearray(_quarters(times, told.timeout))
        for column, status in misses.items():
            codes[column] = _CODE_OF[status]
        if median is not None:
            cell.timed += 1
            cell.median += median
            cell.slow += slow
        if self._is_mass(newly) and (cell.event is None or cell.event.newly < newly):
            cell.event = Event(told.id, told.started, newly, median or 0.0, slow, self._by_index(codes))
        self._codes.append(bytes(codes))
        self._times.append(times)
        if len(self._codes) >= _MOST_ROWS:
            self._flush()

    def close(self) -> None:
        """Count what was kept to be counted together; to be called at the record's end."""
        self._flush()
        for cell in self.cells:
            cell.grow(len(self.models))

    def _cell_for(self, told: Round) -> Cell:
        if not self.cells or self.cells[-1].rounds >= self.per_cell:
            self._flush()
            if len(self.cells) == MOST_CELLS:
                for cell, later in zip(self.cells[::2], self.cells[1::2], strict=True):
                    cell.merge(later)
                del self.cells[1::2]
                self.per_cell *= 2
            self.cells.append(Cell(told.id, told.started))
        cell = self.cells[-1]
        cell.rounds += 1
        return cell

    def _lay_out(self, told: Round) -> None:
        if told.model_ids == self._layout.model_ids:
            return
        self._flush()
        for model_id in told.model_ids:
            if model_id not in self._indexes:
                self._new.add(len(self.models))
                self._indexes[model_id] = len(self.models)
                self.models.append(Model(model_id))
        indexes = [self._indexes[model_id] for model_id in told.model_ids]
        self._layout = _Layout(told.model_ids, indexes, frozenset(indexes))
        self._deployments = []

    def _note_totals(self, told: Round, cell: Cell, missed: int) -> None:
        models = len(told.statuses)
        self.rounds += 1
        self.results += models
        self.answers += models - missed
        self.last = max(self.last, told.started)
        if missed and (self.worst is None or missed > self.worst.missed):
            self.worst = Worst(told.id, told.started, missed, models)
        cell.missed = max(cell.missed, missed / models if models else 0.0)
        cell.deadline = cell.deadline if told.timeout is None else told.timeout

    def _note_deployments(self, told: Round, cell: Cell) -> None:
        if told.deployment_ids == self._deployments:
            return
        self._deployments = told.deployment_ids
        for index, deployment_id in zip(self._layout.indexes, told.deployment_ids, strict=True):
            model = self.models[index]
            if deployment_id is not None and deployment_id != model.deployment_id:
                if model.deployment_id is not None:
                    cell.redeployed.add(index)
                model.deployment_id = deployment_id

    def _follow_runs(self, told: Round, misses: dict[int, str]) -> int:
        """End the runs of those who answered, go on with the others'. Return how many runs are new."""
        missing = {self._layout.indexes[column] for column in misses}
        answered = (self._running & self._layout.members) - missing
        for index in answered:
            self.models[index].run = None
        self._running -= answered
        newly = missing - self._running - self._new
        excused = self._is_mass(len(newly))
        for column, status in misses.items():
            index = self._layout.indexes[column]
            model = self.models[index]
            if model.run is None:
                model.run = Run(told.id, told.started, index in self._new, excused and index in newly)
            model.run.missed += 1
            if model.run.excused or (model.run.never and status == "A"):
                model.excused[_CODE_OF[status]] += 1
            if status == "F":
                model.run.failed += 1
                if detail := told.details.get(model.id):
                    model.detail, model.detail_round = detail, told.id
            elif status == "A":
                model.run.absent += 1
        self._running |= missing
        self._new.clear()
        return len(newly)

    def _is_mass(self, newly: int) -> bool:
        models = len(self._layout.indexes)
        return newly >= max(models / MASS_FRACTION, min(MASS_MINIMUM, models // 2 + 1), 2)

    def _by_index(self, codes: bytearray) -> bytes:
        found = bytearray([CODES]) * len(self.models)
        for index, code in zip(self._layout.indexes, codes, strict=True):
            found[index] = code
        return bytes(found)

    def _flush(self) -> None:
        """Count the rounds that are kept: column by column, since a loop over each result takes longer."""
        if not self._codes:
            return
        cell = self.cells[-1]
        cell.grow(len(self.models))
        counts, seconds = cell.counts, cell.seconds
        width, codes = len(self._layout.indexes), b"".join(self._codes)
        sums: Iterable[float] = map(sum, zip(*self._times, strict=True))
        for column, (index, took) in enumerate(zip(self._layout.indexes, sums, strict=True)):
            of_model = codes[column::width]
            for code in set(of_model):
                counts[index * CODES + code] += of_model.count(code)
            seconds[index] += took
        self._codes, self._times = [], []


def _quarters(times: list[float], timeout: float | None) -> list[int]:
    """In which quarter of the time until the deadline each answer came; the first, if there was none."""
    if not timeout:
        return [0] * len(times)
    first, second, third = (timeout * part for part in (0.25, 0.5, 0.75))
    return [0 if t < first else 1 if t < second else 2 if t < third else 3 for t in times]
