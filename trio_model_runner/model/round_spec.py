"""What the calls of a round have in common: what is asked, and what is sent.

A `RoundSpec` is what a coordinator asked for, checked once. It is small and frozen, and may be kept: no
argument, no request and no answer is in it.

In `Requests` the coordinator's arguments meet the wire. Those for all models are encoded once, before
anything is sent, so that a refusal is the coordinator's, at once. A function that makes them for each model
runs in that model's own call: its exception is that model's result, and costs no other model anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

import attrs

from ..config import ClusterConfig
from ..errors import InvalidAnswer
from ..given import check_flag, seconds_given
from ..returns import Structurer, structurer
from ..services.base import Request, ServiceAnswer
from ..text import named_error
from ..values.data import Arguments, decode_encoded
from ..values.effort import NEVER_LONG_BYTES, takes_long_to_decode
from ..values.encoded import DataType, Encoded
from ..workers import run_in_worker
from .callbacks import call_interruptibly

if TYPE_CHECKING:
    from ..rpc.headers import RawFields
    from ..values.results import Model
    from .policy import RoundEvidence

__all__ = ["CallOptions", "FunctionRaised", "Mistakes", "Requests", "RoundSpec", "Value", "check_size"]


_NONE: Final = DataType.NONE  # looked up for each answer, which takes long in an enum


class CallOptions(TypedDict, total=False):
    """The options that all ways to call have in common; `cluster.Cluster.call` says what they mean."""

    timeout: float | None
    optional: bool
    sit_out: bool
    returns: Any
    decode: bool


class FunctionRaised(Exception):
    """A function that the coordinator gave raised an exception.

    Attributes:
        error: that exception.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@attrs.define
class Mistakes:
    """What goes wrong on the coordinator's own side of one round, to be said once, not once for each model.

    Attributes:
        count: for how many models.
        text: the first of them, in words.
        raised: the exception that the coordinator's own function raised, if that is the first of them.
    """

    count: int = 0
    text: str = ""
    raised: Exception | None = None

    def note(self, text: str, raised: Exception | None = None) -> None:
        """Note one."""
        if not self.count:
            self.text, self.raised = text, raised
        self.count += 1


@attrs.define
class Value:
    """What has become of an answer: a value, or why there is none. Not frozen, which would take longer.

    Attributes:
        value: the value.
        error: why there is none; None if there is.
        misfits_count: if the answer does not fit, that is the model's failure.
        detail: the same in words.
        raised: the error is one that the coordinator's own function raised.
    """

    value: Any = None
    error: Exception | None = None
    misfits_count: bool = True
    detail: str = ""
    raised: bool = False


