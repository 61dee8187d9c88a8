"""Counts what is certain, and makes a report due past the limits (rule a in `judge`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...values.failure_codes import FailureCode
from .record import SETUP
from .reports import PendingReport, PendingReports

if TYPE_CHECKING:
    from .evidence import Incident
    from .record import Limits, Record, Standing

__all__ = ["Counting"]


class Counting:
    """Counts failures and timeouts.

    Args:
        limits: how many are allowed.
        reports: gets the reports that become due.
    """

    def __init__(self, limits: Limits, reports: PendingReports) -> None:
        self._limits = limits
        self._reports = reports

    def count_if_certain(self, incident: Incident, now: float) -> None:
        """Count an incident (rule a), if it has its witness and the way was good."""
        record, standing = incident.record, incident.standing
        if not (incident.witness and incident.way_was_good) or incident.cleared != standing.cleared:
            return
        failures, timeouts = (0, 1) if incident.is_timeout else (1, 0)
        standing.count(failures=failures, timeouts=timeouts, began=incident.began, witness=incident.witness)
        self.look_at(record, standing, incident.detail, now, incident.is_timeout)

    def look_at(self, record: Record, standing: Standing, detail: str, now: float, is_timeout: bool) -> None:
        """See whether a count is past its limit now."""
        if is_timeout:
            count, limit, code = standing.timeouts, self._limits.timeouts, FailureCode.MULTIPLE_TIMEOUT
        else:
            count, limit, code = standing.failures, self._limits.failures, FailureCode.MULTIPLE_FAILED
            if standing.method == SETUP:
                limit = 0  # after one failure, the model is out
        if limit is not None and count > limit:
            self.become_due(record, standing, code, detail, now)

    def become_due(
        self,
        record: Record,
        standing: Standing,
        code: FailureCode,
        reason: str,
        now: float,
        *,
        unserved: bool = False,
    ) -> None:
        """Make a report due."""
        self._reports.add(PendingReport(record, code, standing.method, reason, now, unserved=unserved))
