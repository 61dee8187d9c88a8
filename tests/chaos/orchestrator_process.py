"""What runs in the orchestrator's process."""

from __future__ import annotations

import socket
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from trio_model_runner.testing import LocalOrchestrator

from .control import ControlChannel

__all__ = ["run"]


def run(request: dict[str, Any], control: socket.socket) -> None:
    """Be an orchestrator until told to stop, or until nobody controls it.

    Args:
        request: its `crunch_id`, `host`, `port` (0 for any), and the `entries` that it knows.
        control: takes `announce` (entries), `text` (to send as it is), `tell_done` and `stop`; tells
            `listening`, `report`, and `done` when all that came before has been sent.
    """
    trio.run(_serve, request, control)


async def _serve(request: dict[str, Any], control: socket.socket) -> None:
    orchestrator = LocalOrchestrator(request["crunch_id"], host=request["host"], port=request["port"])
    orchestrator.announce(*request["entries"])
    channel = ControlChannel(control)
    async with trio.open_nursery() as nursery:
        await nursery.start(orchestrator.run)
        nursery.start_soon(_tell_reports, orchestrator, channel)
        await channel.send({"listening": orchestrator.port})
        async for command in channel.receive_all():
            if "announce" in command:
                orchestrator.announce(*command["announce"])
            elif "text" in command:
                orchestrator.send_text(command["text"])
            elif "tell_done" in command:
                await wait_all_tasks_blocked()
                await channel.send({"done": command["tell_done"]})
            else:
                await orchestrator.stop()
                break
        nursery.cancel_scope.cancel()


async def _tell_reports(orchestrator: LocalOrchestrator, channel: ControlChannel) -> None:
    told = 0
    while True:
        await orchestrator.wait_for_reports(told + 1)
        for report in orchestrator.reports[told:]:
            told += 1
            await channel.send({"report": report})
