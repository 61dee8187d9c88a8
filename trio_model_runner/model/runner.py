"""One deployment of one model, as the coordinator and the calls see it.

What it is, how it is, and the calls that wait for it are here; how it gets and stays connected is `life`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import attrs
import trio
from trio.lowlevel import enable_ki_protection
from typing_extensions import TypeVar

from ..errors import ProofFailed
from ..security.delegation import UnknownIdentity
from ..text import readable
from ..values.data import Arguments
from ..values.results import ModelError, ModelState, Status
from .call import ModelUnavailableError
from .life import ModelLife
from .policy import Outcome, Record
from .queueing import CallQueue, Turn
from .states import NEXT, JoinReason

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from ..returns.typing import Returns
    from ..values.data import Encoded
    from ..values.results import PredictResult
    from .host import ModelHost
    from .node_connection import NodeConnection

__all__ = ["ModelRunner"]

T = TypeVar("T", default=Any)

_UNAVAILABLE: Final = frozenset({ModelState.RECOVERING, ModelState.FAILED, ModelState.GONE})


class ModelRunner:
    """One deployment of one model. Equality is identity: a redeployed model is another `ModelRunner`.

    Attributes:
        model_id: the model, stable over deployments.
        deployment_id: this deployment; None where the orchestrator is too old to say.
        infos: what else the orchestrator says of it; replaced when it says something new.
        host: where its node listens, a name or an address.
        port: where its node listens.
        error: why it is not ready, or None.
    """

    def __init__(
        self,
        owner: ModelHost,
        *,
        model_id: str,
        deployment_id: str | None,
        host: str,
        port: int,
        infos: Mapping[str, Any],
        reason: JoinReason,
    ) -> None:
        config = owner.config
        self.model_id = model_id
        self.deployment_id = deployment_id
        self.infos = infos
        self.host = host
        self.port = port
        self.error: BaseException | None = None
        self.record = Record(config.max_consecutive_failures, config.max_consecutive_timeouts)
        self.overrunning = False
        self.retired = False
        self._owner = owner
        self._state = ModelState.ANNOUNCED
        self._changed = trio.Event()
        self._queue = CallQueue(config.limits.max_queued_calls)
        self._joining_queue = CallQueue(config.limits.max_queued_calls)
        self._max_detail_length = config.limits.max_detail_length
        self._life = ModelLife(self, owner, reason)

    def __repr__(self) -> str:
        return f"<ModelRunner {self.model_id!r} {self.state.value} at {self.host}:{self.port}>"

    @property
    def name(self) -> str:
        """The model's name, its author's choice, made fit to be shown; empty where unknown."""
        return self.shorten(str(self.infos.get("model_name") or ""))

    @property
    def cruncher_id(self) -> str:
        """Its author's id, made fit to be shown; empty where unknown."""
        return self.shorten(str(self.infos.get("cruncher_id") or ""))

    @property
    def cruncher_name(self) -> str:
        """Its author's name, made fit to be shown; empty where unknown."""
        return self.shorten(str(self.infos.get("cruncher_name") or ""))

    @property
    def state(self) -> ModelState:
        """Where it is in its life."""
        return self._state

    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments = ...,
        *,
        timeout: float | None = ...,
        optional: bool = ...,
        returns: None = ...,
        decode: Literal[False],
    ) -> PredictResult[Encoded]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments = ...,
        *,
        timeout: float | None = ...,
        optional: bool = ...,
        returns: None = ...,
        decode: bool = ...,
    ) -> PredictResult[Any]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments = ...,
        *,
        timeout: float | None = ...,
        optional: bool = ...,
        returns: Returns[T],
    ) -> PredictResult[T]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments = ...,
        *,
        timeout: float | None = ...,
        optional: bool = ...,
        returns: TypeForm[T],
    ) -> PredictResult[T]: ...
    async def call(
        self,
        method: str,
        arguments: Arguments = Arguments(),  # noqa: B008 - it is immutable
        *,
        timeout: float | None = None,
        optional: bool = False,
        returns: Any = None,
        decode: bool = True,
    ) -> PredictResult[Any]:
        """Call a method of this model alone; see `Cluster.call`.

        What the model does is in the result's status, and never raised. In `on_join` this reaches the
        model before it takes part in rounds.
        """
        return await self._owner.call_model(
            self, method, arguments, timeout=timeout, optional=optional, returns=returns, decode=decode
        )

    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., returns: None = ..., decode: Literal[False]
    ) -> PredictResult[Encoded]: ...
    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., returns: None = ..., decode: bool = ...
    ) -> PredictResult[Any]: ...
    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., returns: Returns[T]
    ) -> PredictResult[T]: ...
    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., returns: TypeForm[T]
    ) -> PredictResult[T]: ...
    async def predict(
        self, *values: Any, timeout: float | None = None, returns: Any = None, decode: bool = True
    ) -> PredictResult[Any]:
        """Have this model alone predict; see `Cluster.predict`."""
        return await self._owner.call_model(
            self, None, Arguments(*values), timeout=timeout, returns=returns, decode=decode
        )

    async def reset(self, *, timeout: float | None = None) -> PredictResult[None]:
        """Have this model forget all that it has learnt, and join again.

        Its node drops the model's instance (`Rest`; `Reinitialize` on the services that infer), and then
        comes what comes after every loss of an instance: Setup, and `on_join`. Calls that wait for the model
        are made after that. SUCCESS says that it is ready again; in `on_join` the result is ABSENT.

        Deployed nodes (release 0.4.2) go on calling methods that were called before on the old instance, so
        there this resets only what is called for the first time afterwards.

        Args:
            timeout: seconds for all of it; None for the configured one. A model that is not ready again by
                then is TIMEOUT, and goes on joining.
        """
        config, service = self._owner.config, self._owner.service
        timeout = config.timeout if timeout is None else timeout
        began = trio.current_time()
        rpc = service.reset_request().path
        result = await self._owner.call_model(self, rpc, Arguments(), timeout=timeout, resets=True)
        if result.status is not Status.SUCCESS:
            return result
        enclosing = trio.current_effective_deadline() - config.scope_margin
        with trio.move_on_at(min(began + timeout, enclosing)) as scope:
            try:
                await self.wait_usable(joining=False)
            except ModelUnavailableError as error:
                result = attrs.evolve(result, status=Status.FAILED, detail=str(error), error=self.error)
        if scope.cancelled_caught:
            detail = f"it was reset, and is still {self.state.value}"
            result = attrs.evolve(result, status=Status.TIMEOUT, detail=detail)
        return result

    def to_dict(self) -> dict[str, Any]:
        """What it is and how it is, as a dict that `json.dumps` takes; `infos` are left out."""
        return {
            "model_id": self.model_id,
            "deployment_id": self.deployment_id,
            "name": self.name,
            "cruncher_id": self.cruncher_id,
            "cruncher_name": self.cruncher_name,
            "host": self.host,
            "port": self.port,
            "state": self.state.value,
            "error": None if self.error is None else str(self.error),
        }

    @property
    def ready(self) -> bool:
        """Whether it takes part in rounds; it does not from the moment on in which its connection is lost.

        The state follows a little later, and a call made meanwhile would wait for the next connection.
        """
        return not self.retired and self.usable(joining=False) is not None

    @property
    def joining(self) -> bool:
        """Whether `on_join` runs."""
        return self._state is ModelState.JOINING

    @property
    def condition(self) -> str:
        """How it is, in words."""
        if self.retired:
            return "replaced by another deployment"
        return f"{self._state.value}: {self.error}" if self.error is not None else self._state.value

    def take_turn(self, *, joining: bool) -> Turn:
        """Take a place in the queue; `on_join`'s calls have one of their own, ahead of those that wait.

        Raises:
            QueueFullError: too many wait.
        """
        return (self._joining_queue if joining else self._queue).take_turn()

    async def wait_no_calls(self) -> None:
        """Wait until no call is made or waits."""
        await self._queue.wait_empty()

    def usable(self, *, joining: bool) -> NodeConnection | None:
        """The connection for a call, if there is one now."""
        wanted = ModelState.JOINING if joining else ModelState.READY
        node = self._life.node
        if self._state is wanted and node is not None and node.connection.accepts_calls:
            return node
        return None

    async def wait_usable(self, *, joining: bool) -> NodeConnection:
        """The connection for a call, once there is one.

        Raises:
            ModelUnavailableError: there is none, and none is on its way.
        """
        while True:
            if (node := self.usable(joining=joining)) is not None:
                return node  # noqa: ASYNC910 - the call that follows is one
            if joining or self.retired or self._state in _UNAVAILABLE:
                raise ModelUnavailableError(self.condition)
            await self._changed.wait()

    def shorten(self, text: str) -> str:
        """Make a text that came from outside fit to be kept and shown; see `texts`."""
        return readable(text, self._max_detail_length)

    def note(self, outcome: Outcome, method: str, detail: str) -> None:
        """Draw the consequences of a call's outcome."""
        code = self.record.note(outcome)
        if outcome is Outcome.SUCCEEDED:
            self._owner.acquit(self, method)
        elif outcome is Outcome.OVERRAN and self._life.may_verify_timeout(code):
            self._life.verify_timeout(code, detail)
        elif code is not None and self._state is not ModelState.FAILED:  # or it was just let go of
            self._owner.accuse(self, code, detail, method if outcome is Outcome.BAD_IMPLEMENTATION else None)

    def renew(self, reason: str) -> None:
        """Go through setup again: the node has lost its instance."""
        self._life.renew(reason)

    @enable_ki_protection
    def update(self, infos: Mapping[str, Any]) -> None:
        """Take what the orchestrator says of it now."""
        if infos != self.infos:
            self.infos = infos
            self._owner.infos_changed(self)
            if isinstance(self.error, UnknownIdentity):
                self.revive()

    @enable_ki_protection
    async def live(self) -> None:
        """Be brought up, kept up and let go; see `ModelLife.live`."""
        await self._life.live()

    @enable_ki_protection
    def enter(self, state: ModelState) -> None:
        """Change the state; nothing else does.

        Raises:
            RuntimeError: `states.NEXT` does not have this.
        """
        previous = self._state
        if state not in NEXT[previous]:
            raise RuntimeError(f"model {self.model_id}: {previous.value} can't become {state.value}")
        self._state = state
        if state is ModelState.READY:
            self.error = None
        self._changed.set()
        self._changed = trio.Event()
        self._owner.state_changed(self, previous)

    @enable_ki_protection
    def recover(self) -> None:
        """It crashed and is being restarted: let go of it until it is announced again."""
        if self._state not in (ModelState.RECOVERING, ModelState.GONE):
            self._begin_anew()  # nobody needs to be told any more what it did before
            self._life.pause()
            self.error = ModelError("it crashed, and is being restarted")
            self.enter(ModelState.RECOVERING)

    @enable_ki_protection
    def revive(self) -> None:
        """It is announced again: try it, if it was given up or recovering, and else not less than before."""
        if self._state in (ModelState.FAILED, ModelState.RECOVERING):
            self._begin_anew()
        self._life.revive()

    @enable_ki_protection
    def retry(self) -> None:
        """It was given up, and perhaps through no fault of its own: try it again after a while.

        But not one that could not prove who it is: that takes another announcement.
        """
        if self._state is ModelState.FAILED and not isinstance(self.error, ProofFailed):
            self._life.retry()

    @enable_ki_protection
    def move(self, host: str, port: int) -> None:
        """It is announced at another address."""
        self.host, self.port = host, port
        self._begin_anew()
        self._life.start_over()

    def _begin_anew(self) -> None:
        self.record.clear()
        self._owner.pardon(self)

    @enable_ki_protection
    def give_up(self, reason: str) -> None:
        """Let go of it until it is announced again: it was reported."""
        self._life.pause()  # also one that failed, and was to be tried again
        if self._state not in (ModelState.FAILED, ModelState.GONE):
            self.error = self.error or ModelError(reason)
            self.enter(ModelState.FAILED)

    @enable_ki_protection
    def distrust(self, error: ProofFailed) -> None:
        """Let go of it until it is announced again: an answer was not its own."""
        if self._state not in (ModelState.FAILED, ModelState.GONE):
            self._life.pause()
            self.error = error
            self.enter(ModelState.FAILED)

    @enable_ki_protection
    def retire(self) -> None:
        """Let it finish its calls and go: another deployment has taken its place."""
        self.retired = True
        if self._state is ModelState.READY:
            self._life.retire()
        else:
            self.stop()

    @enable_ki_protection
    def stop(self) -> None:
        """Let go of it at once; its calls are cut off."""
        if self._state is not ModelState.GONE:
            self.enter(ModelState.GONE)
        self._life.stop()
