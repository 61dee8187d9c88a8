"""A server of each kind for all tests, and a channel to it; skips for what this machine lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from helpers.channel_scenarios import connections_of

from trio_model_runner.channel import Channel
from trio_model_runner.proto.dynamic_subclass import CallRequest

from .availability import available
from .servers import SERVERS
from .service import NO_LIMITS
from .stubs import Stub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of server or proxy, of which a test starts one by itself."""
    available(request.param)
    name: str = request.param
    return name


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """The kind of a server, and its port."""
    available(request.param)
    with SERVERS[request.param](NO_LIMITS) as port:
        yield request.param, port


@pytest.fixture
async def channel(server: tuple[str, int]) -> AsyncIterator[Channel]:
    """A channel to the server; at the end, its connection must be in order."""
    async with Channel("127.0.0.1", server[1]) as channel:
        yield channel
        with trio.fail_after(30):  # whatever the test did, it left the connection in order
            assert await Stub(channel).echo(CallRequest("fine")) == CallRequest("fine")
        (connection,) = connections_of(channel)
        assert connection.idle
