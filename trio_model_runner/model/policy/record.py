"""What counts against one model: a `Standing` for each method, and a `Record` with all of them.

The limits are those of the asyncio client in the field, but counts are kept apart for each method: a model
whose every `predict` fails is not saved by a `tick` that succeeds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Final

import attrs

from .outcomes import Outcome
from .overrun import Overrun

__all__ = ["NEVER", "SETUP", "Limits", "Record", "Standing"]

NEVER: Final = -math.inf
"""The time of what has not happened."""

SETUP: Final = "/Setup"
"""The `Standing.method` of Setups; no method of a model can have this name."""


@attrs.frozen
class Limits:
    """How often a model may fail with one method in a row. The next time, it is reported.

    Attributes:
        failures: how many failures are allowed; None for any number.
        timeouts: the same for timeouts.
    """

    failures: int | None
    timeouts: int | None

    @property
    def unserved(self) -> int | None:
        """How many calls may come to nothing; None for any number."""
        return self.failures if self.timeouts is None else self.timeouts

    def escapes(self, standing: Standing, seconds: float, now: float) -> bool:
        """Whether calls of a method have come to nothing for so many seconds, and too often (rule e).

        Each was hindered on the model's side: its connection was lost or absent, its node was unavailable,
        busy with others, or without an instance, the way was slow, or an overrun ended with its connection.
        """
        limit = self.unserved
        return limit is not None and standing.hindered > limit and now - standing.hindered_since >= seconds


@attrs.define(eq=False)
class Standing:
    """How a model stands with one method. All times are seconds of the owner's clock.

    Attributes:
        method: the method; for a Setup, the path of the request.
        failures: failures that count since the last success.
        timeouts: the same for timeouts.
        first_at: when the call that counted first began, or None.
        witness: the model that has shown last that such a call can succeed, in words.
        succeeded_at: when it succeeded last. For models that nothing counts against, only this is kept up.
        asked_at: when a call ended last that the model was asked, or would have been but for an earlier one,
            if that was no success.
        called_at: when a call ended last that was no success, whether the model could be asked or not.
        lacks: the model said that it lacks the method.
        hindered: calls that came to nothing on the model's side, since it answered last.
        hindered_since: when the first of these began.
        cleared: how often the counts have been cleared.
        sitting_out: how many calls are still sat out.
        sitting_out_until: when that ends in any case.
    """

    method: str
    failures: int = 0
    timeouts: int = 0
    first_at: float | None = None
    witness: str = ""
    succeeded_at: float = NEVER
    asked_at: float = NEVER
    called_at: float = NEVER
    lacks: bool = False
    hindered: int = 0
    hindered_since: float = NEVER
    cleared: int = 0
    sitting_out: int = 0
    sitting_out_until: float = NEVER

    @property
    def blameless(self) -> bool:
        """Whether nothing counts against it."""
        return self.first_at is None and not (self.lacks or self.hindered or self.sitting_out)

    def asked_since(self, time: float) -> bool:
        """Whether the model was asked, by a call that has ended at or after this time."""
        return self.asked_at >= time or self.succeeded_at >= time

    def called_since(self, time: float) -> bool:
        """Whether a call has ended at or after this time, even if the model could not be asked."""
        return self.called_at >= time or self.succeeded_at >= time

    def clear(self) -> None:
        """Forget what counts against it."""
        self.failures = self.timeouts = self.hindered = self.sitting_out = 0
        self.cleared += 1
        self.first_at = None
        self.lacks = False
        self.witness = ""

    def count(self, *, failures: int = 0, timeouts: int = 0, began: float, witness: str) -> None:
        """Count failures or timeouts whose first call began at `began`."""
        self.failures += failures
        self.timeouts += timeouts
        self.witness = witness
        if self.first_at is None:
            self.first_at = began

    def hinder(self, began: float) -> None:
        """Note a call that came to nothing on the model's side."""
        if not self.hindered:
            self.hindered_since = began
        self.hindered += 1

    def begin_sitting_out(self, now: float, limit: int | None, longest: float) -> None:
        """Sit out half as many calls as there were timeouts, now that the model is through with the last.

        Args:
            now: the time.
            limit: no more timeouts than this count for it; None for any number.
            longest: seconds after which this ends in any case.
        """
        timeouts = self.timeouts if limit is None else min(self.timeouts, limit)
        self.sitting_out = math.ceil(timeouts / 2)
        self.sitting_out_until = now + longest


