"""A feed whose connection is about to be replaced by another, and a network on which that can fail."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helpers.websocket_server import (
    EXACT,
    Events,
    Session,
    StallingNetwork,
    WebSocketServer,
    configured,
    entry,
    feeding,
    report_on,
    sent_report,
    serving,
)
from trio_model_runner.orchestrator import Disconnected, FeedEvent, Init, OrchestratorFeed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_model_runner.config import OrchestratorConfig

__all__ = ["INTERVAL", "OFTEN", "Refusing", "Stage", "closing_code", "connected", "ids"]

INTERVAL = 100.0
OFTEN = attrs.evolve(EXACT, resync_interval=INTERVAL)


class Refusing(StallingNetwork):
    """A network that can refuse, or never answer, from the second connection on."""

    error: str | None = None
    hangs = False
    deaf = False

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        if self.error is not None:
            await trio.lowlevel.checkpoint()
            raise OSError(self.error)
        if self.hangs:
            await trio.sleep_forever()
        stream = await super().connect(host, port)
        if self.deaf:
            self.streams[-1].stall()  # the server gets no handshake
        return stream

    @property
    def open(self) -> int:
        """How many of our ends are not closed."""
        # Private to trio: a memory stream does not say that it is closed.
        return sum(not stream.stream.receive_stream._closed for stream in self.streams)  # type: ignore[attr-defined]


@attrs.define
class Stage:
    """A feed that is connected, and lists model 1."""

    network: Refusing
    server: WebSocketServer
    feed: OrchestratorFeed
    events: Events
    first: Session

    async def event(self) -> FeedEvent:
        """The next event, which is there already or comes without waiting for time to pass."""
        await wait_all_tasks_blocked()
        return self.events.receive_nowait()

    async def nothing_more(self) -> None:
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            self.events.receive_nowait()

    async def swap(self, *entries: Any) -> Session:
        """Let a second connection take the place of the one in use; give it."""
        session = await self.server.session()
        await session.send("init", *entries)
        event = await self.event()
        assert isinstance(event, Init)
        assert event.corrects
        return session

    async def still_works(self) -> None:
        """The first connection brings events and takes reports, as if nothing had happened."""
        await self.first.send("update", entry("2"))
        assert ids(await self.event()) == ["2"]
        self.feed.report(report_on("1"))
        assert await self.first.receive() == sent_report("1")
        assert self.feed.connected
        assert self.feed.last_error is None
        await self.nothing_more()


@contextlib.asynccontextmanager
async def connected(orchestrator: OrchestratorConfig = OFTEN) -> AsyncIterator[Stage]:
    network = Refusing()
    async with (
        serving(network.listen(port=9091)) as server,
        feeding(configured(network, orchestrator)) as (feed, events),
    ):
        first = await server.session()
        await first.send("init", entry("1"))
        stage = Stage(network, server, feed, events, first)
        assert not (await events.receive()).corrects  # type: ignore[union-attr]
        yield stage


def ids(event: FeedEvent) -> list[str]:
    assert not isinstance(event, Disconnected)
    return [each.model_id for each in event.entries]


async def closing_code(session: Session, codes: list[tuple[float, int]]) -> None:
    code = await session.receive_close()
    codes.append((trio.current_time(), code))
