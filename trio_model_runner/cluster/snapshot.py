"""The state of a cluster at one moment, in plain values: for a health endpoint, a log, a dashboard."""

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
    """The state of a cluster at the moment of the snapshot.

    Attributes:
        crunch_id: the competition.
        orchestrator_connected: whether the orchestrator is connected.
        orchestrator_since: since when it is connected, or is not, in POSIX seconds; None before the block.
        orchestrator_error: why the last connection to it, or the last attempt, failed; None if none did.
        models: how many announced models are in each state, by `ModelState` value.
        last_round: the last round's id, method, counts by status, elapsed seconds; None before the first.
        reports_pending: how many reports wait until they are certain enough.
        reports_held: how many reports are held: they are not sent, since the models are not alone with their
            trouble.
        reports: these reports, each with the keys ``model_id``, ``code``, ``stage`` (such as "pending" or
            "held"), ``method``, ``failures``, ``timeouts``, ``witness`` (a model id or None) and ``reason``.
        reports_unsent: how many reports wait for a connection to the orchestrator.
        draining: whether `Cluster.drain` was called. Then no new calls are taken.
    """

    crunch_id: str
    orchestrator_connected: bool
    orchestrator_since: float | None
    orchestrator_error: str | None
    models: Mapping[str, int]
    last_round: Mapping[str, Any] | None
    reports_pending: int
    reports_held: int
    reports: tuple[Mapping[str, Any], ...]
    reports_unsent: int
    draining: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the same as a dict that `json.dumps` takes."""
        row = attrs.asdict(self, recurse=False)
        row["models"] = dict(self.models)
        row["reports"] = [dict(report) for report in self.reports]
        row["last_round"] = dict(self.last_round) if self.last_round is not None else None
        return row


def take_snapshot(
    config: ClusterConfig, feed: OrchestratorFeed, fleet: Fleet, caller: Caller
) -> ClusterSnapshot:
    """Make a snapshot from the parts of a cluster."""
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
        reports=tuple(fleet.reporting.rows()),
        reports_unsent=feed.pending_reports,
        draining=caller.draining,
    )
