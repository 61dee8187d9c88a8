"""What one model does, told to the judge with the time. `policy.judge` decides what it means."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ..text import quoted
from .policy import Form, Outcome, Overrun, RoundEvidence

if TYPE_CHECKING:
    from .handle import ModelRunner
    from .policy import Judge

__all__ = ["Conduct"]

logger = logging.getLogger("trio_model_runner.model")


class Conduct:
    """What counts for and against one model.

    Args:
        model: the model.
        host: where its node listens.
        judge: the judge of all models.

    Attributes:
        record: what the judge knows of the model.
    """

    def __init__(self, model: ModelRunner, host: str, judge: Judge) -> None:
        self.record = judge.admit(model, model.model_id, host)
        self._judge = judge

    def note_call(
        self, evidence: RoundEvidence, outcome: Outcome, detail: str, overrun: Overrun | None
    ) -> None:
        """Note the outcome of a call.

        Args:
            evidence: about the request.
            outcome: what happened.
            detail: the same in words, for the model's author.
            overrun: the overrun that the call has become, if it has.
        """
        self._judge.note(
            self.record,
            evidence,
            outcome,
            began=evidence.began,
            now=trio.current_time(),
            detail=detail,
            overrun=overrun,
        )

    def note_distrust(self, path: str, outcome: Outcome, detail: str) -> None:
        """Note that an answer on `ModelRunner.channel` did not prove that it comes from the model's node."""
        self.note_call(RoundEvidence(Form(path), trio.current_time()), outcome, detail, None)

    def note_setup_failure(
        self, outcome: Outcome, detail: str, *, began: float, overrun: Overrun | None = None
    ) -> None:
        """Note that a Setup failed, or was not answered in time.

        Args:
            outcome: what happened.
            detail: the same in words, for the model's author.
            began: when the Setup was sent.
            overrun: the overrun that it has become, if it has.
        """
        self._judge.note(
            self.record,
            self._judge.setups,
            outcome,
            began=began,
            now=trio.current_time(),
            detail=detail,
            overrun=overrun,
        )

    def note_giving_up(self, outcome: Outcome, detail: str) -> bool:
        """Note that the model can't be brought up. Whether a report about it waits that needs no more proof.

        Args:
            outcome: what happened.
            detail: the same in words, for the model's author.
        """
        now = trio.current_time()
        self._judge.note_giving_up(self.record, outcome, now=now, detail=detail)
        return self._judge.is_due(self.record)

    def note_setup(self, *, created: bool) -> None:
        """Note that the model has an instance, and whether it was made just now."""
        self._judge.note_setup(self.record, created=created, now=trio.current_time())

    def note_reached(self) -> None:
        """Note that its node answers, where the cluster only observes: so nothing counts."""
        self.record.connected = True

    def note_loss(self, *, stood: float, peaceful: bool = False, silent: bool = False) -> None:
        """Note that the connection has ended.

        Args:
            stood: how long it had stood, seconds.
            peaceful: the node retired it, or has no instance any more.
            silent: the node gave no sign of life.
        """
        now = trio.current_time()
        self._judge.note_loss(self.record, stood=stood, peaceful=peaceful, silent=silent, now=now)

    def note_failed_attempt(self, began: float) -> None:
        """Note that an attempt to connect, begun at this time, has failed."""
        self._judge.note_failed_attempt(self.record, began=began, now=trio.current_time())

    def note_way(self, overrun: Overrun, *, good: bool) -> None:
        """Note whether the node gave a sign of life in time after a call was cut off."""
        self._judge.note_way(self.record, overrun, good=good, now=trio.current_time())

    def note_still_busy(self, overrun: Overrun, seen_at: float) -> None:
        """Note that the node was still at an overrunning call at this time."""
        self._judge.note_still_busy(self.record, overrun, seen_at=seen_at, now=trio.current_time())

    def note_through(self) -> None:
        """Note that the node is through with what was cut off."""
        self._judge.note_through(self.record, trio.current_time())

    def would_be_due(self, overrun: Overrun) -> bool:
        """Whether a report would become due if the model was still at it."""
        return self._judge.windows_would_be_due(self.record, overrun, trio.current_time())

    def note_stranger(self) -> None:
        """Note that the node is busy with a call that is not ours, and say so, once."""
        if not self.record.strangers_told:
            self.record.strangers_told = True
            name = quoted(self.record.model_id)
            logger.error(
                "another coordinator calls %s, or an earlier run of this one did: "
                "its node is busy, and not with our calls",
                name,
            )

    def begin_anew(self) -> None:
        """Forget what the model did, and withdraw its reports."""
        self._judge.begin_anew(self.record)