@attrs.frozen
class RoundSpec:
    """What the calls of one round have in common.

    Attributes:
        method: the method's name.
        timeout: seconds that the round may take.
        deadline: when it must be over, on Trio's clock, seconds.
        read: reads a node's answer; raises ValueError for a malformed one.
        optional: a model that lacks the method is not to blame.
        sit_out: a model that sits out some calls after timeouts is not called.
        decode: a value is decoded; else it is given as the `Encoded` that came.
        returns: turns a decoded answer into the value, or raises; None leaves it as it is.
        blame_misfits: an answer that `returns` does not take is the model's failure.
        frames: what data frames are given as.
        max_frame_bytes: how large a data frame may become when it is decoded, bytes.
        max_json_values: how many values JSON may hold.
    """

    method: str
    timeout: float
    deadline: float
    read: Callable[[bytes], ServiceAnswer]
    optional: bool = False
    sit_out: bool = True
    decode: bool = True
    returns: Structurer | None = None
    blame_misfits: bool = False
    frames: Literal["arrow", "pandas"] = "arrow"
    max_frame_bytes: int = 256 << 20
    max_json_values: int = 500_000

    @classmethod
    def make(
        cls,
        config: ClusterConfig,
        method: str,
        read: Callable[[bytes], ServiceAnswer],
        now: float,
        *,
        timeout: float | None = None,
        optional: bool = False,
        sit_out: bool = True,
        returns: Any = None,
        decode: bool = True,
    ) -> RoundSpec:
        """Check what a coordinator asked for, and make the spec.

        Args:
            config: the settings.
            method: the method's name.
            read: see the class.
            now: on Trio's clock, seconds.
            timeout: seconds; None for the configured ones.
            optional: see the class.
            sit_out: see the class.
            returns: a type, or a function; None for the answer as it is.
            decode: see the class.

        Raises:
            TypeError: something is of another type than it must be.
            ValueError: something is out of range.
        """
        if not isinstance(method, str):
            raise TypeError(f"method: must be a str, got {type(method).__name__}")
        timeout = config.timeout if timeout is None else seconds_given(timeout)
        for name, flag in (("optional", optional), ("sit_out", sit_out), ("decode", decode)):
            if not isinstance(flag, bool):  # one call less on the way of every round
                check_flag(flag, name)
        if not decode and returns is not None:
            raise TypeError("returns: not with decode=False: an answer that is not decoded is an Encoded")
        return cls(
            method=method,
            timeout=timeout,
            deadline=now + timeout,
            read=read,
            optional=optional,
            sit_out=sit_out,
            decode=decode,
            returns=None if returns is None else structurer(returns),
            blame_misfits=config.blame_invalid_answers,
            frames=config.frames,
            max_frame_bytes=config.limits.max_frame_bytes,
            max_json_values=config.limits.max_json_values,
        )

    def takes_long_to_decode(self, encoded: Encoded) -> bool:
        """Whether a value should not be decoded in the event loop."""
        if len(encoded.data) <= NEVER_LONG_BYTES[encoded.data_type]:
            return False
        return takes_long_to_decode(encoded, structured=self.structures_in_any_thread)

    @property
    def structures_in_any_thread(self) -> bool:
        """Whether `structured` may be called in a worker thread."""
        return self.returns is not None and self.returns.in_any_thread

    def value_of(self, encoded: Encoded) -> Value:
        """Decode a value and make of it what was asked for. Never raises."""
        decoded = self.decoded(encoded)
        return decoded if self.returns is None else self.structured(decoded)

    def decoded(self, encoded: Encoded) -> Value:
        """Decode a value. Never raises."""
        if encoded.data_type is _NONE:
            return Value()
        try:
            value = decode_encoded(
                encoded,
                frames=self.frames,
                max_frame_bytes=self.max_frame_bytes,
                max_json_values=self.max_json_values,
            )
        except (InvalidAnswer, ImportError) as error:  # or a data frame, and nothing here to read it with
            return Value(error=error, detail=str(error))
        return Value(value)

    def structured(self, decoded: Value) -> Value:
        """Make of a decoded value what was asked for. Never raises."""
        if self.returns is None or decoded.error is not None:
            return decoded
        try:
            return Value(call_interruptibly(self.returns, decoded.value))
        except InvalidAnswer as error:
            return Value(error=error, misfits_count=self.blame_misfits, detail=str(error))
        except Exception as error:  # the coordinator's code: any error is this model's result
            text = f"returns: the function raised {named_error(error)}"
            return Value(error=error, detail=text, raised=True)


def check_size(request: Request, limit: int) -> None:
    """Refuse a request that no node would take.

    Raises:
        ValueError: it has more than `limit` bytes.
    """
    size = sum(map(len, request.message))
    if size > limit:
        raise ValueError(f"arguments: {size:,} bytes, more than limits.max_message_bytes, which is {limit:,}")


