"""A socket that says what a coordinator's StatusSocket says, and the lines for it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

__all__ = ["round_event", "serving_lines", "snapshot_event"]


def snapshot_event(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The first line: a snapshot, with rows about these models."""
    snapshot: dict[str, Any] = {
        "crunch_id": "bird-game",
        "orchestrator_connected": True,
        "orchestrator_error": None,
        "models": {"ready": len(models)},
        "reports_pending": 0,
        "reports_held": 0,
        "draining": False,
        "model_rows": list(models),
    }
    last_round_at = changes.pop("last_round_at", time.time())
    head = {"type": "snapshot", "v": 1, "at": time.time(), "pid": 1, "last_round_at": last_round_at}
    return {**head, "snapshot": snapshot | changes}


def round_event(statuses: dict[str, str], **changes: Any) -> dict[str, Any]:
    """A round in which each model had the status of this letter."""
    row: dict[str, Any] = {
        "v": 1,
        "crunch_id": "bird-game",
        "id": 7,
        "method": "predict",
        "started": time.time(),
        "timeout": 2.0,
        "seconds": 0.5,
        "model_ids": list(statuses),
        "deployment_ids": ["1"] * len(statuses),
        "statuses": "".join(statuses.values()),
        "elapsed": [0.25 if letter == "S" else None for letter in statuses.values()],
        "sent": "1" * len(statuses),
        "details": {},
    }
    return {"type": "round", "at": time.time(), "round": row | changes}


@contextlib.asynccontextmanager
async def serving_lines(path: Path, *events: Any, hold: bool = False) -> AsyncIterator[str]:
    """A socket that sends each reader these lines, and hangs up, or holds the line."""

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            for event in events:
                line = event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n"
                await stream.send_all(line)
            if hold:
                await trio.sleep_forever()

    with trio.socket.socket(trio.socket.AF_UNIX) as socket:
        await socket.bind(str(path))
        socket.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(socket)])
            yield str(path)
            nursery.cancel_scope.cancel()
