"""What stands in front of node software that speaks plaintext: a line that breaks, or what secures a crunch.

A gateway ends TLS and passes bytes on. A secure node is deployed as TLS with certificates both ways and a
proof with every unary answer, so its front reads calls, and makes them anew.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import trio
from helpers.secure_crunch import Node

if TYPE_CHECKING:
    import trustme

    from .node_process import NodeProcess

__all__ = ["Line", "ProvingFront", "breakable", "tls_gateway"]

HOST = "127.0.0.1"
SERVICES = {"Check": "grpc.health.v1.Health"}


@contextlib.asynccontextmanager
async def tls_gateway(node: NodeProcess, authority: trustme.CA) -> AsyncIterator[int]:
    """End TLS in front of a node; gives the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", HOST).configure_cert(context)
    context.set_alpn_protocols(["h2"])

    async def serve(outside: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            inside = await trio.open_tcp_stream(HOST, node.port)
            async with outside, inside, trio.open_nursery() as both:
                both.start_soon(copy, outside, inside, both.cancel_scope)
                both.start_soon(copy, inside, outside, both.cancel_scope)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, context, host=HOST, https_compatible=True)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


class Line:
    """The way to a node, which can be broken.

    Args:
        node: the node.

    Attributes:
        port: where it begins.
        connections: how many connections have been made.
    """

    def __init__(self, node: NodeProcess) -> None:
        self.port = 0
        self.connections = 0
        self._node = node
        self._open: set[trio.CancelScope] = set()

    def entry(self) -> dict[str, Any]:
        """What an orchestrator says of the node at its end."""
        return self._node.entry() | {"port": self.port}

    def cut(self) -> None:
        """Break all connections; new ones can be made."""
        for scope in self._open:
            scope.cancel()

    async def serve(self, outside: trio.SocketStream) -> None:
        """Pass one connection on."""
        self.connections += 1
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            inside = await trio.open_tcp_stream(HOST, self._node.port)
            async with outside, inside, trio.open_nursery() as both:
                self._open.add(both.cancel_scope)
                both.start_soon(copy, outside, inside, both.cancel_scope)
                both.start_soon(copy, inside, outside, both.cancel_scope)
            self._open.discard(both.cancel_scope)


@contextlib.asynccontextmanager
async def breakable(node: NodeProcess) -> AsyncIterator[Line]:
    """A way to a node that can be broken."""
    line = Line(node)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        line.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, line.serve, listeners)
        yield line
        nursery.cancel_scope.cancel()


async def copy(source: trio.abc.ReceiveStream, target: trio.abc.SendStream, both: trio.CancelScope) -> None:
    """Pass bytes on until one side ends; then both do."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await target.send_all(data)
    both.cancel()


class ProvingFront(Node):
    """A secure node whose methods are those of node software that speaks plaintext.

    Args:
        node: the node software.
    """

    def __init__(self, node: NodeProcess) -> None:
        super().__init__(node.model_id)
        self._channel = grpc.insecure_channel(f"{HOST}:{node.port}")

    def _respond(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        service = SERVICES.get(method, "dynamic_subclass.DynamicSubclassService")
        try:
            response: bytes = self._channel.unary_unary(f"/{service}/{method}")(request)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
            raise AssertionError from None
        return response

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._channel.close()
