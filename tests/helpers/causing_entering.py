"""What happens so that a cluster can't be entered, or not be used; see `causing_events`."""

from __future__ import annotations

from typing import Any

import trio

from helpers.causing_events import Events, Said, enter
from helpers.coordinating import SERVICE, Model, coordinating
from trio_model_runner import Cluster
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch

__all__ = ["ENTERING"]

ENTERING = Events()


async def enter_soon(crunch: LocalCrunch, **settings: Any) -> None:
    """Enter a cluster of a crunch, which will not work, and soon."""
    await enter(Cluster(crunch.config(orchestrator_timeout=20.0, **settings), SERVICE))


@ENTERING.cause("no list of models from the orchestrator at … in …: …", "Connection refused")
async def nobody_listens(said: Said) -> None:
    async with LocalCrunch(network=MemoryNetwork()) as crunch:
        crunch.orchestrator.kill()
        await said.raised(enter_soon(crunch))


@ENTERING.cause("no answer to the handshake within … s (orchestrator.handshake_timeout)")
async def silence(said: Said) -> None:
    async with LocalCrunch(network=MemoryNetwork()) as crunch:
        crunch.orchestrator.pause()
        await said.raised(enter_soon(crunch))


@ENTERING.cause("it sent nothing")
async def no_list(said: Said) -> None:
    async with LocalCrunch(network=MemoryNetwork()) as crunch:
        crunch.orchestrator.greeting = []
        await said.raised(enter_soon(crunch))


@ENTERING.cause("the orchestrator refuses us: …")
async def unknown_crunch(said: Said) -> None:
    async with LocalCrunch(network=MemoryNetwork()) as crunch:
        crunch.orchestrator.greeting = ['{"error": "no such crunch"}']
        await said.raised(enter_soon(crunch))


async def serve_bytes(answer: bytes, said: Said) -> None:
    """Listen as a server of something else does."""

    async def serve() -> None:
        while True:
            stream = await listener.accept()
            await stream.receive_some()
            await stream.send_all(answer)
            await stream.aclose()

    network = MemoryNetwork()
    listener = network.listen("127.0.0.1")
    async with LocalCrunch(network=network) as crunch, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await said.raised(enter_soon(crunch, host="127.0.0.1", port=listener.port))
        nursery.cancel_scope.cancel()


@ENTERING.cause("the server does not speak WebSocket: it answered …")
async def ssh(said: Said) -> None:
    await serve_bytes(b"SSH-2.0-OpenSSH_9.9\r\n", said)


@ENTERING.cause("the server refused the handshake with HTTP status …")
async def web_server(said: Said) -> None:
    await serve_bytes(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", said)


@ENTERING.cause("the server speaks TLS, which is switched off here: …")
async def tls_orchestrator(said: Said) -> None:
    await serve_bytes(b"\x15\x03\x01\x00\x02\x02\x16", said)


@ENTERING.cause(
    "a Cluster can be entered only once: make a new one for another block",
    "this cluster's block was not entered: use it in …",
    "this cluster's block was left",
    "is another cluster's model",
)
async def use_at_wrong_times(said: Said) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        (model,) = cluster.models.values()
        other = Cluster(crunch.config(), SERVICE)
        await said.raised(other.call("predict"))
        async with other:
            await said.raised(other.call("predict", models=[model]))
        await said.raised(other.call("predict"))
        await said.raised(enter(other))


@ENTERING.cause(
    "this cluster takes no new calls: drain() was called", "cut off after …: drain() ended its round"
)
async def drained(said: Said) -> None:
    async def call() -> None:
        said.results(await cluster.call("hang"))

    async with coordinating({"a": Model()}) as (crunch, cluster), trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await crunch.node("a").wait_for_calls(1)
        await cluster.drain(1.0)
        await said.raised(cluster.call("predict"))


@ENTERING.cause("this Cluster only observes, since it was made without a service: …")
async def observing(said: Said) -> None:
    async with LocalCrunch({"a": Model()}, network=MemoryNetwork()) as crunch, Cluster(crunch.config()) as c:
        await said.raised(c.call("predict"))
