"""Which shard has called which node, and when: what nodes have seen, who do not know what shards are.

Each request of a shard has the shard's name in a header, which `marked_shard` adds.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from unittest.mock import patch

import attrs
import trio

from trio_model_runner.model import node_connection
from trio_model_runner.sharding.messages import Hello
from trio_model_runner.sharding.shard import serve_shard
from trio_model_runner.sharding.wire import decode_from_driver
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.grpc_server import ServerConnection
from trio_model_runner.testing.shard_engine import InProcessEngine

__all__ = ["MARKED", "Callers", "current_shard", "marked_engine", "marked_shard"]

MARKED: Final = "helpers.callers:marked_shard"
"""The shard that adds its name to its requests, for `LocalEngine`."""

_HEADER: Final = b"x-caller"
_caller: ContextVar[int | None] = ContextVar("_caller", default=None)
_request_fields = node_connection.request_fields


def current_shard() -> int | None:
    """The shard that the present task belongs to."""
    return _caller.get()


def _marked_fields(*args: Any, **kwargs: Any) -> Any:
    return (*_request_fields(*args, **kwargs), (_HEADER, str(_caller.get()).encode()))


async def marked_shard(
    first_message: bytes,
    send: Callable[[bytes], Awaitable[None]],
    receive: Callable[[], Awaitable[bytes]],
    **options: Any,
) -> None:
    """Be an ordinary shard, whose requests say which one sent them."""
    hello = decode_from_driver(first_message)
    assert isinstance(hello, Hello)
    _caller.set(hello.index)
    node_connection.request_fields = _marked_fields  # `Callers.watching` takes it back in a test's process
    await serve_shard(first_message, send, receive, **options)


def marked_engine(crunch: LocalCrunch) -> InProcessEngine:
    """Shards as tasks, on the network of a crunch."""

    async def serve(first: bytes, send: Any, receive: Any) -> None:
        await marked_shard(first, send, receive, network=crunch.network, forwards_log=False)

    engine = InProcessEngine(serve)
    engine.has_network = crunch.network is not None
    return engine


@attrs.frozen
class Request:
    """A request that a node has received.

    Attributes:
        time: when, on Trio's clock.
        shard: who has sent it.
        path: what it asks for.
    """

    time: float
    shard: int
    path: str


class Callers:
    """What all nodes have seen.

    Args:
        crunch: has the nodes.
    """

    def __init__(self, crunch: LocalCrunch) -> None:
        self._crunch = crunch
        self._requests: dict[str, list[Request]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        # Private, since there is no other place that all requests to all nodes pass by.
        begin_call = ServerConnection._begin_call

        def note(connection: ServerConnection, event: Any, nursery: trio.Nursery) -> None:
            fields = {bytes(name): bytes(value).decode() for name, value in event.headers}
            request = Request(trio.current_time(), int(fields[_HEADER]), fields[b":path"])
            self._requests.setdefault(fields[b":authority"], []).append(request)
            begin_call(connection, event, nursery)

        with (
            patch.object(ServerConnection, "_begin_call", note),
            patch.object(node_connection, "request_fields", _marked_fields),
        ):
            yield

    def of(self, model_id: str) -> list[Request]:
        """The requests that a model's node has received, in order."""
        node = self._crunch.node(model_id)
        return self._requests.get(f"{node.host}:{node.port}", [])

    def shards(self, model_id: str) -> list[int]:
        """The shards that have called a model, one after the other; each again if it has come back."""
        return [shard for shard, _ in itertools.groupby(request.shard for request in self.of(model_id))]

    def check(self, *, most_moves: int = 1) -> None:
        """No model had two callers at a time, and no node has run the same request twice.

        Args:
            most_moves: how often a model may have got another caller.
        """
        for deployment in self._crunch.deployments:
            shards = self.shards(deployment.model_id)
            assert len(shards) <= most_moves + 1, (deployment.model_id, shards)
            runs = Counter((call.method, call.args) for call in deployment.node.calls)
            twice = {run for run, count in runs.items() if count > 1}
            assert not twice, (deployment.model_id, twice)