class Requests:
    """The requests of one round, and what becomes known of them.

    Args:
        make: makes the request that carries these arguments; raises TypeError or ValueError for some.
        arguments: for all models, or a function that makes them for each.
        max_message_bytes: the largest request that is sent, bytes.
        new_evidence: begins the evidence about a request with arguments of this shape.

    Attributes:
        same: the request where it is the same for all models, once `prepare` has made it.
        evidence: what is known of that request; of no request, where a function makes them.
        metadata: header fields that all requests carry; set before `prepare`.
        mistakes: what the coordinator's own functions did wrong.

    Raises:
        TypeError: `arguments` is neither.
    """

    __slots__ = (
        "_arguments",
        "_evidence_of",
        "_make",
        "_max_message_bytes",
        "_new_evidence",
        "evidence",
        "metadata",
        "mistakes",
        "same",
    )

    def __init__(
        self,
        make: Callable[[Arguments], Request],
        arguments: Arguments | Callable[[Any], Any],
        max_message_bytes: int,
        new_evidence: Callable[[Hashable], RoundEvidence],
    ) -> None:
        if not (isinstance(arguments, Arguments) or callable(arguments)) or arguments is Arguments:
            got = "the class itself" if arguments is Arguments else type(arguments).__name__
            raise TypeError(
                "arguments: must be Arguments(...), or a function that takes a ModelRunner and returns them, "
                f"got {got}"
            )
        if inspect.iscoroutinefunction(arguments):
            raise TypeError("arguments: must be a plain function, not an async one")
        self._make = make
        self._arguments = arguments
        self._max_message_bytes = max_message_bytes
        self._new_evidence = new_evidence
        self._evidence_of: dict[Hashable, RoundEvidence] = {}
        self.evidence = new_evidence(arguments.shape if isinstance(arguments, Arguments) else None)
        self.metadata: RawFields = ()
        self.mistakes = Mistakes()
        self.same: Request | None = None

    @property
    def arguments(self) -> Arguments | None:
        """The arguments for all models; None where a function makes them."""
        return self._arguments if isinstance(self._arguments, Arguments) else None

    async def prepare(self) -> None:
        """Make the request that is the same for all, if it is. No checkpoint where the values are small.

        Raises:
            TypeError: an argument has no encoding, or the service can't carry it.
            ValueError: an argument is out of range, or the request is too large.
        """
        if self.same is None and isinstance(self._arguments, Arguments):
            self.same = await self._encode(self._arguments)

    async def for_model(self, model: Model) -> tuple[Request, RoundEvidence]:
        """The request for one model, and what is known of it. No checkpoint where the values are small.

        Models whose arguments have the same shape are each other's witnesses.

        Raises:
            FunctionRaised: the coordinator's function raised something.
            TypeError, ValueError: what it made can't be sent.
        """
        if self.same is not None:
            return self.same, self.evidence
        return await self.with_arguments(await self.arguments_for(model))

    async def arguments_for(self, model: Model) -> Arguments:
        """The arguments for one model. No checkpoint.

        Raises:
            FunctionRaised: the coordinator's function raised something.
            TypeError: what it returned are no arguments.
        """
        if isinstance(self._arguments, Arguments):
            return self._arguments
        try:
            arguments = call_interruptibly(self._arguments, model)
        except Exception as error:
            raise FunctionRaised(error) from None
        if not isinstance(arguments, Arguments):
            raise TypeError(f"the function must return Arguments(...), got {type(arguments).__name__}")
        return arguments

    async def with_arguments(self, arguments: Arguments) -> tuple[Request, RoundEvidence]:
        """The request with what the coordinator's function returned; see `for_model`."""
        request = await self._encode(arguments)
        evidence = self._evidence_of.get(arguments.shape)
        if evidence is None:
            evidence = self._evidence_of[arguments.shape] = self._new_evidence(arguments.shape)
        return request, evidence

    def waiting(self) -> list[RoundEvidence]:
        """The evidence in which something still waits for a witness."""
        return [each for each in (self.evidence, *self._evidence_of.values()) if each.waiting]

    async def _encode(self, arguments: Arguments) -> Request:
        if arguments.takes_long_to_encode:
            await run_in_worker(arguments.encode)
        request = self._make(arguments)
        check_size(request, self._max_message_bytes)
        return attrs.evolve(request, metadata=self.metadata) if self.metadata else request
