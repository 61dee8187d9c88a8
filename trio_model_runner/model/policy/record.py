"""What counts against one model, how long it sits out, and what follows from each outcome.

The numbers are those of the asyncio client in the field, but for one fault of that client. There, each call
that a model sits out after a timeout counts as another timeout. So one slow call before a quick series of
calls is enough for a report.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from ...values.failure_codes import FailureCode
from .outcomes import RULES, Counts, Outcome

__all__ = ["Consequence", "Record", "may_ask_with_ping", "report_after_call", "report_after_ping"]

_MAX_PINGS_WITHOUT_ANSWER: Final = 2
"""Nodes answer the fourth PING in a row with GOAWAY. The third is kept for a question before a report."""


@attrs.frozen
class Consequence:
    """What follows from an outcome.

    Attributes:
        report: the code of the report to make, or None.
        proves: the model has the class or method that was asked for.
        lacks: the model lacks the class or method that was asked for.
        unsure: the connection may be dead. If possible, a PING asks that before the report is made.
    """

    report: FailureCode | None = None
    proves: bool = False
    lacks: bool = False
    unsure: bool = False


_NOTHING: Final = Consequence()
_SUCCESS: Final = Consequence(proves=True)


@attrs.define
class Record:
    """What counts against one model, and how long it sits out.

    Attributes:
        max_failures: how many failures in a row are allowed; None for any number.
        max_timeouts: the same for timeouts.
        failures: failures since the last success.
        timeouts: timeouts since the last success.
        sitting_out: how many calls it still sits out.
        no_news: outcomes, each with the class or method that was asked for, that change nothing now: it has
            succeeded with it before, nothing counts against it, and no report about it waits.
    """

    max_failures: int | None
    max_timeouts: int | None
    failures: int = 0
    timeouts: int = 0
    sitting_out: int = 0
    no_news: set[tuple[Outcome, str]] = attrs.field(factory=set)

    def note(self, outcome: Outcome, name: str | None = None) -> Consequence:
        """Count an outcome, and return what follows from it.

        Args:
            outcome: what happened.
            name: the class or method that was asked for.
        """
        rule = RULES[outcome]
        report = rule.report
        if rule.counts is not Counts.CLEARS:
            self.no_news.clear()
        match rule.counts:
            case Counts.CLEARS:
                self.failures = self.timeouts = self.sitting_out = 0
                if name is not None:
                    self.no_news.add((outcome, name))
                return _SUCCESS
            case Counts.FAILURE:
                self.failures += 1
                if self.max_failures is not None and self.failures > self.max_failures:
                    report = FailureCode.MULTIPLE_FAILED
            case Counts.TIMEOUT:
                self.timeouts += 1
                self.sitting_out = math.ceil(self.timeouts / 2)
                if self.max_timeouts is not None and self.timeouts > self.max_timeouts:
                    report = FailureCode.MULTIPLE_TIMEOUT
        lacks = outcome is Outcome.BAD_IMPLEMENTATION
        unsure = outcome is Outcome.OVERRAN
        return Consequence(report, lacks=lacks, unsure=unsure) if report or lacks or unsure else _NOTHING

    def clear(self) -> None:
        """Forget everything."""
        self.failures = self.timeouts = self.sitting_out = 0
        self.no_news.clear()

    def forgive_timeout(self) -> None:
        """Take back the last timeout: it was not the model's."""
        self.timeouts = max(0, self.timeouts - 1)
        self.sitting_out = 0

    def sit_out(self) -> bool:
        """Whether the model sits out the call that is about to be made.

        After n timeouts in a row it sits out half as many calls (rounded up), then gets one chance.
        """
        if not self.sitting_out:
            return False
        self.sitting_out -= 1
        return True


def may_ask_with_ping(pings_without_answer: int, report: FailureCode | None) -> bool:
    """Whether a PING may be sent to find out if a model was slow or its connection dead.

    Args:
        pings_without_answer: PINGs since the node last answered a call; nodes accept only a few.
        report: the code that would be reported if the model was slow, or None.
    """
    return pings_without_answer < _MAX_PINGS_WITHOUT_ANSWER + (report is not None)


def report_after_call(consequence: Consequence, *, given_up: bool) -> FailureCode | None:
    """What is reported after a call, if anything.

    Args:
        consequence: what follows from the call's outcome.
        given_up: the model was given up meanwhile, and that was reported already.
    """
    return None if given_up else consequence.report


def report_after_ping(
    report: FailureCode | None, *, timeouts: int, same_connection: bool
) -> FailureCode | None:
    """What is reported when a PING was answered: then the model was slow.

    Args:
        report: what would be reported.
        timeouts: how many timeouts the model has now; 0 if it has succeeded meanwhile.
        same_connection: the connection with the PING still carries the model's calls.
    """
    return report if timeouts and same_connection else None
