"""From what happened to an `Outcome`.

The code that makes calls reports facts: a node's code, a gRPC error, how far a call had come when it was cut
off. The functions here turn each fact into an outcome. No other place decides that.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from grpclib.const import Status as GRPCStatus
from grpclib.exceptions import GRPCError

from ...errors import InvalidAnswer, ProofFailed
from ...rpc.protocol import NotGRPC
from ...security.delegation import ProofLapsed, UnknownIdentity
from ...services.base import AnswerCode
from ...values.results import ModelState
from .outcomes import Outcome

__all__ = [
    "NOT_SENT",
    "OUTCOME_OF_A_VALUE",
    "OVERSLEPT",
    "Fact",
    "Progress",
    "cut_off_text",
    "is_about_the_way",
    "is_busy",
    "is_our_deadline",
    "is_unknown_method",
    "may_still_run",
    "must_be_set_up_again",
    "must_connect_anew",
    "outcome_of_absence",
    "outcome_of_answer",
    "outcome_of_cut_off",
    "outcome_of_distrust",
    "outcome_of_fact",
    "outcome_of_grpc_error",
    "outcome_of_interruption",
    "outcome_of_proof",
    "outcome_of_setup",
    "outcome_of_setup_error",
    "outcome_of_unreachable",
    "outcome_of_value",
    "tried_again_when_held",
]

OVERSLEPT: Final = 0.25
"""Seconds. If a call is cut off later than that after its deadline, this process had no time for it."""

_LOCAL_ERRORS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)
"""Errors of connecting whose reason is this machine, not the node."""


class Fact(enum.Enum):
    """A fact about a call or a Setup that has no details."""

    SITS_OUT = enum.auto()
    """A call found that its model sits out this method."""
    OVERRUN_GOES_ON = enum.auto()
    """A call found its model still at an earlier call of ours, for too long."""
    BUSY_GOES_ON = enum.auto()
    """A call found its node busy with something that is not ours, for too long."""
    QUEUE_FULL = enum.auto()
    """A call found too many other calls before it."""
    MODEL_LEFT = enum.auto()
    """While a call waited, its model left."""
    SETUP_OVERRAN = enum.auto()
    """A Setup was not answered in time."""
    PROOF_UNANSWERED = enum.auto()
    """A request for a proof was not answered in time."""
    COORDINATORS_CODE_RAISED = enum.auto()
    """A function of the coordinator's raised."""


_FACTS: Final[Mapping[Fact, Outcome]] = MappingProxyType(
    {
        Fact.SITS_OUT: Outcome.SITTING_OUT,
        Fact.OVERRUN_GOES_ON: Outcome.STILL_BUSY,
        Fact.BUSY_GOES_ON: Outcome.BUSY_WITH_OTHERS,
        Fact.QUEUE_FULL: Outcome.QUEUE_FULL,
        Fact.MODEL_LEFT: Outcome.CONNECTION_LOST,
        Fact.SETUP_OVERRAN: Outcome.SETUP_OVERRAN,
        Fact.PROOF_UNANSWERED: Outcome.PROOF_UNANSWERED,
        Fact.COORDINATORS_CODE_RAISED: Outcome.COORDINATOR_RAISED,
    }
)


def outcome_of_fact(fact: Fact) -> Outcome:
    """What a plain fact means."""
    return _FACTS[fact]


class Progress(enum.Enum):
    """How far a call has come."""

    WAITING = enum.auto()
    """It waits in the queue, or behind a call of ours that was cut off."""
    WAITING_FOR_OTHERS = enum.auto()
    """It waits until the node is through with something that is not ours."""
    CONNECTING = enum.auto()
    """It waits for a connection."""
    REFUSED = enum.auto()
    """The node refused the request without running it. The request will be sent again."""
    CALLING = enum.auto()
    """The request is on its way."""
    CUT_OFF = enum.auto()
    """It was cut off after the request had reached the node: the model may still run."""
    BUSY = enum.auto()
    """The node does something else. The request will be sent again."""
    READING = enum.auto()
    """The answer is there, and is being decoded."""


_CUT_OFF: Final[Mapping[Progress, Outcome]] = MappingProxyType(
    {
        Progress.WAITING: Outcome.NOT_REACHED,
        Progress.WAITING_FOR_OTHERS: Outcome.BUSY,
        Progress.CONNECTING: Outcome.NOT_SERVED,
        Progress.REFUSED: Outcome.NOT_SERVED,
        Progress.CALLING: Outcome.NOT_SERVED,
        Progress.CUT_OFF: Outcome.OVERRAN,
        Progress.BUSY: Outcome.BUSY,
        Progress.READING: Outcome.NOT_REACHED,
    }
)


