"""A model's life: a loop around its connection.

Connect, set up, let the coordinator catch up (`on_join`), serve until the connection is gone, and again.
Every model lives in tasks of its own, so one that hangs anywhere in this costs no other model anything; and
no call waits for any of it, but one whose request certainly had no effect, and then only until its deadline.

The orchestrator's word comes from outside (`ModelRunner.recover`, `revive`, `move`, `retire`, `stop`). It
changes the state at once, and this loop finds itself cancelled at its next checkpoint. So each step of the
loop first asks whether it still may (`_advance`).
"""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, Final

import trio
from grpclib.const import Status as GRPCStatus
from grpclib.exceptions import GRPCError
from trio.lowlevel import enable_ki_protection

from ..errors import ModelError
from ..groups import describe, one_by_itself
from ..rpc.connecting import open_connection
from ..rpc.connection import Connection
from ..rpc.receiver import CallInterrupted
from ..rpc.unary import Answer, UnaryCall
from .policy import Outcome, is_busy, outcome_of_setup, outcome_of_setup_error
from .states import JoinReason, ModelState

if TYPE_CHECKING:
    from .host import ModelHost
    from .policy import FailureCode
    from .runner import ModelRunner

__all__ = ["ModelLife"]

_SETUP_BUSY_RETRY: Final = 0.1
_MAX_PINGS_WITHOUT_ANSWER: Final = 2

_LOCAL_ERRORS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)
"""Errors of connecting that are about this machine, not about the node."""


class BringUpError(Exception):
    """A model can't be brought up, and trying again at once would not help.

    Attributes:
        outcome: what this means.
        error: the exception behind it, if there is one.
        may_pass: it may pass by itself, so that trying again later may help.
    """

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        error: BaseException | None = None,
        *,
        may_pass: bool = False,
    ) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.error = error
        self.may_pass = may_pass


