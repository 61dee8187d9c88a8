"""After a timeout: was the model slow, or was its connection dead?

A dead connection and a slow model look the same from here. So a PING is sent to the node before the model is
reported. If the node does not answer it, the model did not cause the timeouts: they are taken back, and the
connection is made anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ..rpc.connection import Connection
from ..rpc.ending import EndCause
from ..values.failure_codes import FailureCode
from .policy import Outcome, Record, may_ask_with_ping, report_after_call, report_after_ping

if TYPE_CHECKING:
    from .handle import ModelRunner
    from .supervisor import Supervisor

__all__ = ["Conduct"]


class Conduct:
    """What counts for and against one model.

    Args:
        model: the model.
        supervisor: gets the reports, and the classes and methods that the model has.

    Attributes:
        record: the model's counts.
        nursery: PINGs wait for their answers in it; None until the actor runs.
        connection: the connection that carries the model's calls; None if there is none.
    """

    def __init__(self, model: ModelRunner, supervisor: Supervisor) -> None:
        config = supervisor.config
        self.record = Record(config.max_consecutive_failures, config.max_consecutive_timeouts)
        self.nursery: trio.Nursery | None = None
        self.connection: Connection | None = None
        self._model = model
        self._supervisor = supervisor
        self._health = config.health
        self._unanswered: dict[Connection, list[tuple[FailureCode | None, str]]] = {}

    def note_call(self, outcome: Outcome, method: str, detail: str, *, given_up: bool) -> None:
        """Count the outcome of a call, and do what follows from it.

        Args:
            outcome: what happened.
            method: what was called.
            detail: the same in words, for the model's author.
            given_up: the model was given up meanwhile, so nothing is reported.
        """
        consequence = self.record.note(outcome, method)
        if consequence.proves:
            self._supervisor.note_success(self._model, method)
        elif consequence.unsure and self._ask(consequence.report, detail):
            pass  # the answer decides
        elif (code := report_after_call(consequence, given_up=given_up)) is not None:
            lacking = method if consequence.lacks else None
            self._supervisor.add_report(self._model, code, detail, lacking=lacking)

    def note_giving_up(self, outcome: Outcome, reason: str) -> None:
        """Count the outcome of a Setup or a proof that failed, and do what follows from it.

        Args:
            outcome: what happened.
            reason: the same in words, for the model's author.
        """
        consequence = self.record.note(outcome)
        if consequence.report is not None:
            lacking = self._supervisor.service.instance_name if consequence.lacks else None
            self._supervisor.add_report(self._model, consequence.report, reason, lacking=lacking)

    def note_setup(self) -> None:
        """Note that the model has an instance of the class that was asked for."""
        self._supervisor.note_success(self._model, self._supervisor.service.instance_name)

    def begin_anew(self) -> None:
        """Forget what the model did, and withdraw its reports."""
        self.record.clear()
        self._supervisor.withdraw_reports(self._model)

    def _ask(self, code: FailureCode | None, detail: str) -> bool:
        """Send a PING in the background, if one may be sent. Later timeouts wait for the same answer.

        Args:
            code: what to report if the model was slow, or None.
            detail: the reason, for the model's author.
        """
        connection = self.connection
        if not self._health.verify_timeouts or connection is None or not connection.accepts_calls:
            return False
        timeouts = self._unanswered.get(connection)
        if timeouts is not None:
            timeouts.append((code, detail))
            return True
        if not may_ask_with_ping(connection.pings_without_answer, code):
            return False
        assert self.nursery is not None
        self._unanswered[connection] = [(code, detail)]
        self.nursery.start_soon(self._wait_for_answer, connection)
        return True

    @enable_ki_protection
    async def _wait_for_answer(self, connection: Connection) -> None:
        timeout = self._health.timeout
        try:
            answered = await connection.ping(timeout)
        finally:
            timeouts = self._unanswered.pop(connection)
        code, detail = timeouts[-1]
        if not answered:
            for _ in timeouts:
                self.record.forgive_timeout()
            connection.abort(f"no answer to a PING within {timeout:g} s", cause=EndCause.NO_ANSWER_TO_PING)
            return
        same = connection is self.connection
        code = report_after_ping(code, timeouts=self.record.timeouts, same_connection=same)
        if code is not None:
            self._supervisor.add_report(self._model, code, detail)