_CUT_OFF_TEXTS: Final[Mapping[Progress, str]] = MappingProxyType(
    {
        Progress.WAITING: "the deadline passed while waiting",
        Progress.WAITING_FOR_OTHERS: "the node was busy with another coordinator until the deadline",
        Progress.CONNECTING: "the deadline passed while waiting for a connection",
        Progress.REFUSED: "the node refused the request until the deadline",
        Progress.CALLING: "the deadline passed before the request was sent",
        Progress.CUT_OFF: "no answer before the deadline",
        Progress.BUSY: "the node was busy until the deadline",
        Progress.READING: "the answer came, and was not decoded by the deadline",
    }
)


def cut_off_text(progress: Progress, *, seconds_late: float) -> str:
    """Say what it means that a call was cut off by its own deadline; see `outcome_of_cut_off`."""
    text = _CUT_OFF_TEXTS[progress]
    late = seconds_late > OVERSLEPT
    return f"{text}, at which this program was busy: it looked {seconds_late:.1f} s later" if late else text


NOT_SENT: Final = frozenset(
    {
        Progress.WAITING,
        Progress.WAITING_FOR_OTHERS,
        Progress.CONNECTING,
        Progress.REFUSED,
        Progress.BUSY,
    }
)
"""While a call is so far, no request of it may have been processed."""


def outcome_of_cut_off(progress: Progress, *, seconds_late: float, cut_short: bool) -> Outcome:
    """What it means that a call was cut off by its deadline.

    Args:
        progress: how far the call had come.
        seconds_late: how long after the deadline the call was cut off. If it is more than `OVERSLEPT`, this
            process had no time to look for answers.
        cut_short: the call was cut off before its own deadline, by an enclosing scope or by `Cluster.drain`.
    """
    return Outcome.NOT_REACHED if cut_short or seconds_late > OVERSLEPT else _CUT_OFF[progress]


_OUT_OF_REACH: Final = frozenset(
    {
        ModelState.ANNOUNCED,
        ModelState.CONNECTING,
        ModelState.PROVING,
        ModelState.SETTING_UP,
        ModelState.LOST,
        ModelState.READY,
        ModelState.FAILED,
    }
)
"""A model that is not ready in such a state can't be reached, or its node does not answer."""


def outcome_of_absence(state: ModelState, *, ours: bool) -> Outcome:
    """What it means that a model is not ready for a call.

    Args:
        state: its state. READY means that its connection has just been lost.
        ours: the reason is the coordinator's code, this machine, or a call of ours that still runs there.
    """
    return Outcome.NOT_CONNECTED if state in _OUT_OF_REACH and not ours else Outcome.NOT_READY


_NOT_ITS_FAULT: Final = frozenset(
    {GRPCStatus.UNIMPLEMENTED, GRPCStatus.UNAUTHENTICATED, GRPCStatus.PERMISSION_DENIED}
)

_SETUP_ANSWERS: Final[Mapping[AnswerCode, Outcome]] = MappingProxyType(
    {
        AnswerCode.SUCCESS: Outcome.SUCCEEDED,
        AnswerCode.BAD_IMPLEMENTATION: Outcome.BAD_IMPLEMENTATION,
        AnswerCode.INVALID_ARGUMENT: Outcome.NOT_ITS_FAULT,
    }
)

_ANSWERS: Final[Mapping[AnswerCode, Outcome]] = MappingProxyType(
    {**_SETUP_ANSWERS, AnswerCode.FAILED_PRECONDITION: Outcome.INSTANCE_LOST}
)


def outcome_of_answer(code: AnswerCode, *, optional: bool = False) -> Outcome:
    """What a node's answer to a call means.

    Args:
        code: the code in the answer.
        optional: the model need not have the method.
    """
    outcome = _ANSWERS.get(code, Outcome.MODEL_FAILED)
    return Outcome.OPTIONAL_MISSING if optional and outcome is Outcome.BAD_IMPLEMENTATION else outcome


def must_be_set_up_again(code: AnswerCode) -> bool:
    """Whether a node says that it has no instance, so that the method was not run."""
    return code is AnswerCode.FAILED_PRECONDITION


def outcome_of_setup(code: AnswerCode) -> Outcome:
    """What a node's answer to a setup means."""
    return _SETUP_ANSWERS.get(code, Outcome.SETUP_FAILED)


def outcome_of_grpc_error(error: GRPCError) -> Outcome:
    """What a gRPC status other than OK means; `is_busy` is asked first."""
    if error.status is GRPCStatus.DEADLINE_EXCEEDED:  # the node noticed our deadline before we did
        return Outcome.OVERRAN
    if is_about_the_way(error):
        return Outcome.UNAVAILABLE
    return Outcome.NOT_ITS_FAULT if error.status in _NOT_ITS_FAULT else Outcome.MODEL_FAILED


