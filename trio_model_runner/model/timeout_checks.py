"""After a timeout: was the model slow, or was its connection dead?

A dead connection and a slow model look the same from here. So a PING is sent to the node
before the model is reported. If the node does not answer it, the model did not cause the timeouts: they are
taken back, and the connection is made anew.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio.lowlevel import enable_ki_protection

from ..rpc.connection import Connection
from ..rpc.ending import EndCause
from ..values.failure_codes import FailureCode
from .policy import Record, may_ask_with_ping

__all__ = ["TimeoutChecks"]


class TimeoutChecks:
    """The PINGs under way for one model, and the timeouts that wait for their answers.

    Args:
        record: what counts against the model.
        timeout: seconds that the answer to a PING may take.
        report: called with the code and the reason to report, if the model was slow.
    """

    def __init__(self, record: Record, timeout: float, report: Callable[[FailureCode, str], None]) -> None:
        self._record = record
        self._timeout = timeout
        self._report = report
        self._unanswered: dict[Connection, list[tuple[FailureCode | None, str]]] = {}

    def can_begin(self, connection: Connection, code: FailureCode | None) -> bool:
        """Whether a PING is under way on a connection, or may be sent.

        Args:
            connection: the connection on which the timeout was.
            code: what would be reported if the model was slow, or None.
        """
        if not connection.accepts_calls:
            return False
        return connection in self._unanswered or may_ask_with_ping(connection.pings_without_answer, code)

    def begin(
        self, nursery: trio.Nursery, connection: Connection, code: FailureCode | None, detail: str
    ) -> None:
        """Send a PING in the background. Timeouts before its answer wait for the same answer."""
        timeouts = self._unanswered.setdefault(connection, [])
        timeouts.append((code, detail))
        if len(timeouts) == 1:
            nursery.start_soon(self._ask, connection, timeouts)

    @enable_ki_protection
    async def _ask(self, connection: Connection, timeouts: list[tuple[FailureCode | None, str]]) -> None:
        try:
            answered = await connection.ping(self._timeout)
        finally:
            del self._unanswered[connection]
        code, detail = timeouts[-1]
        if not answered:
            for _ in timeouts:
                self._record.forgive_timeout()
            connection.abort(
                f"no answer to a PING within {self._timeout:g} s", cause=EndCause.NO_ANSWER_TO_PING
            )
        elif code is not None and self._record.timeouts and connection.accepts_calls:
            self._report(code, detail)
