"""What runs in a node's process: a model with a temper that can be changed while it runs."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import trio

from trio_model_runner.testing import Faults, LocalNode

from .control import ControlChannel
from .frames import FLOOD, GARBAGE, OUTBURSTS

__all__ = ["TARDY_SECONDS", "run"]

TARDY_SECONDS = 1.6
"""What each call takes on a node that is always late."""

_FAULTS: dict[str, dict[str, Any]] = {
    "babbling": {"raw_answer": b"\xff\xff\xff"},
    "silent": {"silent": True},
    "garbage": {"garbage": GARBAGE},
    "flooding": {"garbage": FLOOD},
    "dropping": {"drop_after_request": True},
    "stalling": {"hang_setup": True},
}
"""The faults of the tempers that are not the model's own."""

_BREAKING = ("silent", "garbage", "flooding", "stalling")
"""They show on a new connection."""


def run(request: dict[str, Any], control: socket.socket) -> None:
    """Be a node until nobody controls it.

    Args:
        request: its `host`, `port` (0 for any), `temper`, and `life`, which it puts into its answers.
        control: takes `temper`, `delay` (seconds of the next call) and `outburst`; tells `listening`.
    """
    trio.run(_serve, request, control)


class _Temper:
    """How the node behaves, and that this may change."""

    def __init__(self, life: int) -> None:
        self.life = life
        self.name = "sound"
        self.delay = 0.0
        self.changed = trio.Event()


class _Model:
    """What the node serves; it knows whether it was caught up since it was made."""

    def __init__(self, temper: _Temper, *_: Any) -> None:
        self._temper = temper
        self._caught_up = False

    async def catch_up(self) -> None:
        """What `on_join` does to a new instance."""
        await trio.lowlevel.checkpoint()
        self._caught_up = True

    async def predict(self, number: int) -> dict[str, Any]:
        """Tell who answers what."""
        if self._temper.name == "raising":
            raise ValueError("no feathers")
        while self._temper.name == "hanging":
            await self._temper.changed.wait()
        delay, self._temper.delay = self._temper.delay, 0.0
        await trio.sleep(TARDY_SECONDS if self._temper.name == "tardy" else delay)
        await trio.sleep(0.0005 * (7 * number % 40))  # so that things happen while calls run
        return {"life": self._temper.life, "number": number, "caught_up": self._caught_up}


async def _serve(request: dict[str, Any], control: socket.socket) -> None:
    temper = _Temper(request["life"])
    node = LocalNode(partial(_Model, temper), host=request["host"], port=request["port"])
    _change(node, temper, request["temper"])
    channel = ControlChannel(control)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await channel.send({"listening": node.port})
        async for command in channel.receive_all():
            if "temper" in command:
                _change(node, temper, command["temper"])
            elif "delay" in command:
                temper.delay = command["delay"]
            else:
                node.send_raw(OUTBURSTS[command["outburst"]])
        nursery.cancel_scope.cancel()


def _change(node: LocalNode, temper: _Temper, name: str) -> None:
    previous, temper.name = temper.name, name
    node.faults = Faults(**_FAULTS.get(name, {}))
    temper.changed.set()
    temper.changed = trio.Event()
    if previous == "stalling":  # the Setup that hangs would make it busy for ever
        node.kill()
        node.restart()
    elif name in _BREAKING or previous in _BREAKING:
        node.break_connections()
