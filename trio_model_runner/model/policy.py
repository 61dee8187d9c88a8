"""What counts against a model, and what does not: the table of blame, and the counts that it feeds.

A coordinator's verdict stops a person's model and tells them why, so it must be about what that model did. A
false one is worse than none. Therefore whatever happens to a call is first named (`Outcome`), and what that
means is looked up in `RULES`, which can be read as a table; no other code decides about blame. There is no
I/O here, no clock, and no model: what counts is kept in a `Record`, one for each model.

The numbers are those of the asyncio client in the field, with one fault left out: there, the calls that a
model sits out after a timeout count as timeouts themselves, so one slow call and a burst get it reported.
"""

from __future__ import annotations

import enum
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs
from grpclib.const import Status as GRPCStatus

from ..services.base import AnswerCode
from ..values.failure_codes import FailureCode
from ..values.results import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grpclib.exceptions import GRPCError

__all__ = [
    "RULES",
    "Counts",
    "Outcome",
    "Record",
    "Rule",
    "is_busy",
    "outcome_of_answer",
    "outcome_of_grpc_error",
    "outcome_of_setup",
    "outcome_of_setup_error",
]


class Counts(enum.IntEnum):
    """What an outcome does to a model's counts."""

    NOTHING = enum.auto()
    FAILURE = enum.auto()
    TIMEOUT = enum.auto()
    CLEARS = enum.auto()


class Outcome(enum.IntEnum):
    """What happened to a call, or to a model that was being brought up.

    Whole numbers, since every call looks up its own, and a plain Enum computes its hash in Python.
    """

    SUCCEEDED = enum.auto()
    MODEL_FAILED = enum.auto()
    """It raised, answered what can't be decoded, or its node gave a status that says no better, or none."""
    BAD_IMPLEMENTATION = enum.auto()
    """Its class or method does not exist."""
    NOT_ITS_FAULT = enum.auto()
    """The request was wrong, not allowed, too large, or optional and not there; or nobody says who it is."""
    INVALID_ANSWER = enum.auto()
    """The answer decodes, but does not fit what the coordinator asked for."""
    COORDINATOR_RAISED = enum.auto()
    """The coordinator's own code (``arguments=``, ``on_join``, ``returns=``) or this process failed."""
    OVERRAN = enum.auto()
    """The deadline passed after the request had reached the node."""
    NOT_REACHED = enum.auto()
    """The deadline passed in our queue, while connecting, or because we overslept it."""
    BUSY = enum.auto()
    """The node was busy until the deadline, with nothing of ours."""
    CONNECTION_LOST = enum.auto()
    """The connection ended in mid-call."""
    SITTING_OUT = enum.auto()
    """It sits out some calls after timeouts."""
    QUEUE_FULL = enum.auto()
    """Too many calls wait for it."""
    NOT_READY = enum.auto()
    """It is announced, but not (or no longer) ready."""
    SETUP_FAILED = enum.auto()
    SETUP_UNANSWERED = enum.auto()
    UNREACHABLE = enum.auto()
    """The attempts to connect are exhausted."""
    PROOF_FAILED = enum.auto()
    """A new connection's node did not prove that it is the model's."""
    ANSWER_UNPROVED = enum.auto()
    """An answer did."""


@attrs.frozen
class Rule:
    """What an outcome means.

    Attributes:
        status: the call's status.
        counts: what it does to the model's counts.
        report: what is reported at once; what counts is reported only past its limit.
    """

    status: Status
    counts: Counts = Counts.NOTHING
    report: FailureCode | None = None


