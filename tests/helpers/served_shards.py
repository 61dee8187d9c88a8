"""What shards of tests run: instead of calling models, they do what their first message says."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable

import trio

from trio_model_runner.sharding.engine import ShardLost

__all__ = ["SCRIPTED", "scripted"]

SCRIPTED = "helpers.served_shards:scripted"

Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes]]


async def scripted(first_message: bytes, send: Send, receive: Receive) -> None:
    """The first message is one word, and what belongs to it."""
    word, _, rest = first_message.partition(b" ")
    await _SCRIPTS[word.decode()](rest, send, receive)


async def _echo(rest: bytes, send: Send, receive: Receive) -> None:
    """Send back all, the first message's rest before it, until the driver is gone."""
    await send(rest)
    while True:
        await send(await receive())


async def _repeat(rest: bytes, send: Send, receive: Receive) -> None:
    """Send each message back twice, in one task, while another reads."""
    ours, theirs = trio.open_memory_channel[bytes](10_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_all, send, theirs)
        while True:
            await ours.send(await receive())


async def _send_all(send: Send, messages: trio.MemoryReceiveChannel[bytes]) -> None:
    async for message in messages:
        await send(message)
        await send(message)


async def _deaf(rest: bytes, send: Send, receive: Receive) -> None:
    """Read nothing, until a cancellation."""
    await send(str(os.getpid()).encode())
    await trio.sleep_forever()


async def _until_cancelled(rest: bytes, send: Send, receive: Receive) -> None:
    """Stay until a cancellation, and write that into a file."""
    await send(str(os.getpid()).encode())
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.Path(rest.decode()).write_text("cancelled")


async def _stubborn(rest: bytes, send: Send, receive: Receive) -> None:
    """Stay, whatever happens."""
    await send(str(os.getpid()).encode())
    with trio.CancelScope(shield=True):
        await trio.sleep(float(rest or b"3600"))


async def _stuck(rest: bytes, send: Send, receive: Receive) -> None:
    """Stop the event loop."""
    await send(str(os.getpid()).encode())
    time.sleep(3600)  # noqa: ASYNC251 - that is it


async def _count(rest: bytes, send: Send, receive: Receive) -> None:
    """Send so many messages, and end."""
    for number in range(int(rest)):
        await send(str(number).encode())


async def _raise(rest: bytes, send: Send, receive: Receive) -> None:
    """Send one message, and raise."""
    await send(b"last words")
    raise ValueError(rest.decode())


async def _exit(rest: bytes, send: Send, receive: Receive) -> None:
    """End the process, with an exit code."""
    await send(b"last words")
    os._exit(int(rest))


async def _talk(rest: bytes, send: Send, receive: Receive) -> None:
    """Print to both outputs, and go on as an echo."""
    print("printed")
    print("x" * 100_000, file=sys.stderr, flush=True)
    print("at the end", flush=True)
    await _echo(rest, send, receive)


async def _until_lost(rest: bytes, send: Send, receive: Receive) -> None:
    """Read until the driver is gone, and write that into a file."""
    await send(str(os.getpid()).encode())
    try:
        while True:
            await receive()
    except ShardLost as error:
        await trio.Path(rest.decode()).write_text(str(error))


_SCRIPTS: dict[str, Callable[[bytes, Send, Receive], Awaitable[None]]] = {
    "echo": _echo,
    "repeat": _repeat,
    "deaf": _deaf,
    "stubborn": _stubborn,
    "stuck": _stuck,
    "count": _count,
    "raise": _raise,
    "exit": _exit,
    "talk": _talk,
    "until_cancelled": _until_cancelled,
    "until_lost": _until_lost,
}
