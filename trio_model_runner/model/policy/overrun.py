"""A call that was cut off, and that the node may not be through with; what the node's answers say of it.

A node can't interrupt a model. After our deadline the model may be busy for another moment, or for ever, and
at first both look the same. So the node is asked again and again (`model.watch` does it): with a PING, and
with an **empty Setup**, which has no effect on any deployed node (release 0.4.2). A node that is at it says
"Server busy"; one that is through says that there is an instance already; one without an instance refuses an
empty class name. No answer, but a sign of life: the model holds the interpreter. No sign of life: the way to
the node is dead, and the model has nothing to do with that.

**Counting.** The call that overran counts one timeout. After its deadline, each later call of the
coordinator's opens a *window*, which lasts until that call's deadline. If the model is still at it when the
window ends, that counts one timeout more, for the method that overran. Windows don't overlap, so a burst of
calls counts once; and they last as long as the overrunning call was allowed to (at most 5 minutes), so that a
late `train` is not blamed in a second by quick predictions.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs
from grpclib.exceptions import GRPCError

from ...services.base import AnswerCode
from .facts import is_about_the_way

__all__ = ["LONGEST_WINDOW", "Answer", "Overrun", "answer_of_code", "answer_of_error"]

LONGEST_WINDOW: Final = 300.0
"""Seconds. No window lasts longer than this, however long calls are allowed to take."""


class Answer(enum.Enum):
    """What an answer to an empty Setup says."""

    BUSY = enum.auto()
    """The node is still at it."""
    THROUGH = enum.auto()
    """The node is through with it."""
    NO_INSTANCE = enum.auto()
    """The node is through, and has no instance: it was restarted, or reset."""
    WAY_BROKEN = enum.auto()
    """The answer came from the way to the node."""


_ANSWERS: Final[Mapping[AnswerCode, Answer]] = MappingProxyType(
    {
        AnswerCode.INVALID_ARGUMENT: Answer.NO_INSTANCE,
        AnswerCode.FAILED_PRECONDITION: Answer.NO_INSTANCE,
    }
)


def answer_of_code(code: AnswerCode) -> Answer:
    """What a node's code says. A node that is not busy looks at the request, so it is through."""
    return _ANSWERS.get(code, Answer.THROUGH)


def answer_of_error(error: GRPCError) -> Answer:
    """What a gRPC status other than OK and "Server busy" says."""
    return Answer.WAY_BROKEN if is_about_the_way(error) else Answer.THROUGH


@attrs.define(eq=False)
class Overrun:
    """What a node may not be through with. All times are seconds of the owner's clock.

    Attributes:
        method: what was called; "" if it is not ours: somebody else calls the node.
        sent_at: when the request went out, or the node was found busy.
        since: when the call was to be over.
        timeout: the seconds that the call had.
        counts_from: its own deadline; no window begins before. `math.inf` if nothing counts.
        window_ends: when the windows end that are not counted yet.
        windows: windows in which the model was at it from end to end, and that wait for a witness.
        way_was_good: the node gave a sign of life in time after the call was cut off; None: not known yet.
        cut: its connection has ended.
        unseen: its connection has ended without a sign of life: the model may not have run on. No window is
            opened before the node is seen at it again.
    """

    method: str
    sent_at: float
    since: float
    timeout: float
    counts_from: float = math.inf
    window_ends: list[float] = attrs.field(factory=list)
    windows: int = 0
    way_was_good: bool | None = None
    cut: bool = False
    unseen: bool = False
    _window_until: float = attrs.field(default=-math.inf, init=False)

    @property
    def ours(self) -> bool:
        """Whether it is a call of ours."""
        return bool(self.method)

    @property
    def name(self) -> str:
        """What was called, in words."""
        return self.method.lstrip("/")

    def outlasts(self, timeout: float, now: float) -> bool:
        """Whether it has gone on for longer than a call with this timeout would wait."""
        return now - self.since >= timeout

    def open_window(self, now: float, deadline: float) -> None:
        """A call was made at `now`: open its window, unless another one is open."""
        if now < self.counts_from or math.isinf(self.counts_from) or self.unseen:
            return
        if now < self._window_until:
            return
        end = now + min(self.timeout, LONGEST_WINDOW)
        if not math.isinf(deadline):
            end = max(end, min(deadline, now + LONGEST_WINDOW))
        self._window_until = end
        self.window_ends.append(self._window_until)

    def lose_sight(self) -> None:
        """The way to the node is dead: nobody can say whether the model is at it, so no window counts."""
        self.unseen = True
        self.window_ends.clear()
        self._window_until = -math.inf

    def close_windows(self, seen_at: float) -> int:
        """The node was at it at `seen_at`: give how many windows have ended by then, and forget them."""
        self.unseen = False
        ended = sum(end <= seen_at for end in self.window_ends)
        del self.window_ends[:ended]
        return ended