@attrs.define(eq=False)
class Record:
    """All that is known of one deployment that can matter for a report.

    Attributes:
        key: the deployment, for the owner.
        model_id: the model's id. One deployment of a model proves nothing about another.
        host: where its node listens.
        standings: by method.
        no_news: the standings, by outcome and method, of which such an outcome changes nothing but
            `succeeded_at`. So nearly all calls need no look at any rule.
        success_mark: what a success leaves in a `Form`; made once.
        overrun: what the node has not finished, or None.
        created: the node said that it made an instance.
        lost_at: when the connection was lost last, or could not be made for the first time.
        held_at: when the report that it can't be reached was held last, since it was connected.
        loss_noted: `lost_at` is about the present absence.
        stood: how long that connection had stood, seconds.
        connected: it is set up, and its connection stands.
        tried_at: when the last attempt to connect that failed had begun.
        beginnings: how often it has begun anew.
        reported: it was reported, so nothing more is.
        strangers_told: the log has said that another coordinator calls it.
        group: what else it may share its trouble with: models of the same group have the same process; None
            where all have.
    """

    key: Hashable
    model_id: str
    host: str
    standings: dict[str, Standing] = attrs.field(factory=dict)
    no_news: dict[tuple[Outcome, str], Standing] = attrs.field(factory=dict)
    success_mark: tuple[str, bool] = attrs.field(
        default=attrs.Factory(lambda self: (self.model_id, True), takes_self=True)
    )
    overrun: Overrun | None = None
    created: bool = False
    lost_at: float = NEVER
    held_at: float = NEVER
    loss_noted: bool = False
    stood: float = 0.0
    connected: bool = False
    tried_at: float = NEVER
    beginnings: int = 0
    reported: bool = False
    strangers_told: bool = False
    group: Hashable = None

    def standing(self, method: str) -> Standing:
        """How it stands with a method."""
        found = self.standings.get(method)
        if found is None:
            found = self.standings[method] = Standing(method)
        return found

    def expect_news(self, method: str) -> None:
        """Something counts against the model: an outcome of this method, even a success, is news."""
        for key in [key for key in self.no_news if key[1] == method]:
            del self.no_news[key]

    def note_loss(self, at: float, stood: float = 0.0) -> None:
        """Note when the model was lost, if that is not known of the present absence."""
        if not self.loss_noted:
            self.lost_at, self.stood, self.loss_noted = at, stood, True

    def begin_anew(self) -> None:
        """Forget what counts against it."""
        self.no_news.clear()
        for standing in self.standings.values():
            standing.clear()
        self.reported = self.loss_noted = False
        self.held_at = NEVER
        self.beginnings += 1

    def sit_out(self, method: str, now: float) -> bool:
        """Whether the model sits out the call of a method that is about to be made at `now`.

        After n timeouts of a method, half as many calls of it are sat out (rounded up); then there is one
        chance. Other methods are called meanwhile.
        """
        standing = self.standings.get(method)
        if standing is None or not standing.sitting_out:
            return False
        if now >= standing.sitting_out_until:
            standing.sitting_out = 0
            return False
        standing.sitting_out -= 1
        return True

    def succeeded_since(self, time: float) -> bool:
        """Whether a call has succeeded since a time: then a connection was good for something."""
        return any(standing.succeeded_at >= time for standing in self._of_calls())

    def answered_since(self, time: float) -> bool:
        """Whether a call has been answered, or cut off at the model, since a time."""
        return any(standing.asked_since(time) for standing in self._of_calls())

    def _of_calls(self) -> Iterator[Standing]:
        return (standing for method, standing in self.standings.items() if method != SETUP)
