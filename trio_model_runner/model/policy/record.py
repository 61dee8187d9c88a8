"""What counts against one model, how long it sits out, and what follows from each outcome.

The numbers are those of the asyncio client in the field, with one fault left out: there, the calls that a
model sits out after a timeout count as timeouts themselves, so one slow call and a burst get it reported.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from ...values.failure_codes import FailureCode
from .outcomes import RULES, Counts, Outcome

__all__ = ["Consequence", "Record", "may_ask_with_ping", "report_after_call", "report_after_ping"]

_MAX_PINGS_WITHOUT_ANSWER: Final = 2
"""Nodes answer the fourth in a row with GOAWAY; the third is kept for when it decides about a report."""


@attrs.frozen
class Consequence:
    """What follows from an outcome.

    Attributes:
        report: what is to be reported, or None.
        proves: the model has the class or method that was asked for.
        lacks: it lacks the class or method that was asked for.
        unsure: it may have been the connection, so that is asked first, if it can be.
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
        max_failures: how many failures in a row are let pass; None for any number.
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
        """Count an outcome, and say what follows.

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
    """Whether a PING may be spent on finding out if a model was slow or its connection dead.

    Args:
        pings_without_answer: PINGs since the node last answered a call; it takes offence at many.
        report: what would be reported if it was the model.
    """
    return pings_without_answer < _MAX_PINGS_WITHOUT_ANSWER + (report is not None)


def report_after_call(consequence: Consequence, *, given_up: bool) -> FailureCode | None:
    """What is reported after a call, if anything.

    Args:
        consequence: what follows from the call's outcome.
        given_up: the model was given up meanwhile; why, has been reported already.
    """
    return None if given_up else consequence.report


def report_after_ping(
    report: FailureCode | None, *, timeouts: int, same_connection: bool
) -> FailureCode | None:
    """What is reported when a PING was answered, so that it was the model that was slow.

    Args:
        report: what was to be reported.
        timeouts: the model's timeouts by now; none, if it has succeeded meanwhile.
        same_connection: the model's calls still go over the connection that was asked.
    """
    return report if timeouts and same_connection else None
