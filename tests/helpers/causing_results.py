"""What happens so that calls have no value, and models are not ready; see `causing_events`."""

from __future__ import annotations

import errno
import os

import trio
from trio.testing import MockClock

from helpers.causing_events import FEW_TRIES, Events, Said, until_failed
from helpers.coordinating import SERVICE, Model, coordinating, until
from trio_model_runner import Arguments, Cluster
from trio_model_runner.config import Limits
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import Faults, LocalCrunch

__all__ = ["RESULTS"]

RESULTS = Events()


@RESULTS.cause(
    "no answer before the deadline",
    "still busy with …, sent … s ago",
    "the deadline passed while waiting",
    "its round ended just before the deadline of an enclosing cancel scope",
)
async def hung(said: Said) -> None:
    async with coordinating({"a": Model()}, timeout=2.0) as (_, cluster):
        with trio.move_on_after(1.0):
            said.results(await cluster.call("hang", models=["a"]))
    async with coordinating({"a": Model()}, timeout=2.0) as (_, cluster):
        said.results(await cluster.call("hang"))
        said.results(await cluster.call("predict", sit_out=False))
        said.results(await cluster.call("predict", timeout=0.5))


@RESULTS.cause("sits out … after … in a row")
async def resting(said: Said) -> None:
    async with coordinating({"a": Model(), "quick": Model()}, timeout=2.0) as (crunch, cluster):
        crunch.node("a").faults.delay = 3.0
        for _ in range(4):
            said.results(await cluster.call("predict"))
            await trio.sleep(10.0)


@RESULTS.cause("…, at which this program was busy: it looked … s later")
async def busy_program(said: Said) -> None:
    async def call() -> None:
        said.results(await cluster.call("hang"))

    async with coordinating({"a": Model()}) as (crunch, cluster), trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await crunch.node("a").wait_for_calls(1)
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        clock.jump(20.0)  # what takes so long, and lets nobody else do anything


@RESULTS.cause("… calls wait for this model already, as many as limits.max_queued_calls allows")
async def too_many_calls(said: Said) -> None:
    async def call() -> None:
        said.results(await cluster.call("hang", timeout=1.0))

    limits = Limits(max_queued_calls=1)
    async with coordinating({"a": Model()}, limits=limits) as (_, cluster), trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(call)


@RESULTS.cause(
    "the node was busy until the deadline",
    "another coordinator calls …, or an earlier run of this one did: "
    "its node is busy, and not with our calls",
)
async def another_coordinator(said: Said) -> None:
    async with coordinating({"a": Model(), "b": Model()}, timeout=2.0) as (crunch, cluster):
        crunch.node("a").faults = Faults(busy=True)
        said.results(await cluster.call("predict"))


class FewSockets(MemoryNetwork):
    """The network of a machine that has no more sockets, once it was told so."""

    exhausted = False

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        if self.exhausted:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return await super().connect(host, port)


@RESULTS.cause("Too many open files")
async def no_more_sockets(said: Said) -> None:
    network = FewSockets()
    async with (
        LocalCrunch({"a": Model()}, network=network) as crunch,
        Cluster(crunch.config(**FEW_TRIES), SERVICE) as cluster,
    ):
        network.exhausted = True
        crunch.node("a").break_connections()
        await until_failed(cluster)
        said.errors(cluster)


@RESULTS.cause("recovering: it crashed, and is being restarted", "failed: …", "model … is …: …")
async def away(said: Said) -> None:
    async with coordinating({"a": Model(), "b": Model()}, **FEW_TRIES) as (crunch, cluster):
        await crunch.crash("a")
        crunch.node("b").kill()
        await until(
            cluster, lambda: {model.state for model in cluster.announced.values()} == {"failed", "recovering"}
        )
        said.results(await cluster.call("predict"))


@RESULTS.cause(
    "The model raised an exception: …",
    'Method "…" not found in class "…"',
    "the answer does not fit: …",
    "the answer can't be read: …",
    "arguments: …",
    "returns: …",
)
async def failures(said: Said) -> None:
    def raising(_: object) -> Arguments:
        raise LookupError("no horizon")

    async with coordinating({"a": Model(), "b": Model()}) as (crunch, cluster):
        said.results(await cluster.call("fail"))
        said.results(await cluster.call("predikt", optional=True))
        said.results(await cluster.call("predict", returns=str))
        said.results(await cluster.call("predict", raising))
        said.results(await cluster.call("predict", returns=raising))
        crunch.node("a").next_faults(Faults(raw_answer=b"\xff" * 9))
        said.results(await cluster.call("predict"))


@RESULTS.cause("the server closed the connection")
async def connection_lost(said: Said) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (crunch, cluster):
        crunch.node("a").next_faults(Faults(drop_after_request=True))
        said.results(await cluster.call("predict"))


@RESULTS.cause("the answer has … bytes, more than max_message_bytes, …")
async def too_large(said: Said) -> None:
    async with coordinating({"a": Model()}, limits=Limits(max_message_bytes=1024)) as (crunch, cluster):
        crunch.node("a").next_faults(Faults(raw_body=b"\0\0\1\0\0"))
        said.results(await cluster.call("predict"))


@RESULTS.cause("no connection after … attempts: …", "connected, but no HTTP/2 SETTINGS within … s")
async def silent_node(said: Said) -> None:
    async with coordinating({"a": Model()}, **FEW_TRIES) as (crunch, cluster):
        crunch.node("a").faults.silent = True
        crunch.node("a").break_connections()
        await until_failed(cluster)
        said.errors(cluster)


@RESULTS.cause("the server speaks TLS, and this connection is plaintext")
async def tls_node(said: Said) -> None:
    await garbage(b"\x15\x03\x03\0\2\2\x28\x15\x03\x03\0\2\1\0", said)


@RESULTS.cause("the server speaks HTTP/1, not gRPC")
async def http1_node(said: Said) -> None:
    await garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n", said)


async def garbage(answer: bytes, said: Said) -> None:
    async with coordinating({"a": Model()}, **FEW_TRIES) as (crunch, cluster):
        crunch.node("a").faults.garbage = answer
        crunch.node("a").break_connections()
        await until_failed(cluster)
        said.errors(cluster)


@RESULTS.cause("Setup: …")
async def broken_setup(said: Said) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        crunch.node("a").faults.setup_status = ("BAD_IMPLEMENTATION", "no such class")
        await crunch.crash("a")
        await crunch.recover("a")
        await until_failed(cluster)
        said.errors(cluster)


@RESULTS.cause("… was not answered within … s")
async def hanging_setup(said: Said) -> None:
    async with coordinating({"a": Model()}, setup_timeout=5.0) as (crunch, cluster):
        crunch.node("a").faults.hang_setup = True
        await crunch.crash("a")
        await crunch.recover("a")
        await trio.sleep(30.0)
        said.errors(cluster)
