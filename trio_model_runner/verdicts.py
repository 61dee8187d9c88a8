"""Verdicts wait before they are reported, because many at once are about us, not about the models.

When our network fails, or a coordinator sends what no model can take, every model times out or fails at the
same time; reporting them would stop a whole competition. One at a time, each of these verdicts looks sound.
So each is held for a minute (`Health.mass_window`), and if by then at least half of three or more members
would have been reported within such a time, none of them is. A model that succeeds meanwhile is acquitted.

A class or method that no model has is the coordinator's typo. So a verdict of BAD_IMPLEMENTATION waits for
the proof that another model has it.

There is no clock here and no I/O: whoever owns the verdicts brings the time (in seconds, of any clock), asks
`due`, and reports what is released.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .config import Health
    from .policy import FailureCode

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

    Attributes:
        held: how many were never reported, as part of a mass.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self.held = 0
        self._pending: dict[T, Verdict[T]] = {}
        self._given: dict[T, float] = {}
        self._has: dict[Hashable, set[T]] = {}

    @property
    def pending(self) -> int:
        """How many wait."""
        return len(self._pending)

    def give(self, verdict: Verdict[T]) -> None:
        """Take a verdict; a second one on a model adds nothing, unless the first lacks its proof."""
        waiting = self._pending.get(verdict.model)
        if waiting is None or not self._stands(waiting):
            self._pending[verdict.model] = verdict
            self._given[verdict.model] = verdict.at

    def withdraw(self, model: T) -> None:
        """Forget what waits about a model: it succeeded, or is gone."""
        self._pending.pop(model, None)
        self._given.pop(model, None)

    def prove(self, name: Hashable, model: T) -> None:
        """Note that a model has a class or method, so that lacking it is another one's fault."""
        models = self._has.setdefault(name, set())
        if len(models) < 2:  # with two, there is another one whoever is asked about
            models.add(model)

    def proved(self, name: Hashable, model: T) -> bool:
        """Whether another model than this one has a class or method."""
        return bool(self._has.get(name, set()) - {model})

    def due(self, now: float, members: int) -> Judgement[T]:
        """What can be decided at `now`, with so many members; what is decided no longer waits."""
        window = self._health.mass_window
        self._given = {model: at for model, at in self._given.items() if at > now - 2 * window}
        few = members < self._health.mass_minimum
        if not few and self._is_mass(members):
            held = tuple(verdict for verdict in self._pending.values() if self._stands(verdict))
            for verdict in held:
                del self._pending[verdict.model]
            self.held += len(held)
            return Judgement(held=held)
        released = tuple(
            verdict
            for verdict in self._pending.values()
            if (few or verdict.at + window <= now) and self._stands(verdict)
        )
        for verdict in released:
            del self._pending[verdict.model]
        return Judgement(released=released)

    def next_due(self, now: float, members: int) -> float | None:
        """When to ask `due` again if nothing else happens, seconds; None for not at all."""
        if members < self._health.mass_minimum:
            return None
        times = [verdict.at + self._health.mass_window for verdict in self._pending.values()]
        return min((time for time in times if time > now), default=None)

    def _stands(self, verdict: Verdict[T]) -> bool:
        """Whether a verdict needs no proof, or has it."""
        return verdict.name is None or self.proved(verdict.name, verdict.model)

    def _is_mass(self, members: int) -> bool:
        """Whether at least the given fraction of the members was judged within one window."""
        if not any(self._stands(verdict) for verdict in self._pending.values()):
            return False
        enough = self._health.mass_fraction * members
        window = self._health.mass_window
        unproved = {model for model, verdict in self._pending.items() if not self._stands(verdict)}
        times = sorted(at for model, at in self._given.items() if model not in unproved)
        return any(
            bisect.bisect_right(times, start + window) - index >= enough for index, start in enumerate(times)
        )
