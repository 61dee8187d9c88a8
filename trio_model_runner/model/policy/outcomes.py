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
    """What an outcome does to the counts of the method that was called."""

    NOTHING = enum.auto()
    FAILURE = enum.auto()
    """One failure more, if there is a witness."""
    TIMEOUT = enum.auto()
    """One timeout more, if there is a witness, and the way to the node was good."""
    LACKS = enum.auto()
    """The model lacks the method: that is due at once, if more models have it than lack it."""
    HINDERED = enum.auto()
    """A call that came to nothing on the model's side of the line: see `Unserved`."""
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
    OPTIONAL_MISSING = enum.auto()
    """The method does not exist, and need not."""
    NOT_ITS_FAULT = enum.auto()
    """The request was wrong, not allowed or too large; or the node's identity is unknown."""
    INVALID_ANSWER = enum.auto()
    """The answer decodes, but does not fit what the coordinator asked for."""
    COORDINATOR_RAISED = enum.auto()
    """The coordinator's code (``arguments=``, ``on_join``, ``returns=``) raised, or pyarrow is missing."""
    OVERRAN = enum.auto()
    """The deadline passed after the request had reached the node."""
    NOT_REACHED = enum.auto()
    """The deadline passed in our queue or behind our own call, or this process noticed it too late, or the
    call was cut off before its whole time."""
    NOT_SERVED = enum.auto()
    """The deadline passed while the connection was being made, while the request could not be written, or
    while the node refused it without running it."""
    BUSY = enum.auto()
    """The node was busy until the deadline, and not with a call of ours."""
    UNAVAILABLE = enum.auto()
    """The answer came from the way to the node, such as a proxy: the node can't be reached."""
    INSTANCE_LOST = enum.auto()
    """The node had no instance to call, again, right after a Setup."""
    CONNECTION_LOST = enum.auto()
    """The connection ended in the middle of the call."""
    PROOF_LAPSED = enum.auto()
    """What the node had proved when the request was sent held no longer when the answer came."""
    SITTING_OUT = enum.auto()
    """It sits out some calls of this method after timeouts."""
    STILL_BUSY = enum.auto()
    """A call of ours that was cut off has run on for longer than this call may take."""
    BUSY_WITH_OTHERS = enum.auto()
    """The same, but what runs there is no call of ours."""
    QUEUE_FULL = enum.auto()
    """Too many calls wait for it."""
    NOT_READY = enum.auto()
    """It is announced, but not (or no longer) ready, for a reason that is ours or known."""
    NOT_CONNECTED = enum.auto()
    """It is announced, and its node can't be reached, or does not answer."""
    SETUP_FAILED = enum.auto()
    SETUP_OVERRAN = enum.auto()
    """The Setup was not answered in time."""
    PROOF_UNANSWERED = enum.auto()
    """A request for a proof was not answered in time."""
    UNREACHABLE = enum.auto()
    """All attempts to connect failed."""
    UNREACHABLE_FROM_HERE = enum.auto()
    """All attempts to connect failed because of this machine: it has no more sockets, or no permission."""
    FLOODED = enum.auto()
    """All attempts to connect failed, and the last since the node sent too much for nothing."""
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
        counts: what it does to the counts.
        answered: the node answered for the model, or the model ran out of time on its own account. So it
            says something about the request: see rule b in `judge`.
        report: what is reported at once. (Failures and timeouts are reported past their limit.)
        may_pass: the trouble may end by itself, so a model that can't be set up is tried again after a while.
    """

    status: Status
    counts: Counts = Counts.NOTHING
    answered: bool = False
    report: FailureCode | None = None
    may_pass: bool = False


_FAILED, _TIMEOUT, _SKIPPED, _ABSENT = Status.FAILED, Status.TIMEOUT, Status.SKIPPED, Status.ABSENT
_CONNECTION_FAILED: Final = FailureCode.CONNECTION_FAILED

RULES: Final[Mapping[Outcome, Rule]] = MappingProxyType(
    {
        Outcome.SUCCEEDED: Rule(Status.SUCCESS, Counts.CLEARS, answered=True),
        Outcome.MODEL_FAILED: Rule(_FAILED, Counts.FAILURE, answered=True),
        Outcome.BAD_IMPLEMENTATION: Rule(_FAILED, Counts.LACKS, answered=True),
        Outcome.OPTIONAL_MISSING: Rule(_FAILED, answered=True),
        Outcome.NOT_ITS_FAULT: Rule(_FAILED, answered=True),
        Outcome.INVALID_ANSWER: Rule(_FAILED, answered=True),
        Outcome.COORDINATOR_RAISED: Rule(_FAILED),
        Outcome.OVERRAN: Rule(_TIMEOUT, Counts.TIMEOUT, answered=True),
        Outcome.NOT_REACHED: Rule(_TIMEOUT),
        Outcome.NOT_SERVED: Rule(_TIMEOUT, Counts.HINDERED),
        Outcome.BUSY: Rule(_TIMEOUT, Counts.HINDERED),
        Outcome.UNAVAILABLE: Rule(_FAILED, Counts.HINDERED),
        Outcome.INSTANCE_LOST: Rule(_FAILED, Counts.HINDERED),
        Outcome.CONNECTION_LOST: Rule(_FAILED, Counts.HINDERED),
        Outcome.PROOF_LAPSED: Rule(_FAILED, Counts.HINDERED),
        Outcome.SITTING_OUT: Rule(_SKIPPED),
        Outcome.STILL_BUSY: Rule(_SKIPPED),
        Outcome.BUSY_WITH_OTHERS: Rule(_SKIPPED, Counts.HINDERED),
        Outcome.QUEUE_FULL: Rule(_SKIPPED),
        Outcome.NOT_READY: Rule(_ABSENT),
        Outcome.NOT_CONNECTED: Rule(_ABSENT, Counts.HINDERED),
        Outcome.SETUP_FAILED: Rule(_ABSENT, Counts.FAILURE, answered=True),
        Outcome.SETUP_OVERRAN: Rule(_ABSENT, Counts.TIMEOUT, answered=True),
        Outcome.PROOF_UNANSWERED: Rule(_ABSENT, report=_CONNECTION_FAILED, may_pass=True),
        Outcome.UNREACHABLE: Rule(_ABSENT, report=_CONNECTION_FAILED, may_pass=True),
        Outcome.UNREACHABLE_FROM_HERE: Rule(_ABSENT, may_pass=True),
        Outcome.FLOODED: Rule(_ABSENT, report=_CONNECTION_FAILED),
        Outcome.NOT_FOR_US: Rule(_ABSENT, may_pass=True),
        Outcome.PROOF_FAILED: Rule(_ABSENT, report=_CONNECTION_FAILED),
        Outcome.ANSWER_UNPROVED: Rule(_FAILED, report=_CONNECTION_FAILED),
    }
)


def succeeded(outcome: Outcome) -> bool:
    """Whether a call has a value, or a Setup an instance."""
    return outcome is Outcome.SUCCEEDED


def is_coordinators(outcome: Outcome) -> bool:
    """Whether the coordinator's code raised. Its exceptions keep their tracebacks, for debugging."""
    return outcome in (Outcome.COORDINATOR_RAISED, Outcome.UNREACHABLE_FROM_HERE)


def tried_again(outcome: Outcome, *, due: bool) -> bool:
    """Whether a model that can't be set up is tried again after a while, before it is announced again.

    A model that can't be reached is tried again while the report about it waits: see rule c in `judge`. A
    Setup that failed is tried again if nobody is told of it: then nobody would announce the model again.

    Args:
        outcome: why it can't be set up.
        due: a report about it waits, and needs no more proof.
    """
    return RULES[outcome].may_pass or (outcome in _SETUP_FAILURES and not due)


_SETUP_FAILURES: Final = frozenset({Outcome.SETUP_FAILED, Outcome.BAD_IMPLEMENTATION})
