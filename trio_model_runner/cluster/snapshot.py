"""The state of a cluster at one moment, in plain values: for a health endpoint, a log, a dashboard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from ..values.results import Status
from ..values.strict_json import strict_json

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from ..model.policy.record import Record
    from .actors import A
    from .caller import Caller
    from .feed import Feed
    from .fleet import Fleet

__all__ = ["ClusterSnapshot", "counts_of", "take_snapshot"]

_OF_REPORT: Final = ("code", "stage", "method")

_NOT_OURS: Final = "another coordinator's call"


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
        shards: the processes of a `sharding.ShardedCluster`; empty in a `Cluster`. Each has the keys
            ``index``, ``state`` ("launching", "up", "silent" or "lost"), ``models`` (how many it has),
            ``lease`` (seconds that are left until its models move, or None) and ``round_trip`` (seconds of
            the last renewal, or None).
        model_rows: with ``models=True`` a row for each announced model; else None. It has the keys of
            `ModelRunner.to_dict`, and ``connected_since`` (POSIX seconds, or None), ``failures`` and
            ``timeouts`` (the most that one of its methods has had since that method's last success),
            ``busy_with`` (the method of a call that was cut off, and that the node may still be at, or None),
            ``report`` (of a report that waits or is held: its ``code``, ``stage`` and ``method``; or None),
            and ``last_status`` and ``last_elapsed`` (its result in the last round; None if it was not in it).
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
    shards: tuple[Mapping[str, Any], ...] = ()
    model_rows: tuple[Mapping[str, Any], ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the same as strict JSON, a copy: ``json.dumps(..., allow_nan=False)`` takes it.

        Keys: those of the attributes; ``model_rows`` only with ``models=True``.
        """
        row: dict[str, Any] = strict_json(self)
        if self.model_rows is None:
            del row["model_rows"]
        return row


def take_snapshot(
    config: ClusterConfig, feed: Feed, fleet: Fleet[A], caller: Caller[Any], *, models: bool = False
) -> ClusterSnapshot:
    """Make a snapshot from the parts of a cluster, with or without a row for each model."""
    last_round: dict[str, Any] | None = None
    if (last := caller.last_round) is not None:
        groups = (last.succeeded, last.failed, last.timed_out, last.skipped, last.absent)
        named = zip(Status, groups, strict=True)
        counts = {status.value: len(group) for status, group in named if group}
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
        shards=fleet.actors.shards(),
        model_rows=tuple(_row(actor, fleet, caller) for actor in fleet.members.values()) if models else None,
    )


def _row(actor: A, fleet: Fleet[A], caller: Caller[Any]) -> Mapping[str, Any]:
    """What is known of one model, without asking anybody."""
    record, runner, at = actor.conduct.record, actor.runner, actor.connected_at
    reports = fleet.judge.reports.about(record)
    result = None if caller.last_round is None else caller.last_round.get(runner)
    failures, timeouts = counts_of(record)
    return {
        **runner.to_dict(),
        "connected_since": None if at is None else time.time() - (trio.current_time() - at),
        "failures": failures,
        "timeouts": timeouts,
        "busy_with": None if record.overrun is None else record.overrun.method or _NOT_OURS,
        "report": {key: reports[0].to_dict()[key] for key in _OF_REPORT} if reports else None,
        "last_status": None if result is None else result.status.value,
        "last_elapsed": None if result is None else result.elapsed,
    }


def counts_of(record: Record) -> tuple[int, int]:
    """The most failures and timeouts that one of a model's methods has had since its last success.

    Any thread may ask.
    """
    standings = list(record.standings.values())
    failures = max((standing.failures for standing in standings), default=0)
    return failures, max((standing.timeouts for standing in standings), default=0)
