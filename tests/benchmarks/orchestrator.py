"""An orchestrator that announces as many models of a fleet as the name of the crunch says, no more.

    python orchestrator.py    (the entries of each fleet: an object in one line of JSON on standard input)

The crunch "secure-100" has the first hundred of the fleet "secure". It runs on `websockets`, in the
reference client's environment, prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

from entries import Entry
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosedError


async def serve(fleets: dict[str, list[Entry]]) -> None:
    """Announce the models of these fleets until standard input ends."""

    async def announce(connection: ServerConnection) -> None:
        assert connection.request is not None
        fleet, count = connection.request.path.removeprefix("/").rsplit("-", 1)
        models = fleets[fleet][: int(count)]
        await connection.send(json.dumps({"event": "init", "data": models}))
        with contextlib.suppress(ConnectionClosedError):  # clients leave as they like
            async for _ in connection:
                pass

    async with serve_websocket(announce, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Read the entries, and serve."""
    asyncio.run(serve(json.loads(sys.stdin.readline())))


if __name__ == "__main__":
    main()
