"""Rounds: the same call on many models at once, and one result from each by the deadline.

A round takes its members and their places in the queues before its first checkpoint. So a model that has just
joined is either in it or not, and never half; that is what makes a catch-up in `on_join` exact.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ..model.call import Call
from ..model.call_spec import CallSpec
from ..model.performing import perform_all
from ..model.policy import Outcome
from ..model.requests import Requests
from ..model.runner import ModelRunner
from ..returns import structurer
from ..values.data import Arguments
from ..values.prediction_round import PredictionRound
from ..values.results import Model, PredictResult

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from ..services.base import Request, Service

__all__ = ["Round", "RoundOptions", "choose_members"]


def choose_members(
    models: Iterable[Model | str] | None, announced: Mapping[str, ModelRunner]
) -> tuple[list[ModelRunner], list[str]]:
    """Whom a round calls, each once, and the ids among `models` that are not announced.

    Args:
        models: runners or ids; None for all that are announced.
        announced: the announced models, by id.

    Raises:
        TypeError: `models` is something else.
    """
    if models is None:
        return list(announced.values()), []
    if isinstance(models, str) or not isinstance(models, Iterable):
        raise TypeError(f"models: must be several ModelRunners or ids, got one {type(models).__name__}")
    members: dict[ModelRunner, None] = {}
    missing: dict[str, None] = {}
    for model in models:
        if isinstance(model, ModelRunner):
            members[model] = None
        elif not isinstance(model, str):
            raise TypeError(f"models: must be ModelRunners or ids, got {type(model).__name__}")
        elif model in announced:
            members[announced[model]] = None
        else:
            missing[model] = None
    return list(members), list(missing)


@attrs.frozen
class RoundOptions:
    """What a coordinator asks of a round; see `Cluster.call`.

    Raises:
        TypeError: something is of another type than it must be.
        ValueError: something is out of range.
    """

    method: str
    arguments: Arguments | Callable[[ModelRunner], Arguments]
    timeout: float
    optional: bool = False
    returns: Any = None
    decode: bool = True
    resets: bool = False

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.method, str):
            raise TypeError(f"method: must be a str, got {type(self.method).__name__}")
        if not (isinstance(self.arguments, Arguments) or callable(self.arguments)):
            raise TypeError(
                "arguments: must be Arguments, or a function that takes a ModelRunner and returns them, "
                f"got {type(self.arguments).__name__}"
            )
        if inspect.iscoroutinefunction(self.arguments):
            raise TypeError("arguments: must be a plain function, not an async one")
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, (int, float)):
            raise TypeError(f"timeout: must be a number of seconds, got {type(self.timeout).__name__}")
        if not self.timeout > 0:
            raise ValueError(f"timeout: must be > 0 seconds, got {self.timeout!r}")
        if not self.decode and self.returns is not None:
            raise TypeError("returns: an answer that is not decoded (decode=False) has no other type")

    def spec(self, config: ClusterConfig, service: Service, deadline: float) -> CallSpec:
        """The same as the calls need it."""
        limit = config.limits.max_message_bytes
        make = self._reset_request if self.resets else self._call_request
        return CallSpec(
            method=self.method,
            requests=Requests(functools.partial(make, service), self.arguments, limit),
            read=service.read_reset if self.resets else service.read_call,
            deadline=deadline,
            optional=self.optional,
            decode=self.decode,
            frames=config.frames,
            max_frame_bytes=config.limits.max_frame_bytes,
            returns=structurer(self.returns),
            misfit=Outcome.MODEL_FAILED if config.blame_invalid_answers else Outcome.INVALID_ANSWER,
            resets=self.resets,
        )

    def _call_request(self, service: Service, arguments: Arguments) -> Request:
        return service.call_request(self.method, arguments)

    def _reset_request(self, service: Service, _: Arguments) -> Request:
        return service.reset_request()


class Round:
    """One round. Making it takes the members and their places, without a checkpoint.

    After that comes `prepare`, and if that raised nothing, `play`.

    Args:
        round_id: the round's id.
        options: what is asked.
        models: whom, each once.
        missing: ids that were asked for and never announced.
        config: the settings.
        service: what the nodes speak.
        on_result: told each result, as it comes.
        may_be_joining: a model that `on_join` is catching up is called, too.
    """

    def __init__(
        self,
        round_id: str,
        options: RoundOptions,
        models: Iterable[ModelRunner],
        missing: Sequence[str],
        config: ClusterConfig,
        service: Service,
        *,
        on_result: Callable[[PredictResult[Any]], None] | None = None,
        may_be_joining: bool = False,
    ) -> None:
        self._id = round_id
        self._options = options
        self._missing = missing
        self._started_at = time.time()
        self._began = trio.current_time()
        deadline = self._began + options.timeout
        self._spec = options.spec(config, service, deadline)
        # An enclosing deadline that is nearer would turn the answers into a `Cancelled`.
        enclosing = trio.current_effective_deadline() - config.scope_margin
        self._cutoff = trio.CancelScope(deadline=min(deadline, enclosing))
        self._preparation = trio.CancelScope(deadline=self._cutoff.deadline)
        self._calls = [
            Call(model, self._spec, on_result=on_result, may_be_joining=may_be_joining) for model in models
        ]

    def end_by(self, deadline: float) -> None:
        """Cut the round off at this time on Trio's clock, in seconds, if that is sooner."""
        for scope in (self._preparation, self._cutoff):
            scope.deadline = min(scope.deadline, deadline)

    async def prepare(self) -> None:  # noqa: ASYNC910 - no checkpoint where the values are small
        """Encode what is the same for all models, before anything is sent.

        Raises:
            TypeError: an argument has no encoding, or the service can't carry it.
            ValueError: an argument is out of range, or the request is too large.
        """
        try:
            with self._preparation:
                await self._spec.requests.prepare()
        except BaseException:
            for call in self._calls:
                call.leave()
            raise

    async def play(self) -> PredictionRound[Any]:
        """Make the calls and return their results, by the deadline."""
        if self._preparation.cancelled_caught:
            for call in self._calls:
                call.leave()
                call.expire(excused=True)
            await trio.lowlevel.checkpoint()
        else:
            await perform_all(self._calls, self._cutoff)
        return PredictionRound(
            {call.model: call.result for call in self._calls if call.result is not None},
            id=self._id,
            method=self._options.method,
            started_at=self._started_at,
            elapsed=trio.current_time() - self._began,
            timeout=float(self._options.timeout),
            missing=self._missing,
        )
