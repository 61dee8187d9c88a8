"""Verdicts wait before they are reported, because many at once are about us, not about the models.

When our network fails, or a coordinator sends what no model can take, every model times out or fails at the
same time; reporting them would stop a whole competition. One at a time, each of these verdicts looks sound.
So each is held for a minute (`Health.mass_window`), and if by then at least half of three or more members
would have been reported within such a time, none of them is. A model that succeeds meanwhile is acquitted.

A class or method that no model has is the coordinator's typo. So a verdict of BAD_IMPLEMENTATION waits for
the proof that another model has it, and counts as given then. Success with another method is no answer to it.

There is no clock here and no I/O: whoever owns the verdicts brings the time (in seconds, of any clock), asks
`due`, and reports what is released.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ..config import Health
    from ..values.failure_codes import FailureCode

__all__ = ["Judgement", "Verdict", "Verdicts"]

T = TypeVar("T")


@attrs.frozen
class Verdict(Generic[T]):
    """That a model should be reported.

    Attributes:
        model: the model.
        code: what to report.
        reason: what its author gets to read.
        at: when it was given, seconds.
        name: the class or method that the model lacks, for BAD_IMPLEMENTATION.
    """

    model: T
    code: FailureCode
    reason: str
    at: float
    name: Hashable = None


@attrs.frozen
class Judgement(Generic[T]):
    """What became of verdicts.

    Attributes:
        released: to be reported now.
        held: not to be reported, since they are part of a mass.
    """

    released: tuple[Verdict[T], ...] = ()
    held: tuple[Verdict[T], ...] = ()


class Verdicts(Generic[T]):
    """The verdicts of one cluster; `T` is what its models are, compared by identity or equality.

    Args:
        health: how many are a mass, and within how many seconds.
        name_of: what several deployments of one model have in common; they are no proof against each other.

    Attributes:
        held: how many were never reported, as part of a mass.
    """

    def __init__(self, health: Health, name_of: Callable[[T], Hashable] = lambda model: model) -> None:
        self._health = health
        self._name_of = name_of
        self.held = 0
        self._pending: dict[T, Verdict[T]] = {}
        self._given: dict[T, float] = {}
        self._has: dict[Hashable, set[Hashable]] = {}

    @property
    def pending(self) -> int:
        """How many wait."""
        return len(self._pending)

    def give(self, verdict: Verdict[T]) -> None:
        """Take a verdict; a second one on a model adds nothing, unless the first lacks its proof."""
        waiting = self._pending.get(verdict.model)
        if waiting is None or not self._stands(waiting):
            self._enter(verdict)

    def withdraw(self, model: T) -> None:
        """Forget what waits about a model: it begins anew, or is gone."""
        self._pending.pop(model, None)
        self._given.pop(model, None)

    def acquit(self, model: T, name: Hashable) -> None:
        """Forget what waits about a model that succeeded with a class or method, unless it lacks another."""
        waiting = self._pending.get(model)
        if waiting is not None and waiting.name in (None, name):
            self.withdraw(model)

    def is_proved(self, name: Hashable) -> bool:
        """Whether two models have a class or method: then there is another one, whoever is asked about."""
        return len(self._has.get(name, ())) > 1

    def prove(self, name: Hashable, model: T, now: float) -> bool:
        """Note that a model has a class or method, so that lacking it is another one's fault.

        Returns:
            Whether that is news, so that a verdict may stand now which did not before.
        """
        models, who = self._has.setdefault(name, set()), self._name_of(model)
        if who in models or self.is_proved(name):
            return False
        unproved = [each for each in self._pending.values() if each.name == name and not self._stands(each)]
        models.add(who)
        for verdict in unproved:
            if self._stands(verdict):
                self._enter(attrs.evolve(verdict, at=now))
        return True

    def proved(self, name: Hashable, model: T) -> bool:
        """Whether another model than this one has a class or method."""
        return bool(self._has.get(name, set()) - {self._name_of(model)})

    def due(self, now: float, members: int) -> Judgement[T]:
        """What can be decided at `now`, with so many members; what is decided no longer waits."""
        window = self._health.mass_window
        self._given = {model: at for model, at in self._given.items() if at > now - 2 * window}
        few = members < self._health.mass_minimum
        standing = [verdict for verdict in self._pending.values() if self._stands(verdict)]
        mass = self._find_mass(members) if standing and not few else set()
        held = tuple(verdict for verdict in standing if verdict.model in mass)
        released = tuple(
            verdict
            for verdict in standing
            if verdict.model not in mass and (few or verdict.at + window <= now)
        )
        for verdict in held + released:
            del self._pending[verdict.model]
        self.held += len(held)
        return Judgement(released, held)

    def next_due(self, now: float, members: int) -> float | None:
        """When to ask `due` again if nothing else happens, seconds; None for not at all."""
        if members < self._health.mass_minimum:
            return None
        times = [verdict.at + self._health.mass_window for verdict in self._pending.values()]
        return min((time for time in times if time > now), default=None)

    def _enter(self, verdict: Verdict[T]) -> None:
        self._pending[verdict.model] = verdict
        self._given[verdict.model] = verdict.at

    def _stands(self, verdict: Verdict[T]) -> bool:
        """Whether a verdict needs no proof, or has it."""
        return verdict.name is None or self.proved(verdict.name, verdict.model)

    def _find_mass(self, members: int) -> set[T]:
        """The models of which at least the given fraction of the members was judged within one window."""
        enough = self._health.mass_fraction * members
        unproved = {model for model, verdict in self._pending.items() if not self._stands(verdict)}
        given = [(model, at) for model, at in self._given.items() if model not in unproved]
        given.sort(key=lambda each: each[1])
        times = [at for _, at in given]
        mass: set[T] = set()
        done = 0
        for first, start in enumerate(times):
            end = bisect.bisect_right(times, start + self._health.mass_window)
            if end - first >= enough:
                mass.update(model for model, _ in given[max(first, done) : end])
                done = end
        return mass
