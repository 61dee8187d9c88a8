"""The kinds of servers that the tests run against: each a block that gives a port, and is told `Limits`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from .building import cpp_server, go_server, grpc_js
from .proxies import Backend, Envoy, Nginx
from .python_servers import OPTIONS, grpcio, grpcio_aio, grpclib_server
from .service import NO_LIMITS, SERVICE, Limits

__all__ = [
    "OPTIONS",
    "PLAIN",
    "SERVERS",
    "SERVICE",
    "Start",
    "grpcio",
    "grpcio_aio",
    "grpclib_server",
]

Start = Callable[[Limits], AbstractContextManager[int]]


@contextmanager
def process(limits: Limits, *command: str) -> Iterator[int]:
    """A server in a process of its own, which prints its port, and ends when its standard input does."""
    words = [*command, str(limits.streams), str(limits.milliseconds)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            finally:
                process.kill()


def node(limits: Limits = NO_LIMITS) -> AbstractContextManager[int]:
    """Node's server; its port."""
    return process(limits, "node", str(Path(__file__).with_name("server.js")), str(grpc_js()))


def grpc_go(limits: Limits = NO_LIMITS) -> AbstractContextManager[int]:
    """The server of grpc-go; its port."""
    return process(limits, str(go_server()))


def grpc_cpp(limits: Limits = NO_LIMITS) -> AbstractContextManager[int]:
    """The server of grpc C++; its port."""
    return process(limits, str(cpp_server()))


@contextmanager
def behind_nginx(limits: Limits = NO_LIMITS) -> Iterator[int]:
    """The server of grpcio, with nginx before it, whose limits they are; the port of nginx."""
    with grpcio() as port, Nginx(Backend(port), limits=limits) as proxy:
        yield proxy.port


@contextmanager
def behind_envoy(limits: Limits = NO_LIMITS) -> Iterator[int]:
    """The server of grpcio, with Envoy before it, whose limits they are; the port of Envoy."""
    with grpcio() as port, Envoy(Backend(port), limits=limits) as proxy:
        yield proxy.port


PLAIN: Mapping[str, Start] = {
    "grpcio": grpcio,
    "grpcio.aio": grpcio_aio,
    "grpclib": grpclib_server,
    "grpc-js": node,
    "grpc-go": grpc_go,
    "grpc C++": grpc_cpp,
}
SERVERS: Mapping[str, Start] = {**PLAIN, "nginx": behind_nginx, "Envoy": behind_envoy}
