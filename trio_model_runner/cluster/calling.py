"""The ways to call the models of a cluster: all at once, each as it answers, or one alone.

What a coordinator may ask for is spelt out here, for people and for type checkers: what `returns=` names is
the type of the values. How a call is made is `rounds`' and `model.call`'s affair, and which models there are,
`fleet`'s.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, overload

import trio
from trio.lowlevel import enable_ki_protection
from typing_extensions import TypeVar

from ..errors import ClusterDraining
from ..groups import one_by_itself
from ..model.runner import ModelRunner
from ..values.data import Arguments, Encoded
from ..values.prediction_round import PredictionRound
from ..values.results import Model, PredictResult
from .rounds import Round, RoundOptions, choose_members

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from ..config import ClusterConfig
    from ..returns.typing import Returns
    from ..services.base import Service
    from .fleet import Fleet

__all__ = ["ClusterCalls"]

T = TypeVar("T", default=Any)

ArgumentsFor = Callable[[ModelRunner], Arguments]
Models = Iterable[Model | str]
Completed = AbstractAsyncContextManager[AsyncIterator[PredictResult[T]]]

_NO_ARGUMENTS = Arguments()


class ClusterCalls:
    """The part of a `Cluster` that calls its models."""

    def __init__(self, config: ClusterConfig, service: Service, fleet: Fleet) -> None:
        self._config = config
        self._service = service
        self._fleet = fleet
        self._open = False
        self._draining = False
        self._rounds: dict[Round, None] = {}
        self._round_ids = itertools.count(1)
        self._last_round: PredictionRound[Any] | None = None

    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        returns: None = ...,
        decode: Literal[False],
    ) -> PredictionRound[Encoded]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        returns: None = ...,
        decode: bool = ...,
    ) -> PredictionRound[Any]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        returns: Returns[T],
    ) -> PredictionRound[T]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        returns: TypeForm[T],
    ) -> PredictionRound[T]: ...
    @enable_ki_protection  # so that no model's queue keeps a place that nobody has
    async def call(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = _NO_ARGUMENTS,
        *,
        timeout: float | None = None,
        models: Models | None = None,
        optional: bool = False,
        returns: Any = None,
        decode: bool = True,
    ) -> PredictionRound[Any]:
        """Call a method of all models, and return a result from each by the deadline.

        Args:
            method: its name.
            arguments: what it gets, the same for all; or a function that makes the arguments of each.
            timeout: seconds; None for the configured one. If the deadline of an enclosing cancel scope is
                nearer, the round ends just before that.
            models: whom to call, runners or ids; None for all that are announced.
            optional: a model that has no such method is not to blame.
            returns: what an answer must look like: a type, or a function that takes the answer and returns
                the value, or raises ValueError. A function runs in the event loop.
            decode: False for the answers as they came, as `Encoded`.

        Raises:
            TypeError: an argument can't be sent, or has the wrong type. Nothing was sent.
            ValueError: an argument is out of range. Nothing was sent.
            ClusterDraining: `drain` was called.
            trio.ClosedResourceError: the block was not entered, or was left.
        """
        options = self._options(method, arguments, timeout, optional=optional, returns=returns, decode=decode)
        self._last_round = await self._prepare_and_play(self._new_round(options, models))
        return self._last_round

    @overload
    async def predict(
        self,
        *values: Any,
        timeout: float | None = ...,
        models: Models | None = ...,
        returns: None = ...,
        decode: Literal[False],
    ) -> PredictionRound[Encoded]: ...
    @overload
    async def predict(
        self,
        *values: Any,
        timeout: float | None = ...,
        models: Models | None = ...,
        returns: None = ...,
        decode: bool = ...,
    ) -> PredictionRound[Any]: ...
    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., models: Models | None = ..., returns: Returns[T]
    ) -> PredictionRound[T]: ...
    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., models: Models | None = ..., returns: TypeForm[T]
    ) -> PredictionRound[T]: ...
    async def predict(
        self,
        *values: Any,
        timeout: float | None = None,
        models: Models | None = None,
        returns: Any = None,
        decode: bool = True,
    ) -> PredictionRound[Any]:
        """Have all models predict from these values; see `call`.

        That is the method ``predict`` on `DynamicSubclassService`, and `Infer`, of exactly one value, on
        the services that infer.
        """
        method, arguments = self._service.predict_method(), Arguments(*values)
        return await self.call(
            method, arguments, timeout=timeout, models=models, returns=returns, decode=decode
        )

    @overload
    def as_completed(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        returns: None = ...,
        decode: Literal[False],
    ) -> Completed[Encoded]: ...
    @overload
    def as_completed(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        returns: None = ...,
        decode: bool = ...,
    ) -> Completed[Any]: ...
    @overload
    def as_completed(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        returns: Returns[T],
    ) -> Completed[T]: ...
    @overload
    def as_completed(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        returns: TypeForm[T],
    ) -> Completed[T]: ...
    @contextlib.asynccontextmanager
    @enable_ki_protection
    async def as_completed(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = _NO_ARGUMENTS,
        *,
        timeout: float | None = None,
        models: Models | None = None,
        optional: bool = False,
        returns: Any = None,
        decode: bool = True,
    ) -> AsyncIterator[AsyncIterator[PredictResult[Any]]]:
        """Call as `call` does, and get each result as it comes.

            async with cluster.as_completed("predict") as results:
                async for result in results:
                    ...

        Leaving the block early cancels the calls that are still open. However slow the block is, deadlines
        are kept.
        """
        options = self._options(method, arguments, timeout, optional=optional, returns=returns, decode=decode)
        send, receive = trio.open_memory_channel[PredictResult[Any]](math.inf)

        def deliver(result: PredictResult[Any]) -> None:
            with contextlib.suppress(trio.BrokenResourceError):  # the block was left, or closed its end
                send.send_nowait(result)

        new_round = self._new_round(options, models, on_result=deliver)
        await self._prepare(new_round)

        @enable_ki_protection
        async def play() -> None:
            with send:
                self._last_round = await self._play(new_round)

        with one_by_itself():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(play)
                with receive:
                    yield receive
                nursery.cancel_scope.cancel()

    @enable_ki_protection
    async def _call_model(
        self, model: ModelRunner, method: str | None, arguments: Arguments, **more: Any
    ) -> PredictResult[Any]:
        """Make one call on one model; `model.host.CallModel` says more."""
        method = self._service.predict_method() if method is None else method
        options = self._options(method, arguments, **more)
        new_round = self._new_round(options, [model], may_be_joining=not options.resets)
        return (await self._prepare_and_play(new_round))[model]

    def _options(
        self, method: str, arguments: Any, timeout: float | None = None, **more: Any
    ) -> RoundOptions:
        timeout = self._config.timeout if timeout is None else timeout
        return RoundOptions(method, arguments, timeout, **more)

    @enable_ki_protection
    def _new_round(self, options: RoundOptions, models: Models | None, **more: Any) -> Round:
        self._check_open()
        if self._draining:
            raise ClusterDraining("this cluster takes no new calls: drain() was called")
        members, missing = choose_members(models, self._fleet.announced)
        round_id = str(next(self._round_ids))
        return Round(round_id, options, members, missing, self._config, self._service, **more)

    async def _prepare_and_play(self, new_round: Round) -> PredictionRound[Any]:
        """Play a round, at once: between its making and this, a Ctrl-C would leave its places taken."""
        await self._prepare(new_round)
        return await self._play(new_round)

    async def _prepare(self, new_round: Round) -> None:  # noqa: ASYNC910 - no checkpoint if there is little to do
        """Prepare a round, which is in progress from here on: `drain` ends it, and waits for it."""
        self._rounds[new_round] = None
        try:
            await new_round.prepare()
        except BaseException:
            self._note_end(new_round)
            raise

    async def _play(self, new_round: Round) -> PredictionRound[Any]:
        """Play a round that is prepared."""
        try:
            return await new_round.play()
        finally:
            self._note_end(new_round)

    def _note_end(self, new_round: Round) -> None:
        del self._rounds[new_round]
        self._fleet.wake()

    def _check_open(self) -> None:
        if not self._open:
            raise trio.ClosedResourceError("this cluster's block was not entered, or was left")
