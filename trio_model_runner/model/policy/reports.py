"""Reports wait before they are sent: many reports at once have one cause, and the models are not that cause.

When our network fails, or a coordinator sends a value that no model can take, every model times out or fails
at the same time. The reports would stop a whole competition, and each of them, by itself, looks right. So
each report is pending for a minute (`Health.mass_window`). If at least half of the members, and at least
three, would be reported within such a time, all these reports are held: they are never sent. If a model
succeeds while its report is pending, the report is withdrawn.

If no model has a class or method, the coordinator has misspelt it. So a report of BAD_IMPLEMENTATION waits
for the proof that another model has that class or method. Its minute begins then. A success with another
method does not withdraw it.

There is no clock here and no I/O: the owner passes the time (in seconds, of any clock), calls
`PendingReports.due`, and sends what is released.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs

from ...config import Health
from ...values.failure_codes import FailureCode

__all__ = ["Decision", "PendingReport", "PendingReports", "may_be_sent"]

T = TypeVar("T")


def may_be_sent(code: FailureCode, *, orchestrator_connected: bool) -> bool:
    """Whether a report that is released is sent.

    If neither the model nor the orchestrator can be reached, our network may be the cause, and nothing is
    sent. If the orchestrator still lists the model when it is back, the model is tried again.
    """
    return orchestrator_connected or code is not FailureCode.CONNECTION_FAILED


@attrs.frozen
class PendingReport(Generic[T]):
    """A report that is not sent yet.

    Attributes:
        model: the model.
        code: what to report.
        reason: the text that the model's author will read.
        at: since when the report waits, in seconds of the owner's clock.
        lacking: the class or method that the model lacks, for BAD_IMPLEMENTATION.
    """

    model: T
    code: FailureCode
    reason: str
    at: float
    lacking: Hashable = None


@attrs.frozen
class Decision(Generic[T]):
    """What was decided about pending reports.

    Attributes:
        released: reports to send now.
        held: reports never to send, since they are part of a mass.
    """

    released: tuple[PendingReport[T], ...] = ()
    held: tuple[PendingReport[T], ...] = ()


class PendingReports(Generic[T]):
    """The pending reports of one cluster. `T` is the class of its models.

    Args:
        health: how many reports are a mass, and within how many seconds.
        name_of: gives the model of a deployment. One deployment of a model proves nothing about another.

    Attributes:
        held: how many reports were held, as part of a mass.
    """

    def __init__(self, health: Health, name_of: Callable[[T], Hashable] = lambda model: model) -> None:
        self._health = health
        self._name_of = name_of
        self.held = 0
        self._pending: dict[T, PendingReport[T]] = {}
        self._entered: dict[T, float] = {}
        self._has: dict[Hashable, set[Hashable]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, report: PendingReport[T]) -> None:
        """Take a report. A second one about a model is dropped, unless the first still lacks its proof."""
        waiting = self._pending.get(report.model)
        if waiting is None or not self._stands(waiting):
            self._enter(report)

    def withdraw(self, model: T) -> None:
        """Withdraw the report about a model: the model begins anew, or is gone."""
        self._pending.pop(model, None)
        self._entered.pop(model, None)

    def note_success(self, model: T, name: Hashable) -> None:
        """Withdraw the report about a model that succeeded, unless it is about another lacking name."""
        if not self._pending:
            return
        waiting = self._pending.get(model)
        if waiting is not None and waiting.lacking in (None, name):
            self.withdraw(model)

    def is_proved(self, name: Hashable) -> bool:
        """Whether two models have a class or method: then each model has another one as a proof."""
        return len(self._has.get(name, ())) > 1

    def prove(self, name: Hashable, model: T, now: float) -> bool:
        """Note that a model has a class or method. From now on, a report may say that another lacks it.

        Returns:
            Whether that is news, so that a report about another model may count from now on.
        """
        models, who = self._has.setdefault(name, set()), self._name_of(model)
        if who in models or self.is_proved(name):
            return False
        waiting = self._pending.values()
        unproved = [each for each in waiting if each.lacking == name and not self._stands(each)]
        models.add(who)
        for report in unproved:
            if self._stands(report):
                self._enter(attrs.evolve(report, at=now))
        return True

    def proved(self, name: Hashable, model: T) -> bool:
        """Whether another model than this one has a class or method."""
        return bool(self._has.get(name, set()) - {self._name_of(model)})

    def due(self, now: float, members: int) -> Decision[T]:
        """Decide what can be decided at `now`, with so many members. Those reports are no longer pending."""
        window = self._health.mass_window
        self._entered = {model: at for model, at in self._entered.items() if at > now - 2 * window}
        few = members < self._health.mass_minimum
        standing = [report for report in self._pending.values() if self._stands(report)]
        mass = self._find_mass(members) if standing and not few else set()
        held = tuple(report for report in standing if report.model in mass)
        released = tuple(
            report for report in standing if report.model not in mass and (few or report.at + window <= now)
        )
        for report in held + released:
            del self._pending[report.model]
        self.held += len(held)
        return Decision(released, held)

    def next_due(self, now: float, members: int) -> float | None:
        """When to call `due` again if nothing else happens, in seconds; None if there is no need."""
        if members < self._health.mass_minimum:
            return None
        times = [report.at + self._health.mass_window for report in self._pending.values()]
        return min((time for time in times if time > now), default=None)

    def _enter(self, report: PendingReport[T]) -> None:
        self._pending[report.model] = report
        self._entered[report.model] = report.at

    def _stands(self, report: PendingReport[T]) -> bool:
        """Whether a report needs no proof, or has it."""
        return report.lacking is None or self.proved(report.lacking, report.model)

    def _find_mass(self, members: int) -> set[T]:
        """The models with reports within one window of time, if there are enough of them to be a mass."""
        enough = self._health.mass_fraction * members
        unproved = {model for model, report in self._pending.items() if not self._stands(report)}
        entered = [(model, at) for model, at in self._entered.items() if model not in unproved]
        entered.sort(key=lambda each: each[1])
        times = [at for _, at in entered]
        mass: set[T] = set()
        done = 0
        for first, start in enumerate(times):
            end = bisect.bisect_right(times, start + self._health.mass_window)
            if end - first >= enough:
                mass.update(model for model, _ in entered[max(first, done) : end])
                done = end
        return mass
