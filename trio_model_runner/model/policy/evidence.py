"""Who else was asked the same, and what came of it: without that, nobody knows whose fault a failure is.

If a coordinator forgets an argument, every model fails with it, and each failure by itself looks like the
model's. So a failure or a timeout (an `Incident`) counts only if it has a **witness**: another model that
succeeded with the same request, in the same round. It waits in the `RoundEvidence` until one succeeds, or the
round ends.

A round may be too small to tell: one model is asked alone, or all others are absent. Then the last other
model that was asked the same method with arguments of the same shape (a `Form`) is the witness, if it
succeeded. A shape is the number of arguments, the keywords, and the Python types.

A model's success in a round must cost next to nothing. So the code that makes calls writes it into these
objects itself, as long as nothing waits for it (`ModelActor.note`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from .record import NEVER

if TYPE_CHECKING:
    from .record import Record, Standing

__all__ = ["NOBODY", "Form", "Incident", "RoundEvidence"]

NOBODY: Final = ("", False)
"""Stands for a model that was asked, where none was."""


@attrs.define(eq=False)
class Form:
    """A method with arguments of one shape.

    Attributes:
        method: the method.
        latest: the id of the model that was asked last, and whether it succeeded.
        before: the same of the last model before that is another one.
        succeeded_at: when a call succeeded last, of any model.
        complained_at: when the log has said last that nobody succeeds with it.
    """

    method: str
    latest: tuple[str, bool] = NOBODY
    before: tuple[str, bool] = NOBODY
    succeeded_at: float = NEVER
    complained_at: float | None = None

    def note(self, mark: tuple[str, bool]) -> None:
        """Note what came of a call."""
        if self.latest[0] != mark[0]:
            self.before = self.latest
        self.latest = mark

    def last_other(self, model_id: str) -> tuple[str, bool]:
        """The last other model that was asked, and whether it succeeded."""
        return self.latest if self.latest[0] != model_id else self.before


@attrs.define(eq=False)
class Incident:
    """A failure or a timeout that may count.

    Attributes:
        record: whose.
        standing: of which method.
        cleared: how often the counts had been cleared then. If they have been since, this does not count.
        is_timeout: a timeout; else a failure.
        began: when the round began.
        ended: when the call ended.
        detail: what happened, for the model's author.
        way_was_good: the node was alive, and the way to it good; None: not known yet.
        witness: the id of the model that succeeded; None: not known yet.
    """

    record: Record
    standing: Standing
    cleared: int
    is_timeout: bool
    began: float
    ended: float
    detail: str
    way_was_good: bool | None = None
    witness: str | None = None


@attrs.define(eq=False)
class RoundEvidence:
    """What is known of one request that several models get, in one round.

    Attributes:
        form: the method and the shape of the arguments.
        began: when the round began, seconds of the owner's clock.
        witness: the id of a model that succeeded, or "".
        second_witness: the id of another such model, or "". In a round, each model is asked once, so that
            only the evidence about Setups needs it.
        answered: how many models answered without success, or timed out on their own account.
        waiting: incidents without a witness.
        elsewhere: another process judges: it must hear of all outcomes, also of those that change nothing.
    """

    form: Form
    began: float
    witness: str = ""
    second_witness: str = ""
    answered: int = 0
    waiting: list[Incident] = attrs.field(factory=list)
    elsewhere: bool = False

    def note_success(self, model_id: str) -> None:
        """Note that a model succeeded."""
        if not self.witness:
            self.witness = model_id
        elif self.witness != model_id:
            self.second_witness = model_id

    def witness_for(self, model_id: str) -> str:
        """The id of another model that succeeded, or ""."""
        return self.witness if self.witness != model_id else self.second_witness

    def last_resort(self, model_id: str) -> str:
        """At the round's end: the witness for a model whose round was too small to tell, or ""."""
        if self.answered > 1:
            return ""  # others were asked, and none succeeded
        other, succeeded = self.form.last_other(model_id)
        return other if succeeded else ""