RULES: Final[Mapping[Outcome, Rule]] = MappingProxyType(
    {
        Outcome.SUCCEEDED: Rule(Status.SUCCESS, Counts.CLEARS),
        Outcome.MODEL_FAILED: Rule(Status.FAILED, Counts.FAILURE),
        Outcome.BAD_IMPLEMENTATION: Rule(Status.FAILED, report=FailureCode.BAD_IMPLEMENTATION),
        Outcome.NOT_ITS_FAULT: Rule(Status.FAILED),
        Outcome.INVALID_ANSWER: Rule(Status.FAILED),
        Outcome.COORDINATOR_RAISED: Rule(Status.FAILED),
        Outcome.OVERRAN: Rule(Status.TIMEOUT, Counts.TIMEOUT),
        Outcome.NOT_REACHED: Rule(Status.TIMEOUT),
        Outcome.BUSY: Rule(Status.TIMEOUT, Counts.TIMEOUT),
        Outcome.CONNECTION_LOST: Rule(Status.FAILED),
        Outcome.SITTING_OUT: Rule(Status.SKIPPED),
        Outcome.QUEUE_FULL: Rule(Status.SKIPPED),
        Outcome.NOT_READY: Rule(Status.ABSENT),
        Outcome.SETUP_FAILED: Rule(Status.ABSENT, report=FailureCode.MULTIPLE_FAILED),
        Outcome.SETUP_UNANSWERED: Rule(Status.ABSENT, report=FailureCode.CONNECTION_FAILED),
        Outcome.UNREACHABLE: Rule(Status.ABSENT, report=FailureCode.CONNECTION_FAILED),
        Outcome.PROOF_FAILED: Rule(Status.ABSENT, report=FailureCode.CONNECTION_FAILED),
        Outcome.ANSWER_UNPROVED: Rule(Status.FAILED, report=FailureCode.CONNECTION_FAILED),
    }
)

_NOT_ITS_FAULT: Final = frozenset(
    {GRPCStatus.UNIMPLEMENTED, GRPCStatus.UNAUTHENTICATED, GRPCStatus.PERMISSION_DENIED}
)

_ANSWERS: Final[Mapping[AnswerCode, Outcome]] = MappingProxyType(
    {
        AnswerCode.SUCCESS: Outcome.SUCCEEDED,
        AnswerCode.BAD_IMPLEMENTATION: Outcome.BAD_IMPLEMENTATION,
        AnswerCode.INVALID_ARGUMENT: Outcome.NOT_ITS_FAULT,
    }
)


def outcome_of_answer(code: AnswerCode) -> Outcome:
    """What a node's answer to a call means."""
    return _ANSWERS.get(code, Outcome.MODEL_FAILED)


def outcome_of_setup(code: AnswerCode) -> Outcome:
    """What a node's answer to a setup means."""
    return _ANSWERS.get(code, Outcome.SETUP_FAILED)


def outcome_of_grpc_error(error: GRPCError) -> Outcome:
    """What a gRPC status other than OK means; `is_busy` is asked first."""
    if error.status is GRPCStatus.DEADLINE_EXCEEDED:  # the node kept the deadline before we did
        return Outcome.OVERRAN
    return Outcome.NOT_ITS_FAULT if error.status in _NOT_ITS_FAULT else Outcome.MODEL_FAILED


def outcome_of_setup_error(error: GRPCError) -> Outcome:
    """The same for a setup."""
    outcome = outcome_of_grpc_error(error)
    return {Outcome.OVERRAN: Outcome.SETUP_UNANSWERED, Outcome.MODEL_FAILED: Outcome.SETUP_FAILED}.get(
        outcome, outcome
    )


def is_busy(error: GRPCError) -> bool:
    """Whether this says that another call runs there, and hence that nothing came of this one.

    Exactly this text does, and only in a response that is nothing but a status: the same status with
    another text is a message over the node's limit, which the model may have seen.
    """
    return error.status is GRPCStatus.RESOURCE_EXHAUSTED and error.message == "Server busy"


@attrs.define
class Record:
    """What counts against one model, and how long it sits out.

    Attributes:
        max_failures: how many failures in a row are let pass; None for any number.
        max_timeouts: the same for timeouts.
        failures: failures since the last success.
        timeouts: timeouts since the last success.
        sitting_out: how many calls it still sits out.
    """

    max_failures: int | None
    max_timeouts: int | None
    failures: int = 0
    timeouts: int = 0
    sitting_out: int = 0

    def note(self, outcome: Outcome) -> FailureCode | None:
        """Count an outcome; what to report, if it is past a limit or reported at once."""
        rule = RULES[outcome]
        match rule.counts:
            case Counts.CLEARS:
                self.clear()
            case Counts.FAILURE:
                self.failures += 1
                if self.max_failures is not None and self.failures > self.max_failures:
                    return FailureCode.MULTIPLE_FAILED
            case Counts.TIMEOUT:
                self.timeouts += 1
                self.sitting_out = math.ceil(self.timeouts / 2)
                if self.max_timeouts is not None and self.timeouts > self.max_timeouts:
                    return FailureCode.MULTIPLE_TIMEOUT
        return rule.report

    def clear(self) -> None:
        """Forget everything."""
        self.failures = self.timeouts = self.sitting_out = 0

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
