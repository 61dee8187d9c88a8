"""The whole of a shard, given a way for bytes to its driver and back.

A shard does what the driver says, in order, and tells it what happens. It calls models only while it holds a
lease. However it ends, it ends within bounds: when the driver says so, when something in it raises, when the
way to the driver is gone, or when there was no lease for long.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import enable_ki_protection

from ..groups import one_by_itself
from ..model.fence import Fence
from ..model.node_resources import NodeResources
from ..signal import Signal
from ..text import named_error
from ..workers import clock_jumps, run_in_worker
from .engine import ShardLost
from .lease import HeldLease, boot_time
from .messages import (
    VERSION,
    ArgumentsGiven,
    AskMembers,
    AskStandings,
    Command,
    Ended,
    FromDriver,
    Hello,
    JoinEnded,
    LeaseGranted,
    Leave,
    Renewal,
    RoundBegin,
    RoundCut,
    ShardReady,
    StandingCorrected,
    Start,
)
from .shard_outbox import ForwardedLog, Outbox
from .shard_results import Batches
from .shard_rounds import ShardRounds
from .shard_supervisor import ShardSupervisor
from .wire import decode_from_driver, encode
from .wire_values import config_from_wire, service_from_wire

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from ..network import Network
    from ..services.base import NodeService

__all__ = ["serve_shard"]

_LAST_WORDS: Final = 1.0
"""Seconds for what is said last."""

_LEFT: Final = "this cluster's block was left"
_WAY_LOST: Final = "the connection between its shard and the coordinator was lost"
_NO_LEASE: Final = "its shard has not heard from the coordinator in time"
_CRASHED: Final = "its shard has failed"

logger = logging.getLogger("trio_model_runner.sharding")


async def serve_shard(
    first_message: bytes,
    send: Callable[[bytes], Awaitable[None]],
    receive: Callable[[], Awaitable[bytes]],
    *,
    network: Network | None = None,
    forwards_log: bool = True,
) -> None:
    """Be a shard until it ends. What is wrong is told to the driver, and is not raised.

    Args:
        first_message: the `Hello`.
        send: sends a message to the driver. Whatever it raises, the way is lost.
        receive: the driver's next message. Whatever it raises, the way is lost.
        network: connects to nodes, in place of what the driver says.
        forwards_log: what it logs is told to the driver, and is in the driver's log. False is for shards in
            the driver's own process, which have the same log.
    """
    try:
        hello = _read_hello(first_message)
        config = await run_in_worker(functools.partial(config_from_wire, hello.config, network=network))
        service = None if hello.service is None else service_from_wire(hello.service)
    except Exception as error:
        logger.debug("a shard can't begin", exc_info=error)
        with trio.move_on_after(_LAST_WORDS), suppress(Exception):  # nobody else can be told
            await send(encode(Ended(_described(error))))
    else:
        outbox = Outbox(send)
        with _log_forwarded(outbox) if forwards_log else nullcontext():
            await _Shard(hello, config, service, outbox, receive).run()


def _read_hello(message: bytes) -> Hello:
    hello = decode_from_driver(message)
    if not isinstance(hello, Hello):
        raise TypeError(f"the first message must be a Hello, got {type(hello).__name__}")
    if hello.version != VERSION:
        raise ValueError(
            f"the coordinator speaks version {hello.version}, and this shard {VERSION}: "
            "they must have the same release of trio-model-runner"
        )
    return hello


@contextmanager
def _log_forwarded(outbox: Outbox) -> Iterator[None]:
    """Forward what this shard logs while this lasts."""
    log, handler = logging.getLogger("trio_model_runner"), ForwardedLog(outbox)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _described(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


class _Shard:
    """A shard that knows its settings.

    Args:
        hello: what the driver has said.
        config: the settings.
        service: what the nodes speak; None only observes.
        outbox: what is to be said.
        receive: the driver's next message.
    """

    def __init__(
        self,
        hello: Hello,
        config: ClusterConfig,
        service: NodeService | None,
        outbox: Outbox,
        receive: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._hello = hello
        self._outbox = outbox
        self._receive = receive
        self._lease = HeldLease(hello.lease, trio.current_time if clock_jumps() else boot_time)
        self._lease_news = Signal()
        self._mute = False
        self._ends = False
        self._crashed = False
        self._last_words: Ended | None = None
        self._scope = trio.CancelScope()  # around what ends before the goodbyes
        self._service_scope = trio.CancelScope(shield=True)  # around what ends after them
        self._sending = trio.CancelScope(shield=True)
        self._nursery: trio.Nursery | None = None
        resources = NodeResources(config, service)
        resources.fence = self._fence = Fence(self._may_send)
        self._resources = resources
        self._batches = Batches(outbox.put)
        self._supervisor = ShardSupervisor(
            resources, self, outbox.put, has_on_join=hello.has_on_join, may_call=self._wait_for_lease
        )
        self._rounds = ShardRounds(resources, self._supervisor, self, self._batches, outbox.put)
        self._doing: Mapping[type[Any], Callable[[Any], None]] = {
            RoundBegin: self._rounds.begin,
            ArgumentsGiven: self._rounds.give,
            RoundCut: self._rounds.cut,
            LeaseGranted: self._note_grant,
            Start: self._supervisor.start,
            Command: self._supervisor.command,
            StandingCorrected: self._supervisor.correct_standing,
            AskStandings: self._supervisor.answer_standings,
            AskMembers: self._ask_members,
        }

    # What runs.

    @enable_ki_protection
    async def run(self) -> None:
        """Be the shard, until it ends."""
        self._resources.open()
        ready = ShardReady(VERSION, socket.gethostname(), os.getpid())
        self._outbox.put_first(ready)  # before the first renewal, which means nothing without it
        with one_by_itself():
            async with trio.open_nursery() as services:
                services.start_soon(self._send)
                services.start_soon(self._run_resources)
                try:
                    await self._run_work()
                finally:
                    with trio.move_on_after(_LAST_WORDS, shield=True):
                        await self._outbox.flush()
                    self._service_scope.cancel()
                    self._sending.cancel()

    async def _run_work(self) -> None:
        """Run what the driver asks for, to its end. Actors say goodbye to their nodes, each within bounds."""
        with one_by_itself():
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    with self._scope, one_by_itself():
                        async with trio.open_nursery() as parts:
                            for part in (self._read, self._keep_lease, self._batches.run):
                                parts.start_soon(self._guard, part)
                finally:
                    self._end(_LEFT)  # if this is cancelled from outside
        self._batches.send_all()
        if self._last_words is not None:
            self._outbox.put(self._last_words)

    @enable_ki_protection
    async def _run_resources(self) -> None:
        with self._service_scope:
            await self._guard(self._resources.run)

    @enable_ki_protection
    async def _send(self) -> None:
        with self._sending:
            while not self._outbox.closed:
                try:
                    await self._outbox.run()
                except ShardLost as error:
                    self._lose_way(error)
                except Exception as error:
                    self._crash(error)

    def start_soon(self, part: Callable[[], Awaitable[object]]) -> None:
        """Run a part; see `shard_supervisor.Starter`."""
        assert self._nursery is not None
        self._nursery.start_soon(self._guard, part)

    @enable_ki_protection
    async def _guard(self, part: Callable[[], Awaitable[object]]) -> None:
        """Run a part. If it raises, the shard ends."""
        try:
            await part()
        except Exception as error:
            self._crash(error)

    # How it ends.

    def _crash(self, error: Exception) -> None:
        """Something of ours has raised: say so at once, and end."""
        if not self._crashed:
            self._crashed, self._last_words = True, None
            self._outbox.put_first(Ended(_described(error)))
        self._end(_CRASHED)

    def _lose_way(self, error: Exception) -> None:
        """Nothing can be said or heard any more: be mute at once, and end."""
        if not self._ends:
            logger.info("the shard ends: %s", named_error(error))
        self._last_words = None
        self._outbox.close()
        self._end(_WAY_LOST)

    def _end(self, reason: str) -> None:
        """Send no more requests, cut all calls, and have the models say goodbye."""
        if not self._ends:
            self._ends = True
            self._rounds.mute(reason)
            self._supervisor.close(reason)
            self._lease_news.send()
            self._scope.cancel()

    # What the driver says.

    async def _read(self) -> None:
        while True:
            try:
                message = await self._receive()
            except Exception as error:
                self._lose_way(error)
                return
            read = decode_from_driver(message)
            if isinstance(read, Leave):
                self._last_words = Ended()
                self._end(_LEFT)
                return
            await self._obey(read)

    async def _obey(self, message: FromDriver) -> None:
        """Do what the driver says. Only the end of an on_join waits, until it has come to pass."""
        if isinstance(message, JoinEnded):
            await self._supervisor.end_join(message)
            return
        do = self._doing.get(type(message))
        if do is None:
            raise TypeError(f"a {type(message).__name__} may not come now")
        do(message)

    def _ask_members(self, message: AskMembers) -> None:
        self.start_soon(functools.partial(self._supervisor.ask_members, message))

    # The lease.

    def _may_send(self) -> bool:
        """Whether anything of a request may be sent at this moment."""
        return not self._ends and self._lease.valid()

    async def _wait_for_lease(self) -> None:
        await self._lease_news.wait_until(lambda: self._ends or self._lease.valid())

    def _note_grant(self, granted: LeaseGranted) -> None:
        had_run_out = not self._lease.valid()  # which may not have been noticed yet
        self._lease.grant(granted.sequence)
        if not self._lease.valid():
            return
        if self._mute:
            logger.warning("there is a lease again: models are called")
            self._mute = False
            self._rounds.unmute()
        if had_run_out:
            self._fence.open()
        self._lease_news.send()

    async def _keep_lease(self) -> None:
        """Renew the lease, and be mute while there is none; end if there is none for long."""
        while True:
            self._outbox.put_first(Renewal(self._lease.renew(), self._lease.round_trip))
            self._supervisor.tell_quiet_changes()
            renew_at = trio.current_time() + self._hello.renew_every
            while (seconds := renew_at - trio.current_time()) > 0:
                await trio.sleep(min(seconds, self._lease.remaining or seconds))
                self._look_at_lease()

    def _look_at_lease(self) -> None:
        if self._lease.valid():
            return
        if not self._mute:
            self._mute = True
            logger.warning("there is no lease: no models are called")
            self._fence.close()
            self._rounds.mute(_NO_LEASE)
        if self._lease.lost_for >= self._hello.leave_after:
            self._last_words = Ended(f"it had no lease for {self._hello.leave_after:g} s")
            self._end(_NO_LEASE)
