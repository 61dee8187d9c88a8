"""Many calls for a long time: whether the memory in the end is that of the start.

    python tests/benchmarks/soak.py [--calls 100000] [--connections 50] [--seed 1]

Each connection carries three calls at a time: unary ones and streams, answered, failed, abandoned, cancelled
or timed out at a random moment, with messages from nothing to a megabyte. The server is grpcio's, in a
process of its own; after about half a minute it says GOAWAY to a connection, and some calls are open then.
In front of it stands a proxy, in this process, that hangs up now and then.

Memory is measured after the first tenth of the calls, when caches are full, and at the end, with the
channels idle: what Python has allocated, the process's resident set, open files, and tasks.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import trio
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError

from trio_model_runner.channel import Channel
from trio_model_runner.proto.dynamic_subclass import CallRequest
from trio_model_runner.rpc.receiver import CallInterrupted

SERVICE = "test.Interoperability"
SERVER = """
import sys
sys.path.insert(0, sys.argv[1])
from interoperability import servers
servers.OPTIONS += [("grpc.max_connection_age_ms", 30_000), ("grpc.max_connection_age_grace_ms", 2000)]
with servers.grpcio_aio() as port:
    print(port, flush=True)
    sys.stdin.read()
"""
SIZES = [0, 10, 10, 10, 1000, 20_000, 100_000, 1_000_000]


@attrs.frozen
class Measure:
    """What this process holds."""

    blocks: int
    resident_bytes: int
    files: int
    tasks: int

    @classmethod
    def now(cls) -> Measure:
        """Collect garbage, and look."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = len(list(Path("/proc/self/fd").iterdir()))
        tasks = trio.lowlevel.current_statistics().tasks_living
        return cls(sys.getallocatedblocks(), pages * os.sysconf("SC_PAGE_SIZE"), files, tasks)

    def __str__(self) -> str:
        resident = self.resident_bytes / (1 << 20)
        return f"{self.blocks} blocks, {resident:.1f} MiB resident, {self.files} files, {self.tasks} tasks"


class Soak:
    """The calls that are made, and how they ended."""

    def __init__(self, port: int, calls: int, seed: int) -> None:
        self.ends: Counter[str] = Counter()
        self.left = calls
        self._port = port
        self._chance = random.Random(seed)

    async def proxy(self, stream: trio.SocketStream) -> None:
        """Pass bytes on to the server, until it is time to hang up."""
        async with stream, await trio.open_tcp_stream("127.0.0.1", self._port) as beyond:
            with trio.move_on_after(self._chance.expovariate(1 / 20)):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass_on, stream, beyond, nursery)
                    nursery.start_soon(self._pass_on, beyond, stream, nursery)

    async def _pass_on(self, source: Any, target: Any, nursery: trio.Nursery) -> None:
        try:
            async for data in source:
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        nursery.cancel_scope.cancel()

    async def use(self, channel: Channel, until: int) -> None:
        """Make calls on a channel until so many are left to make on all channels together."""
        while self.left > until:
            self.left -= 1
            try:
                with trio.move_on_after(self._chance.choice([30, 30, 30, 0.001, 0.01])) as scope:
                    await self._call(channel)
                self.ends["cancelled" if scope.cancelled_caught else "answered"] += 1
            except GRPCError as error:
                self.ends[f"status {error.status.name}"] += 1
            except TimeoutError:
                self.ends["timed out"] += 1
            except CallInterrupted as error:
                self.ends["connection lost" if error.connection_lost else "reset"] += 1
            except OSError:
                self.ends["not connected"] += 1

    async def _call(self, channel: Channel) -> None:
        chance = self._chance
        message = CallRequest(method_name="x" * chance.choice(SIZES))
        kind = chance.choice(["Echo", "Echo", "Echo", "Echo", "Expand", "Gather", "Chat", "Fail", "Hang"])
        streams = {
            "Expand": Cardinality.UNARY_STREAM,
            "Gather": Cardinality.STREAM_UNARY,
            "Chat": Cardinality.STREAM_STREAM,
        }
        async with channel.request(
            f"/{SERVICE}/{kind}",
            streams.get(kind, Cardinality.UNARY_UNARY),
            CallRequest,
            CallRequest,
            timeout=0.02 if kind == "Hang" else 30,
            metadata={"count": "5", "code": str(chance.randint(1, 16)), "say": str(chance.random())},
        ) as stream:
            if kind == "Fail":
                message = CallRequest()
            await stream.send_message(message, end=kind == "Gather")
            if kind == "Expand" and chance.random() < 0.3:
                return  # which cancels it
            if kind == "Chat":
                assert await stream.recv_message() == message
                await stream.end()
            async for answer in stream:
                assert answer == message
                if chance.random() < 0.1:
                    await stream.cancel()
                    return


async def soak(port: int, options: argparse.Namespace) -> Soak:
    """Make all calls, and print what they cost."""
    run = Soak(port, options.calls, options.seed)
    begun = time.monotonic()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, run.proxy, 0)
        front = listeners[0].socket.getsockname()[1]
        async with AsyncExitStack() as stack:
            channels: list[Channel] = [
                await stack.enter_async_context(Channel("127.0.0.1", front, wait_for_ready=True))
                for _ in range(options.connections)
            ]
            for name, until in (("start", options.calls * 9 // 10), ("end", 0)):
                async with trio.open_nursery() as calling:
                    for channel in channels * 3:
                        calling.start_soon(run.use, channel, until)
                print(f"{name:6}{Measure.now()}", flush=True)
        nursery.cancel_scope.cancel()
    seconds = time.monotonic() - begun
    print(f"{options.calls} calls on {options.connections} connections in {seconds:.0f} s")
    print(", ".join(f"{count} {name}" for name, count in run.ends.most_common()))
    return run


def main() -> None:
    """Start the servers, and soak."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    command = [sys.executable, "-c", SERVER, str(Path(__file__).parents[1])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            trio.run(soak, int(server.stdout.readline()), options)
        finally:
            server.stdin.close()


if __name__ == "__main__":
    main()
