"""Events of a `Cluster` that only observes: who is announced, and who can be reached."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ...cluster.changes import ChangeKind
from ...cluster.cluster import Cluster

if TYPE_CHECKING:
    from ...cluster.changes import Change
    from ...config import ClusterConfig
    from .socket_source import Event

__all__ = ["WARNING", "events_of_cluster"]

WARNING: Final = (
    "warning: --observe is one client more at the orchestrator, and a connection more to every node. When a "
    "client comes or goes, deployed orchestrators can lose updates for others: prefer a StatusSocket."
)


async def events_of_cluster(config: ClusterConfig, tell: Callable[[Event], None]) -> None:
    """Observe, and tell what happens; this has no end.

    Args:
        config: the settings.
        tell: is called with each event.

    Raises:
        OrchestratorUnavailable: no list of models came.
    """
    async with Cluster(config) as cluster, cluster.changes() as changes:
        tell(_snapshot_of(cluster))
        connected = True
        async for change in changes:
            tell(_snapshot_of(cluster) if change.kind is ChangeKind.RESYNC else _event_of(change))
            snapshot = cluster.snapshot()
            if snapshot.orchestrator_connected is not connected:
                connected = snapshot.orchestrator_connected
                error = None if connected else snapshot.orchestrator_error
                tell({"type": "orchestrator", "at": time.time(), "connected": connected, "error": error})


def _snapshot_of(cluster: Cluster) -> Event:
    snapshot = cluster.snapshot(models=True).to_dict()
    return {"type": "snapshot", "v": 1, "at": time.time(), "last_round_at": None, "snapshot": snapshot}


def _event_of(change: Change) -> Event:
    return {"type": "change", "at": time.time(), "change": change.to_dict()}
