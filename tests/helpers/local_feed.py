"""A coordinator's end of a local orchestrator's WebSocket, message by message."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_websocket import wrap_client_stream

from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch, LocalOrchestrator

__all__ = ["REPORT", "Feed", "Model", "connect", "crunch_and_feed"]


class Model:
    def predict(self) -> int:
        return 1


class Feed:
    """A coordinator's end of the WebSocket."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def event(self) -> tuple[str, list[dict[str, Any]]]:
        message = json.loads(await self.connection.get_message())
        return message["event"], message["data"]

    async def states(self) -> list[tuple[str, str, str]]:
        event, entries = await self.event()
        return [(event, entry["model_id"], entry["state"]) for entry in entries]

    async def report(self, **report: Any) -> None:
        message = {"event": "report_failure", "data": [report]}
        await self.connection.send_message(json.dumps(message))


@asynccontextmanager
async def connect(orchestrator: LocalOrchestrator, network: Any, path: str = "local") -> Any:
    stream = await network.connect(orchestrator.host, orchestrator.port)
    async with stream, trio.open_nursery() as nursery:
        yield Feed(await wrap_client_stream(nursery, stream, orchestrator.host, f"/{path}"))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def crunch_and_feed(*models: str) -> Any:
    async with (
        LocalCrunch(dict.fromkeys(models, Model), network=MemoryNetwork()) as crunch,
        connect(crunch.orchestrator, crunch.network) as feed,
    ):
        yield crunch, feed


REPORT = {"model_id": "one", "failure_code": "MULTIPLE_FAILED", "failure_reason": None, "ip": "127.0.0.1"}
