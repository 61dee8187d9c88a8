"""What can happen to a call, or to a model that is set up (`Outcome`), and what each of it means (`RULES`).

A passed deadline is the status TIMEOUT by this table; `facts.outcome_of_cut_off` says which outcome it is.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from ...values.failure_codes import FailureCode
from ...values.results import Status

__all__ = ["RULES", "Counts", "Outcome", "Rule", "is_coordinators", "succeeded", "tried_again"]


class Counts(enum.IntEnum):
    """What an outcome does to a model's counts."""

    NOTHING = enum.auto()
    FAILURE = enum.auto()
    TIMEOUT = enum.auto()
    CLEARS = enum.auto()


class Outcome(enum.IntEnum):
    """What happened to a call, or to a model that was being set up.

    The members are whole numbers, since every call looks one up, and a plain Enum computes its hash in
    Python.
    """

    SUCCEEDED = enum.auto()
    MODEL_FAILED = enum.auto()
    """It raised, its answer can't be decoded, or its node's status says nothing more exact."""
    BAD_IMPLEMENTATION = enum.auto()
    """The class or method that was asked for does not exist."""
    NOT_ITS_FAULT = enum.auto()
    """The request was wrong, not allowed or too large, the method is optional, or its identity is unknown."""
    INVALID_ANSWER = enum.auto()
    """The answer decodes, but does not fit what the coordinator asked for."""
    COORDINATOR_RAISED = enum.auto()
    """The coordinator's code (``arguments=``, ``on_join``, ``returns=``) raised, or pyarrow is missing."""
    OVERRAN = enum.auto()
    """The deadline passed after the request had reached the node."""
    NOT_REACHED = enum.auto()
    """The deadline passed in our queue or while connecting, or this process noticed it too late."""
    BUSY = enum.auto()
    """The node was busy until the deadline, and not with a call of ours."""
    CONNECTION_LOST = enum.auto()
    """The connection ended in the middle of the call."""
    SITTING_OUT = enum.auto()
    """It sits out some calls after timeouts."""
    QUEUE_FULL = enum.auto()
    """Too many calls wait for it."""
    NOT_READY = enum.auto()
    """It is announced, but not (or no longer) ready."""
    SETUP_FAILED = enum.auto()
    SETUP_UNANSWERED = enum.auto()
    UNREACHABLE = enum.auto()
    """All attempts to connect failed."""
    UNREACHABLE_FROM_HERE = enum.auto()
    """All attempts to connect failed because of this machine: it has no more sockets, or no permission."""
    NOT_FOR_US = enum.auto()
    """The node on a new connection refuses us. For example, it does not accept our certificate."""
    PROOF_FAILED = enum.auto()
    """The node on a new connection did not prove that it belongs to the model."""
    ANSWER_UNPROVED = enum.auto()
    """The answer to a call did not prove that it comes from the model's node."""


@attrs.frozen
class Rule:
    """What an outcome means.

    Attributes:
        status: the call's status.
        counts: what it does to the model's counts.
        report: what is reported at once. (Failures and timeouts that count are reported past their limit.)
        may_pass: the trouble may end by itself, so a model that can't be set up is tried again after a while.
    """

    status: Status
    counts: Counts = Counts.NOTHING
    report: FailureCode | None = None
    may_pass: bool = False


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
        Outcome.UNREACHABLE_FROM_HERE: Rule(Status.ABSENT, may_pass=True),
        Outcome.NOT_FOR_US: Rule(Status.ABSENT, may_pass=True),
        Outcome.PROOF_FAILED: Rule(Status.ABSENT, report=FailureCode.CONNECTION_FAILED),
        Outcome.ANSWER_UNPROVED: Rule(Status.FAILED, report=FailureCode.CONNECTION_FAILED),
    }
)


def succeeded(outcome: Outcome) -> bool:
    """Whether a call has a value, or a Setup an instance."""
    return outcome is Outcome.SUCCEEDED


def is_coordinators(outcome: Outcome) -> bool:
    """Whether the coordinator's code raised. Its exceptions keep their tracebacks, for debugging."""
    return outcome in (Outcome.COORDINATOR_RAISED, Outcome.UNREACHABLE_FROM_HERE)


def tried_again(outcome: Outcome, *, reports_enabled: bool) -> bool:
    """Whether a model that can't be set up is tried again after a while, before it is announced again.

    While reporting is off, the orchestrator does not learn that a model can't be reached. So it has no reason
    to announce the model again.
    """
    return RULES[outcome].may_pass or (outcome is Outcome.UNREACHABLE and not reports_enabled)
