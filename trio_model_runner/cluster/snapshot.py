"""How a cluster is, at one moment, in plain values: for a health endpoint, a log, a dashboard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from ..orchestrator import OrchestratorFeed
    from .caller import Caller
    from .fleet import Fleet

__all__ = ["ClusterSnapshot", "take_snapshot"]


@attrs.frozen
class ClusterSnapshot:
    """How a cluster was when the snapshot was taken.

    Attributes:
        crunch_id: the competition.
        orchestrator_connected: whether the feed stands.
        orchestrator_since: since when it stands or doesn't, POSIX seconds; None before the first connection.
        orchestrator_error: the last thing that went wrong with it, or None.
        models: how many announced models are in each state, by `ModelState` value.
        last_round: the last round's id, method, counts by status, elapsed seconds; None before the first.
        reports_pending: reports that wait until they are certain enough.
        reports_held: reports that will not be sent, since too many came at once.
        reports_unsent: reports that wait for the orchestrator.
        draining: no new calls are taken.
    """

    crunch_id: str
    orchestrator_connected: bool
    orchestrator_since: float | None
    orchestrator_error: str | None
    models: Mapping[str, int]
    last_round: Mapping[str, Any] | None
    reports_pending: int
    reports_held: int
    reports_unsent: int
    draining: bool

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict that `json.dumps` takes."""
        row = attrs.asdict(self, recurse=False)
        row["models"] = dict(self.models)
        row["last_round"] = dict(self.last_round) if self.last_round is not None else None
        return row


def take_snapshot(
    config: ClusterConfig, feed: OrchestratorFeed, fleet: Fleet, caller: Caller
) -> ClusterSnapshot:
    """How the cluster of these parts is now."""
    last_round: dict[str, Any] | None = None
    if (last := caller.last_round) is not None:
        counts = dict(Counter(result.status.value for result in last.values()))
        last_round = {"id": last.id, "method": last.method, "elapsed": last.elapsed, "counts": counts}
    return ClusterSnapshot(
        crunch_id=config.crunch_id,
        orchestrator_connected=feed.connected,
        orchestrator_since=feed.since,
        orchestrator_error=feed.last_error,
        models=fleet.count_states(),
        last_round=last_round,
        reports_pending=fleet.reporting.pending,
        reports_held=fleet.reporting.held,
        reports_unsent=feed.pending_reports,
        draining=caller.draining,
    )
