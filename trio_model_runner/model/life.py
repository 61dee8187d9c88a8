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
from trio.lowlevel import enable_ki_protection

from ..errors import ProofFailed
from ..groups import describe, one_by_itself
from ..network.tls import TLSNetwork
from ..rpc.connecting import open_connection
from ..rpc.connection import Connection
from ..rpc.receiver import CallInterrupted
from ..security.delegation import UnknownIdentity
from ..values.results import ModelError, ModelState
from .bringing_up import BringUpError, prove, set_up
from .node_connection import NodeConnection
from .policy import Outcome
from .states import JoinReason

if TYPE_CHECKING:
    from ..values.failure_codes import FailureCode
    from .host import ModelHost
    from .runner import ModelRunner

__all__ = ["ModelLife"]

_MAX_PINGS_WITHOUT_ANSWER: Final = 2
"""Nodes answer the fourth in a row with GOAWAY; the third is kept for when it decides about a verdict."""

_LOCAL_ERRORS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)
"""Errors of connecting that are about this machine, not about the node."""


class ModelLife:
    """Keeps one model connected, set up and caught up.

    Attributes:
        node: the connection that carries calls; None unless the model is joining or ready.
    """

    def __init__(self, model: ModelRunner, host: ModelHost, reason: JoinReason) -> None:
        self.node: NodeConnection | None = None
        self._model = model
        self._host = host
        self._config = host.config
        self._reason = reason
        self._wanted = True
        self._delays = host.config.backoff.delays()
        self._unverified: dict[Connection, list[tuple[FailureCode | None, str]]] = {}
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
                        except UnknownIdentity as error:
                            self._give_up(BringUpError(Outcome.NOT_ITS_FAULT, str(error), error))
                        except ProofFailed as error:
                            self._give_up(BringUpError(Outcome.PROOF_FAILED, str(error), error))
        if self._model.state is not ModelState.GONE:
            self._model.enter(ModelState.GONE)

    def start_over(self) -> None:
        """Try again now, whether it was given up or is at it."""
        self._wanted = True
        self._wake.set()
        self._attempt.cancel()

    def revive(self) -> None:
        """Try again, if it was given up; if it is at it, count the attempts from the first again."""
        self._delays = self._config.backoff.delays()
        self._wanted = True
        self._wake.set()

    def retry(self) -> None:
        """Try again after a while, if it was given up."""
        self._retry_after = self._config.backoff.maximum
        self._wake.set()

    def pause(self) -> None:
        """Let go of the connection until `revive`."""
        self._wanted = False
        self._retry_after = math.inf
        self._wake.set()
        self._attempt.cancel()

    def renew(self, reason: str) -> None:
        """Go through setup again at once, on a new connection."""
        if self.node is not None:
            self._renewing = True
            self.node.connection.retire(reason)

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
        reason = self._model.shorten(str(failure))
        self._model.error = _error_of(failure, reason)
        self._model.enter(ModelState.FAILED)
        code = self._model.record.note(failure.outcome)
        if code is not None:
            missing = failure.outcome is Outcome.BAD_IMPLEMENTATION
            self._host.accuse(
                self._model, code, reason, self._host.service.instance_name if missing else None
            )

    async def _connect_and_serve(self, nursery: trio.Nursery) -> None:  # noqa: ASYNC910
        """Connect, serve, and reconnect, until the attempts are exhausted or the model leaves."""
        grace = self._config.shutdown_grace
        self._delays = self._config.backoff.delays()
        while not self._leaving:
            await self._advance(ModelState.CONNECTING)
            node: NodeConnection | None = None
            let_finish = False
            ready_at = math.inf
            try:
                node = await self._connect(nursery)
                await self._bring_up(node)
                ready_at = trio.current_time()
                await self._serve(node.connection)
                let_finish = not node.connection.lost
            except (OSError, CallInterrupted) as error:
                self._model.error = error
            finally:
                self.node = None
                if node is not None:
                    close = node.connection.finish if let_finish else node.connection.aclose
                    nursery.start_soon(close, grace)
            if self._leaving or self._renewing:
                self._renewing = False
                continue
            if trio.current_time() - ready_at >= self._config.backoff.initial:
                self._delays = self._config.backoff.delays()
                continue
            delay = next(self._delays, None)
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
        return BringUpError(outcome, reason, error, may_pass=may_pass)

    async def _connect(self, nursery: trio.Nursery) -> NodeConnection:
        model, config, security = self._model, self._config, self._host.security
        network = config.node_network
        if (tls := security.tls(model.model_id)) is not None:
            network = TLSNetwork(tls.context, network, server_hostname=tls.server_hostname)
        try:
            async with self._host.connect_limiter:
                connection = await open_connection(
                    nursery,
                    network,
                    model.host,
                    model.port,
                    timeout=config.backoff.connect_timeout,
                    max_header_bytes=config.limits.max_header_bytes,
                    hub=self._host.hub,
                )
        except OSError as error:
            if (failure := security.judge(error)) is not None:
                raise failure from error
            raise
        return NodeConnection(connection, model, security, config.limits.max_message_bytes)

    async def _bring_up(self, node: NodeConnection) -> None:
        """Go through everything that must be done on a new connection before it carries calls."""
        if node.must_prove:
            await self._advance(ModelState.PROVING)
            await prove(node, self._host)
        await self._advance(ModelState.SETTING_UP)
        fresh = await set_up(node, self._model, self._host)
        if fresh or self._reason is not JoinReason.RESTARTED:
            self.node = node
            await self._advance(ModelState.JOINING)
            await self._join(node.connection, fresh=fresh)
        # Between the end of `on_join` and READY there must be no schedule point, or a round would be missed.
        self.node = node
        self._reason = JoinReason.RESTARTED
        await self._advance(ModelState.READY)

    async def _join(self, connection: Connection, *, fresh: bool) -> None:
        try:
            await self._host.join(self._model, self._reason, fresh=fresh)
        except Exception as error:  # the coordinator's code: any error keeps just this model out
            if not connection.accepts_calls:
                raise CallInterrupted(connection.loss or "it has ended", connection_lost=True) from error
            raise BringUpError(Outcome.COORDINATOR_RAISED, f"on_join: {error!r}", error) from error

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

    def may_verify_timeout(self, code: FailureCode | None) -> bool:
        """Whether it is being asked if the connection still lives, or a PING may be spent on that.

        Args:
            code: what would be reported if it does, if anything.
        """
        connection = None if self.node is None else self.node.connection
        if connection is None or not connection.accepts_calls or not self._config.health.verify_timeouts:
            return False
        limit = _MAX_PINGS_WITHOUT_ANSWER + (code is not None)
        return connection in self._unverified or connection.pings_without_answer < limit

    def verify_timeout(self, code: FailureCode | None, detail: str) -> None:
        """Find out, in the background, whether a model was slow or its connection dead; see `_verify`.

        Timeouts that follow before that is known wait for the same answer.
        """
        assert self.node is not None
        assert self._nursery is not None
        connection = self.node.connection
        timeouts = self._unverified.setdefault(connection, [])
        timeouts.append((code, detail))
        if len(timeouts) == 1:
            self._nursery.start_soon(self._verify, connection, timeouts)

    @enable_ki_protection
    async def _verify(self, connection: Connection, timeouts: list[tuple[FailureCode | None, str]]) -> None:
        """Accuse a slow model; forgive one whose connection is dead, and reconnect it."""
        timeout = self._config.health.timeout
        try:
            answered = await connection.ping(timeout)
        finally:
            del self._unverified[connection]
        code, detail = timeouts[-1]
        if not answered:
            for _ in timeouts:
                self._model.record.forgive_timeout()
            connection.abort(f"no answer to a PING within {timeout:g} s")
        elif code is not None and self._model.record.timeouts and self._carries_calls(connection):
            self._host.accuse(self._model, code, detail, None)

    def _carries_calls(self, connection: Connection) -> bool:
        return self.node is not None and self.node.connection is connection


def _error_of(failure: BringUpError, reason: str) -> BaseException:
    """The coordinator's own exception, or a failed proof, where that is the trouble; else all in words."""
    ours = failure.outcome is Outcome.COORDINATOR_RAISED or isinstance(failure.error, ProofFailed)
    if ours and failure.error is not None:
        return failure.error
    error = ModelError(reason)
    error.__cause__ = failure.error
    return error


def _is_local(error: BaseException | None) -> bool:
    """Whether connecting failed on this machine; where Trio tried several addresses, its causes say so."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_local, error.exceptions))
    return isinstance(error, OSError) and (error.errno in _LOCAL_ERRORS or _is_local(error.__cause__))
