"""What the calls of one round have in common: what is sent, and how an answer becomes a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ..errors import InvalidAnswer
from ..values.data import DataType, decode_data
from ..values.effort import takes_long_to_decode
from .callbacks import call_interruptibly
from .policy import Outcome

if TYPE_CHECKING:
    from ..returns import Structurer
    from ..services.base import ServiceAnswer
    from ..values.encoded import Encoded
    from .requests import Requests

__all__ = ["CallSpec", "Value"]


@attrs.define
class Value:
    """What has become of a value: the value, or why there is none. Not frozen, which would take longer."""

    outcome: Outcome
    value: Any = None
    error: Exception | None = None
    detail: str = ""


@attrs.frozen
class CallSpec:
    """What the calls of one round have in common.

    Attributes:
        method: the method's name.
        requests: what each model is sent.
        read: reads a node's answer; raises ValueError for a malformed one.
        deadline: on Trio's clock, seconds.
        optional: a model that lacks the method is not to blame.
        decode: a value is decoded; else it is given as the `Encoded` that came.
        frames: what data frames are given as.
        max_frame_bytes: how large a data frame may become when it is decoded, bytes.
        returns: turns a decoded answer into the value, or raises; None leaves it as it is.
        misfit: what it is when `returns` raises `InvalidAnswer`.
        resets: the call takes the model's instance away, so that it must be set up again.
    """

    method: str
    requests: Requests
    read: Callable[[bytes], ServiceAnswer]
    deadline: float
    optional: bool = False
    decode: bool = True
    frames: Literal["arrow", "pandas"] = "arrow"
    max_frame_bytes: int = 256 << 20
    returns: Structurer | None = None
    misfit: Outcome = Outcome.INVALID_ANSWER
    resets: bool = False

    def takes_long_to_decode(self, encoded: Encoded) -> bool:
        """Whether a value should be decoded in a worker thread."""
        return takes_long_to_decode(encoded, frames=self.frames)

    @property
    def structures_in_any_thread(self) -> bool:
        """Whether `structured` may be called in a worker thread."""
        return self.returns is not None and self.returns.in_any_thread

    def value_of(self, encoded: Encoded) -> Value:
        """Decode a value and make of it what was asked for. Never raises."""
        return self.structured(self.decoded(encoded))

    def decoded(self, encoded: Encoded) -> Value:
        """Decode a value. Never raises."""
        if encoded.data_type is DataType.NONE:
            return Value(Outcome.SUCCEEDED)
        try:
            value = decode_data(
                encoded.data, encoded.data_type, frames=self.frames, max_frame_bytes=self.max_frame_bytes
            )
        except InvalidAnswer as error:
            return Value(Outcome.MODEL_FAILED, error=error, detail=str(error))
        except ImportError as error:  # a data frame, and nothing here to read it with
            return Value(Outcome.COORDINATOR_RAISED, error=error, detail=str(error))
        return Value(Outcome.SUCCEEDED, value)

    def structured(self, decoded: Value) -> Value:
        """Make of a decoded value what was asked for. Never raises."""
        if self.returns is None or decoded.outcome is not Outcome.SUCCEEDED:
            return decoded
        try:
            return Value(Outcome.SUCCEEDED, call_interruptibly(self.returns, decoded.value))
        except InvalidAnswer as error:
            return Value(self.misfit, error=error, detail=str(error))
        except Exception as error:  # the coordinator's code: any error is this model's result
            return Value(Outcome.COORDINATOR_RAISED, error=error, detail=f"returns: {error!r}")
