"""An orchestrator that announces as many models of the fleet as the name of the crunch says, no more.

    python orchestrator.py    (the fleet's ports: one line of JSON on standard input)

The crunch "models-100" has the first hundred. It runs on `websockets`, in the reference client's
environment, prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosedError

CRUNCH_PREFIX = "/models-"


def entry(index: int, port: int) -> dict[str, Any]:
    """What an orchestrator of today says of a running model."""
    return {
        "deployment_id": f"deployment-{index}",
        "model_id": f"model-{index}",
        "state": "RUNNING",
        "ip": "127.0.0.1",
        "port": port,
        "infos": {
            "model_name": f"name-of-{index}",
            "cruncher_id": f"cruncher-{index}",
            "cruncher_name": f"somebody-{index}",
            "cruncher_wallet_pubkey": "4uQeVj5tqViQh7yWWGStvkEG1Zmhx6uasJtWCJziofM",
            "cruncher_hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        },
    }


async def serve(ports: list[int]) -> None:
    """Announce the models of these ports until standard input ends."""

    async def announce(connection: ServerConnection) -> None:
        assert connection.request is not None
        count = int(connection.request.path.removeprefix(CRUNCH_PREFIX))
        models = [entry(index, port) for index, port in enumerate(ports[:count])]
        await connection.send(json.dumps({"event": "init", "data": models}))
        with contextlib.suppress(ConnectionClosedError):  # clients leave as they like
            async for _ in connection:
                pass

    async with serve_websocket(announce, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Read the ports, and serve."""
    asyncio.run(serve(json.loads(sys.stdin.readline())))


if __name__ == "__main__":
    main()