class ModelLife:
    """Keeps one model connected, set up and caught up.

    Attributes:
        connection: what carries calls; None unless the model is joining or ready.
    """

    def __init__(self, model: ModelRunner, host: ModelHost, reason: JoinReason) -> None:
        self.connection: Connection | None = None
        self._model = model
        self._host = host
        self._config = host.config
        self._reason = reason
        self._wanted = True
        self._wake = trio.Event()
        self._retry_after = math.inf
        self._keepalive_interval = host.config.keepalive.interval
        self._leaving = False
        self._renewing = False
        self._scope = trio.CancelScope(shield=True)
        self._attempt = trio.CancelScope()
        self._serving = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    @enable_ki_protection
    async def live(self) -> None:
        """Be the model until it is stopped or retired; only that ends it, for it is shielded."""
        with self._scope, one_by_itself():
            async with trio.open_nursery() as self._nursery:
                while not self._leaving:
                    await self._wait_wanted()
                    with trio.CancelScope() as self._attempt:
                        try:
                            await self._connect_and_serve(self._nursery)
                        except BringUpError as failure:
                            self._give_up(failure)
        if self._model.state is not ModelState.GONE:
            self._model.enter(ModelState.GONE)

    def start_over(self) -> None:
        """Try again now, whether it was given up or is at it."""
        self._wanted = True
        self._wake.set()
        self._attempt.cancel()

    def revive(self) -> None:
        """Try again, if it was given up."""
        self._wanted = True
        self._wake.set()

    def pause(self) -> None:
        """Let go of the connection until `revive`."""
        self._wanted = False
        self._retry_after = math.inf
        self._attempt.cancel()

    def renew(self, reason: str) -> None:
        """Go through setup again at once, on a new connection."""
        if self.connection is not None:
            self._renewing = True
            self.connection.retire(reason)

    def retire(self) -> None:
        """Carry what calls there are, and then end."""
        self._leaving = True
        self._serving.cancel()

    def stop(self) -> None:
        """End now."""
        self._scope.cancel()

    async def _wait_wanted(self) -> None:  # noqa: ASYNC910 - a step of the loop, which is full of them
        while not self._wanted:
            self._wake = trio.Event()
            with trio.move_on_after(self._retry_after) as scope:
                await self._wake.wait()
            self._wanted = self._wanted or scope.cancelled_caught

    async def _advance(self, state: ModelState) -> None:
        """Enter the next state, unless a word from outside has ended this attempt. Not a schedule point."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._model.enter(state)

    def _give_up(self, failure: BringUpError) -> None:
        if self._attempt.cancel_called or self._scope.cancel_called:  # a word from outside came first
            return
        self._wanted = False
        self._retry_after = self._config.backoff.maximum if failure.may_pass else math.inf
        self._model.error = _error_of(failure)
        self._model.enter(ModelState.FAILED)
        code = self._model.record.note(failure.outcome)
        if code is not None:
            missing = failure.outcome is Outcome.BAD_IMPLEMENTATION
            self._host.accuse(
                self._model, code, str(failure), self._host.service.instance_name if missing else None
            )

    async def _connect_and_serve(self, nursery: trio.Nursery) -> None:  # noqa: ASYNC910
        """Connect, serve, and reconnect, until the attempts are exhausted or the model leaves."""
        grace = self._config.shutdown_grace
        delays = self._config.backoff.delays()
        while not self._leaving:
            await self._advance(ModelState.CONNECTING)
            connection: Connection | None = None
            let_finish = False
            ready_at = math.inf
            try:
                connection = await self._connect(nursery)
                await self._bring_up(connection)
                ready_at = trio.current_time()
                await self._serve(connection)
                let_finish = not connection.lost
            except (OSError, CallInterrupted) as error:
                self._model.error = error
            finally:
                self.connection = None
                if connection is not None:
                    nursery.start_soon(connection.finish if let_finish else connection.aclose, grace)
            if self._leaving or self._renewing:
                self._renewing = False
                continue
            if trio.current_time() - ready_at >= self._config.backoff.initial:
                delays = self._config.backoff.delays()
                continue
            delay = next(delays, None)
            if delay is None:
                raise self._unreachable()
            await trio.sleep(delay)

    def _unreachable(self) -> BringUpError:
        error = self._model.error
        text = describe(error) if error is not None else "the connection ended at once"
        reason = f"no connection after {self._config.backoff.attempts} attempts: {text}"
        local = error is not None and _is_local(error)
        outcome = Outcome.COORDINATOR_RAISED if local else Outcome.UNREACHABLE
        may_pass = local or not self._config.report_failures
        return BringUpError(outcome, self._model.shorten(reason), error, may_pass=may_pass)

    async def _connect(self, nursery: trio.Nursery) -> Connection:
        async with self._host.connect_limiter:
            return await open_connection(
                nursery,
                self._config.network,
                self._model.host,
                self._model.port,
                timeout=self._config.backoff.connect_timeout,
                max_header_bytes=self._config.limits.max_header_bytes,
            )

    async def _bring_up(self, connection: Connection) -> None:
        """Go through everything that must be done on a new connection before it carries calls."""
        await self._advance(ModelState.SETTING_UP)
        fresh = await self._set_up(connection)
        if fresh or self._reason is not JoinReason.RESTARTED:
            self.connection = connection
            await self._advance(ModelState.JOINING)
            await self._join(connection, fresh=fresh)
        # Between the end of `on_join` and READY there must be no schedule point, or a round would be missed.
        self.connection = connection
        self._reason = JoinReason.RESTARTED
        await self._advance(ModelState.READY)

    async def _join(self, connection: Connection, *, fresh: bool) -> None:
        try:
            await self._host.join(self._model, self._reason, fresh=fresh)
        except Exception as error:  # the coordinator's code: any error keeps just this model out
            if connection.lost:
                raise CallInterrupted(connection.loss, connection_lost=True) from error
            raise BringUpError(Outcome.COORDINATOR_RAISED, f"on_join: {error!r}", error) from error

    async def _set_up(self, connection: Connection) -> bool:
        """Set the model up; whether that made a new instance."""
        timeout = self._config.setup_timeout
        answer: Answer | None = None
        with trio.move_on_after(timeout):
            answer = await self._ask_to_set_up(connection)
        if answer is None:
            raise BringUpError(Outcome.SETUP_UNANSWERED, f"Setup was not answered within {timeout:g} s")
        try:
            setup = self._host.service.read_setup(answer.message)
        except ValueError as error:
            raise BringUpError(
                Outcome.SETUP_FAILED, f"Setup: the answer can't be read: {error}", error
            ) from error
        outcome = outcome_of_setup(setup.code)
        if outcome is not Outcome.SUCCEEDED:
            raise BringUpError(outcome, self._model.shorten(f"Setup: {setup.code}: {setup.message}"))
        self._host.acquit(self._model, self._host.service.instance_name)
        self._model.overrunning = False
        return setup.fresh

    async def _ask_to_set_up(self, connection: Connection) -> Answer:
        request = self._host.service.setup_request()
        fields = self._model.request_fields(request.path)
        limit = self._config.limits.max_message_bytes
        while True:
            call = UnaryCall(connection, fields, request.message, max_message_bytes=limit)
            try:
                return await call.perform(self._config.setup_timeout)
            except GRPCError as error:
                text = f"Setup: gRPC status {error.status.name}: {error.message or 'no message'}"
                if error.status is GRPCStatus.UNAVAILABLE:
                    raise ConnectionError(text) from error
                if not (is_busy(error) and call.trailers_only):
                    outcome = outcome_of_setup_error(error)
                    raise BringUpError(outcome, self._model.shorten(text), error) from error
            await trio.sleep(_SETUP_BUSY_RETRY)

    async def _serve(self, connection: Connection) -> None:  # noqa: ASYNC910
        """Carry calls until the connection takes no more, or another deployment takes this one's place."""
        with trio.CancelScope() as self._serving:
            if not self._leaving:
                await connection.watch(self._keepalive_interval, self._config.keepalive.timeout)
        if connection.too_many_pings:
            self._keepalive_interval *= 2  # as gRPC's specification of keepalive has it
        if self._leaving:
            await self._model.wait_no_calls()
        else:
            self._model.error = ConnectionError(connection.loss)

    @property
    def may_verify_timeouts(self) -> bool:
        """Whether a PING may be spent on asking if a connection still lives.

        Nodes answer the fourth PING without any data in between with GOAWAY.
        """
        connection = self.connection
        return (
            self._config.health.verify_timeouts
            and connection is not None
            and connection.accepts_calls
            and connection.pings_without_answer < _MAX_PINGS_WITHOUT_ANSWER
        )

    def verify_timeout(self, code: FailureCode | None, detail: str) -> None:
        """Find out, in the background, whether a model was slow or its connection dead; see `_verify`."""
        assert self.connection is not None
        assert self._nursery is not None
        self._nursery.start_soon(self._verify, self.connection, code, detail)

    @enable_ki_protection
    async def _verify(self, connection: Connection, code: FailureCode | None, detail: str) -> None:
        """Accuse a slow model; forgive one whose connection is dead, and reconnect it."""
        timeout = self._config.health.timeout
        if not await connection.ping(timeout):
            self._model.record.forgive_timeout()
            connection.abort(f"no answer to a PING within {timeout:g} s")
        elif code is not None and self._model.record.timeouts and connection is self.connection:
            self._host.accuse(self._model, code, detail, None)


def _error_of(failure: BringUpError) -> BaseException:
    """The coordinator's own exception where that is the trouble, else one that says all in words."""
    if failure.outcome is Outcome.COORDINATOR_RAISED and failure.error is not None:
        return failure.error
    error = ModelError(str(failure))
    error.__cause__ = failure.error
    return error


def _is_local(error: BaseException | None) -> bool:
    """Whether connecting failed on this machine; where Trio tried several addresses, its causes say so."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_local, error.exceptions))
    return isinstance(error, OSError) and (error.errno in _LOCAL_ERRORS or _is_local(error.__cause__))
