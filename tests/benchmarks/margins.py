"""How far honest servers stay from the end of what a peer may make us do for nothing, as a table.

    python tests/benchmarks/margins.py [SERVER ...] [--only WORK ...]

`rpc.budget` ends a connection whose server sends too much that brings no call forward. Here each server
of the interoperability tests does all kinds of honest work, and the table says the least that was left in its
bucket meanwhile, in percent. "!" marks work that failed, and "T" work that took longer than a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio
from machine import describe_machine, summary

sys.path.insert(0, str(Path(__file__).parents[1]))

from grpclib.const import Cardinality
from interoperability.servers import SERVERS  # type: ignore[import-not-found]
from interoperability.service import NO_LIMITS, SERVICE  # type: ignore[import-not-found]
from interoperability.stubs import Stub, chat  # type: ignore[import-not-found]

from trio_model_runner.channel import Channel
from trio_model_runner.proto.dynamic_subclass import CallRequest
from trio_model_runner.rpc import budget

PATIENCE: Final = 60.0
SMALL: Final = CallRequest("x")


async def small_answers(channel: Channel) -> None:
    """A stream of 100,000 small messages."""
    count = 0
    async for _ in Stub(channel).expand(SMALL, metadata={"count": "100000"}):
        count += 1
    assert count == 100_000


async def empty_answers(channel: Channel) -> None:
    """A stream of 30,000 empty messages."""
    async for _ in Stub(channel).expand(CallRequest(), metadata={"count": "30000"}):
        pass


async def large(channel: Channel) -> None:
    """60 MiB there and back."""
    size = 60 << 20
    assert len((await Stub(channel).echo(CallRequest("x" * size))).method_name) == size


async def large_requests(channel: Channel) -> None:
    """A stream of 4,000 requests of 16 kB."""
    await Stub(channel).gather([CallRequest("x" * 16_000)] * 4000)


async def small_requests(channel: Channel) -> None:
    """A stream of 30,000 requests of 100 bytes."""
    await Stub(channel).gather([CallRequest("x" * 100)] * 30_000)


async def in_turns(channel: Channel) -> None:
    """3,000 small messages each way, one after the other."""
    async with chat(channel) as stream:
        for _ in range(3000):
            await stream.send_message(SMALL)
            await stream.recv_message()
        await stream.end()


async def calls(channel: Channel) -> None:
    """1,000 small calls, one after the other."""
    for _ in range(1000):
        await Stub(channel).echo(SMALL)


async def crowd(channel: Channel) -> None:
    """100 tasks with 20 calls each."""

    async def call() -> None:
        for _ in range(20):
            await Stub(channel).echo(CallRequest("x" * 3000), metadata=[("say", str(trio.current_time()))])

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(call)


async def abandoned(channel: Channel) -> None:
    """180 streams of answers of three sizes, each left after the first one."""
    for size in (1, 100, 10_000):
        for _ in range(60):
            async with channel.request(
                f"/{SERVICE}/Expand",
                Cardinality.UNARY_STREAM,
                CallRequest,
                CallRequest,
                metadata={"count": "100000"},
            ) as stream:
                await stream.send_message(CallRequest("x" * size))
                await stream.recv_message()


async def cancelled(channel: Channel) -> None:
    """500 calls at once, each with a millisecond."""

    async def call() -> None:
        with trio.move_on_after(0.001):
            await Stub(channel).echo(CallRequest("x" * 3000))

    async with trio.open_nursery() as nursery:
        for _ in range(500):
            nursery.start_soon(call)


WORKS: Final[dict[str, Callable[[Channel], Awaitable[None]]]] = {
    work.__name__: work
    for work in (
        small_answers,
        empty_answers,
        large,
        large_requests,
        small_requests,
        in_turns,
        calls,
        crowd,
        abandoned,
        cancelled,
    )
}


class Least:
    """The least that has been left in any bucket since `begin`."""

    def __init__(self) -> None:
        self.left: float = budget.CAPACITY
        spend = budget.WorkBudget.spend

        def spend_and_look(bucket: budget.WorkBudget, cost: float, *, work: float = 0.0) -> None:
            try:
                spend(bucket, cost, work=work)
            finally:
                self.left = min(self.left, bucket.left)

        budget.WorkBudget.spend = spend_and_look  # type: ignore[method-assign]

    def begin(self) -> None:
        self.left = budget.CAPACITY


async def perform(work: Callable[[Channel], Awaitable[None]], port: int) -> str:
    """Do it; the mark for how that went."""
    try:
        async with Channel("127.0.0.1", port) as channel:
            with trio.move_on_after(PATIENCE) as scope:
                await work(channel)
            return "T" if scope.cancelled_caught else ""
    except Exception as error:
        print(f"{work.__name__}: {error!r}"[:300], file=sys.stderr)
        return "!"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("servers", nargs="*", choices=[*SERVERS, []], metavar="SERVER")
    parser.add_argument("--only", nargs="+", choices=WORKS, metavar="WORK")
    arguments: Any = parser.parse_args()
    works = arguments.only or list(WORKS)
    least = Least()
    print(f"| server | {' | '.join(works)} |\n|{'---|' * (len(works) + 1)}")
    for kind in arguments.servers or SERVERS:
        cells = []
        with SERVERS[kind](NO_LIMITS) as port:
            for name in works:
                least.begin()
                mark = trio.run(partial(perform, WORKS[name], port))
                cells.append(f"{100 * least.left / budget.CAPACITY:.1f}{mark}")
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)
    print(summary(describe_machine()))


if __name__ == "__main__":
    main()
