"""An orchestrator that speaks of node processes, and settings for clusters that are led to them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
import trio

from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterConfig,
    DynamicSubclassService,
    Join,
    ModelRunner,
    PredictionRound,
)
from trio_model_runner.config import Backoff, OrchestratorConfig
from trio_model_runner.testing import LocalCrunch

from .node_process import NodeProcess
from .waiting import PATIENT, Release

__all__ = [
    "SERVICE",
    "JoinLog",
    "announced",
    "hold_only",
    "joined_by",
    "settings",
    "statuses",
    "take_instance_away",
]

SERVICE = DynamicSubclassService("tracker.Tracker", Arguments("first", [1, None], start=3, scale=0.5))

_BACKOFF = Backoff(attempts=300, initial=0.05, factor=1.5, maximum=0.1, connect_timeout=2.0)
_ORCHESTRATOR = OrchestratorConfig(reconnect_initial=0.05, reconnect_maximum=0.1)


def settings(crunch: LocalCrunch, **changes: Any) -> ClusterConfig:
    """Settings with long deadlines and short waits."""
    defaults = {"timeout": PATIENT, "startup_timeout": PATIENT, "backoff": _BACKOFF}
    return crunch.config(**{**defaults, "orchestrator": _ORCHESTRATOR, **changes})


@contextlib.asynccontextmanager
async def announced(nodes: Iterable[NodeProcess]) -> AsyncIterator[LocalCrunch]:
    """A crunch without nodes of its own, whose orchestrator says that these run."""
    async with LocalCrunch() as crunch:
        crunch.orchestrator.announce(*(node.entry() for node in nodes))
        yield crunch


@contextlib.asynccontextmanager
async def joined_by(nodes: Iterable[NodeProcess], **changes: Any) -> AsyncIterator[Cluster]:
    """A cluster of these nodes, with a crunch of its own."""
    async with announced(nodes) as crunch, Cluster(settings(crunch, **changes), SERVICE) as cluster:
        yield cluster


def statuses(results: PredictionRound[Any]) -> dict[str, str]:
    """The results' statuses by model id."""
    return {model.model_id: result.status.value for model, result in results.items()}


def hold_only(model_id: str, release: Release) -> Callable[[ModelRunner], Arguments]:
    """Arguments for the method `hold`: one model holds until it is released, the others don't."""
    return lambda model: Arguments(release.path if model.model_id == model_id else "")


def take_instance_away(node: NodeProcess) -> None:
    """Reset a node, if it has an instance, as another client can. This blocks."""
    with grpc.insecure_channel(f"127.0.0.1:{node.port}") as channel:
        call = channel.unary_unary("/dynamic_subclass.DynamicSubclassService/Rest")
        answer = call(b"", timeout=PATIENT)
        assert b"Instance successfully reset" in answer or b"No instance exists to reset" in answer


class JoinLog:
    """An `on_join` that writes down who joins."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, bool]] = []
        self._something_happened = trio.lowlevel.ParkingLot()

    async def __call__(self, join: Join) -> None:
        """Write it down, and do nothing."""
        await trio.lowlevel.checkpoint()
        self.entries.append((join.model.model_id, str(join.reason), join.fresh))
        self._something_happened.unpark_all()

    async def wait_for(self, count: int) -> None:
        """Wait until there are `count` entries, or more."""
        with trio.fail_after(PATIENT):
            while len(self.entries) < count:
                await self._something_happened.park()