_SETUP_ERRORS: Final[Mapping[Outcome, Outcome]] = MappingProxyType(
    {Outcome.OVERRAN: Outcome.SETUP_FAILED, Outcome.MODEL_FAILED: Outcome.SETUP_FAILED}
)


def outcome_of_setup_error(error: GRPCError | ValueError) -> Outcome:
    """What a gRPC status other than OK, or an answer that can't be read, means for a setup."""
    if not isinstance(error, GRPCError):
        return Outcome.SETUP_FAILED
    outcome = outcome_of_grpc_error(error)
    return _SETUP_ERRORS.get(outcome, outcome)  # a deadline that has passed too early is a failure, too


def outcome_of_proof(error: GRPCError) -> Outcome | None:
    """What it means that a node answers with an error instead of a proof; None if it does not refuse us."""
    return Outcome.NOT_FOR_US if error.status in _NOT_ITS_FAULT else None


def is_about_the_way(error: GRPCError) -> bool:
    """Whether an error says nothing of the model, but that the way to its node is broken.

    Proxies answer so, in gRPC, or by HTTP pages that `rpc.protocol` translates.
    """
    if isinstance(error, NotGRPC) and error.status not in _NOT_ITS_FAULT:
        return True
    return must_connect_anew(error)


def must_connect_anew(error: GRPCError) -> bool:
    """Whether another connection may lead further than this one."""
    return error.status is GRPCStatus.UNAVAILABLE


def is_unknown_method(error: GRPCError) -> bool:
    """Whether a node only says that it does not know what it was asked for."""
    return error.status is GRPCStatus.UNIMPLEMENTED


def is_busy(error: GRPCError) -> bool:
    """Whether an error says that another call runs on the node, so that the method was not run.

    Only this exact text says so, and only in a response that has nothing but a status. With another text, the
    same status means a message over the node's limit, and the model may have seen the call.
    """
    return error.status is GRPCStatus.RESOURCE_EXHAUSTED and error.message == "Server busy"


def may_still_run(error: GRPCError) -> bool:
    """Whether the model may still run after this error: its node noticed our deadline before we did."""
    return error.status is GRPCStatus.DEADLINE_EXCEEDED


def is_our_deadline(error: GRPCError, *, deadline_passed: bool) -> bool:
    """Whether an error only says that our deadline has passed. The node knows the deadline from us."""
    return may_still_run(error) and deadline_passed


def outcome_of_interruption(*, connection_lost: bool) -> Outcome:
    """What it means that a call's stream ended before its answer."""
    return Outcome.CONNECTION_LOST if connection_lost else Outcome.MODEL_FAILED


OUTCOME_OF_A_VALUE: Final = Outcome.SUCCEEDED
"""What it means that an answer has become a value; see `outcome_of_value` for when it has not."""


def outcome_of_value(error: Exception | None, *, misfits_count: bool) -> Outcome:
    """What it means that an answer became a value, or did not.

    Args:
        error: None if there is a value; `InvalidAnswer` if the answer can't be read, or does not fit; another
            exception if the coordinator's code raised it, or pyarrow is missing.
        misfits_count: an answer that does not fit counts as the model's failure.
    """
    if error is None:
        return OUTCOME_OF_A_VALUE
    if not isinstance(error, InvalidAnswer):
        return Outcome.COORDINATOR_RAISED
    return Outcome.MODEL_FAILED if misfits_count else Outcome.INVALID_ANSWER


def outcome_of_distrust(error: ProofFailed, *, answer: bool) -> Outcome:
    """What it means that a node did not prove that it belongs to the model.

    Args:
        error: the reason.
        answer: the proof of an answer to a call failed; else that of a new connection.
    """
    if isinstance(error, ProofLapsed):
        return Outcome.PROOF_LAPSED
    if isinstance(error, UnknownIdentity):
        return Outcome.NOT_ITS_FAULT
    return Outcome.ANSWER_UNPROVED if answer else Outcome.PROOF_FAILED


def outcome_of_unreachable(error: BaseException | None, *, flooded: bool = False) -> Outcome:
    """What it means that all attempts to connect failed.

    Args:
        error: why the last attempt failed.
        flooded: its node sent too much that brings no call forward. That needs no further attempt to show.
    """
    if flooded:
        return Outcome.FLOODED
    return Outcome.UNREACHABLE_FROM_HERE if _is_local(error) else Outcome.UNREACHABLE


def _is_local(error: BaseException | None) -> bool:
    """Whether connecting failed because of this machine. With several addresses, the causes say so."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_local, error.exceptions))
    return isinstance(error, OSError) and (error.errno in _LOCAL_ERRORS or _is_local(error.__cause__))


def tried_again_when_held(error: BaseException | None) -> bool:
    """Whether a model that was given up is tried again after a while, since the report about it is held.

    A model that could not prove who it is needs another announcement.

    Args:
        error: why it was given up.
    """
    return not isinstance(error, ProofFailed)
