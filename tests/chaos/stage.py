"""The world around the cluster: makes the effects of actions so, in processes at addresses of this machine.

Each address is a host of its own in 127.0.0.0/8, so nobody else gets a port that a dead node has left, and
a report's address says whom it means.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, Final

import trio

from .deployment import Deployment
from .processes import ChildProcess, Launcher
from .truth import Effect, OrchestratorState, Truth

__all__ = ["CRUNCH_ID", "Stage"]

CRUNCH_ID: Final = "chaos"
_NETWORK: Final = f"127.{16 + os.getpid() % 200}"  # runs side by side have different ones
_HOSTS_PER_BLOCK: Final = 200

_NONSENSE: Final = (
    "{",
    "[]",
    '{"event": "dance", "data": []}',
    '{"event": "update", "data": {"model_id": "m10"}}',
    json.dumps(
        {
            "event": "update",
            "data": [
                None,
                {"model_id": 7, "state": "RUNNING"},
                {"model_id": "m11", "state": "DREAMING"},
                {"model_id": "m12", "state": "RUNNING", "ip": "127.0.0.1", "port": 70_000},
                {"model_id": "m13", "state": "RUNNING", "ip": None, "port": None},
                {"model_id": "m14", "deployment_id": "never heard of", "state": "STOPPED"},
            ],
        }
    ),
)


class Stage:
    """The processes, as a `Truth` wants them.

    Attributes:
        orchestrator: the orchestrator's process of today.
    """

    def __init__(self, launcher: Launcher, truth: Truth) -> None:
        self.orchestrator: ChildProcess
        self._launcher = launcher
        self._truth = truth
        self._nodes: dict[int, ChildProcess] = {}
        self._relays: dict[int, ChildProcess] = {}
        self._node_ports: dict[int, int] = {}
        self._ports: dict[int, int] = {}  # where it is reached: its relay's, if it has one
        self._orchestrator_port = 0

    @property
    def orchestrator_host(self) -> str:
        """Where the orchestrator listens."""
        return f"{_NETWORK}.255.1"

    @staticmethod
    def host(address: int) -> str:
        """An address's host."""
        return f"{_NETWORK}.{address // _HOSTS_PER_BLOCK}.{1 + address % _HOSTS_PER_BLOCK}"

    @staticmethod
    def address(host: str) -> int:
        """The address with this host."""
        block, number = host.split(".")[2:]
        return int(block) * _HOSTS_PER_BLOCK + int(number) - 1

    async def perform(self, effects: Iterable[Effect]) -> None:
        """Make effects so, in order."""
        await trio.lowlevel.checkpoint()
        for name, *arguments in effects:
            await getattr(self, f"_{name}")(*arguments)

    async def begin(self) -> None:
        """Start the first orchestrator."""
        await self._orchestrator_start()

    async def _start(self, deployment: Deployment, condition: str) -> None:
        life, address = deployment.life, deployment.address
        process = await self._launcher.start(
            f"life {life}",
            role="grpcio-node" if deployment.grpcio else "node",
            host=self.host(address),
            port=self._node_ports.get(address, 0),
            life=life,
            temper=condition,
        )
        self._nodes[life] = process
        await process.wait_listening()
        self._node_ports[address] = self._ports[address] = process.port
        if deployment.relayed:
            if address not in self._relays:
                await self._start_relay(address)
            self._ports[address] = self._relays[address].port

    async def _start_relay(self, address: int) -> None:
        relay = await self._launcher.start(
            f"the relay {address}", role="relay", host=self.host(address), port=self._node_ports[address]
        )
        self._relays[address] = relay
        await relay.wait_listening()

    async def _cut(self, address: int, ways: str, seconds: float) -> None:
        await self._relays[address].tell(cut=ways, seconds=seconds)

    async def _kill(self, life: int) -> None:
        await self._nodes[life].kill()

    async def _freeze(self, life: int) -> None:
        await trio.lowlevel.checkpoint()
        self._nodes[life].freeze()

    async def _thaw(self, life: int) -> None:
        await trio.lowlevel.checkpoint()
        self._nodes[life].thaw()

    async def _tell(self, life: int, command: dict[str, Any]) -> None:
        await self._nodes[life].tell(**command)

    async def _announce(self, deployment: Deployment, state: str) -> None:
        await self.orchestrator.tell(announce=[self._entry(deployment, state)])
        if self._truth.orchestrator is OrchestratorState.UP:
            await self.orchestrator.wait_done()

    def _entry(self, deployment: Deployment, state: str) -> dict[str, Any]:
        running = state == "RUNNING"
        return {
            "deployment_id": deployment.deployment_id,
            "model_id": deployment.model_id,
            "state": state,
            "ip": self.host(deployment.address) if running else "",
            "port": self._ports[deployment.address] if running else 0,
            "infos": {"model_name": f"{deployment.model_id}, version {deployment.version}"},
        }

    async def _orchestrator_kill(self) -> None:
        await self.orchestrator.kill()

    async def _orchestrator_stop(self) -> None:
        await self.orchestrator.tell(stop=True)
        await self.orchestrator.wait_ended()

    async def _orchestrator_freeze(self) -> None:
        await trio.lowlevel.checkpoint()
        self.orchestrator.freeze()

    async def _orchestrator_thaw(self) -> None:
        await trio.lowlevel.checkpoint()
        self.orchestrator.thaw()
        await self.orchestrator.wait_done()

    async def _orchestrator_start(self) -> None:
        self.orchestrator = await self._launcher.start(
            "the orchestrator",
            role="orchestrator",
            crunch_id=CRUNCH_ID,
            host=self.orchestrator_host,
            port=self._orchestrator_port,
            entries=[self._entry(deployment, state) for deployment, state in self._truth.book()],
        )
        await self.orchestrator.wait_listening()
        self._orchestrator_port = self.orchestrator.port

    async def _orchestrator_nonsense(self) -> None:
        for text in _NONSENSE:
            await self.orchestrator.tell(text=text)
