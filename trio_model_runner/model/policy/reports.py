"""Reports wait before they are sent, and are held where the model is not alone with its trouble.

Each report is pending for a minute (`Health.mass_window`), and it is looked at twice: when it becomes due,
and when it has waited. `crowd` says whether the model is alone. The letters of the rules are those of
`judge`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import TYPE_CHECKING, Any, Final

import attrs

from ...values.failure_codes import FailureCode
from ...values.strict_json import strict_json
from .crowd import Crowd, Crowds
from .record import NEVER

if TYPE_CHECKING:
    from ...config import Health
    from .record import Limits, Record, Standing

__all__ = [
    "CONNECTION",
    "Decision",
    "News",
    "NewsKind",
    "PendingReport",
    "PendingReports",
    "Stage",
    "may_be_sent",
]

CONNECTION: Final = ""
"""The `PendingReport.method` of a report about a model that can't be reached, or did not prove itself."""

_SAID_EVERY: Final = 3600.0  # seconds


def may_be_sent(code: FailureCode, *, orchestrator_connected: bool) -> bool:
    """Whether a report that is released is sent.

    If neither the model nor the orchestrator can be reached, our network may be the cause, and nothing is
    sent. If the orchestrator still lists the model when it is back, the model is tried again.
    """
    return orchestrator_connected or code is not FailureCode.CONNECTION_FAILED


class Stage(enum.StrEnum):
    """How far a report has come.

    Attributes:
        UNPROVED: it says that the model lacks a method, and not enough other models have that method.
        NEW: it has just become due.
        PENDING: it waits.
        CONFIRMING: it has waited; now the model is tried once more, and all members are asked a PING.
        HELD: it is not sent, since the model is not alone.
    """

    UNPROVED = "unproved"
    NEW = "new"
    PENDING = "pending"
    CONFIRMING = "confirming"
    HELD = "held"


@attrs.define(eq=False)
class PendingReport:
    """A report that is not sent yet.

    Attributes:
        record: whose.
        code: what to report.
        method: the method that it is about, or `CONNECTION`.
        reason: the text that the model's author will read.
        at: since when it waits, in seconds of the owner's clock.
        unserved: the model escapes: all calls on it come to nothing. See `Judge`.
        must_confirm: the model must fail once more before this is sent.
        stage: how far it has come.
        confirming_since: when the model was to be tried once more.
        members_asked: all members have been asked a PING since then.
        said_at: when the log has said last that it is held.
    """

    record: Record
    code: FailureCode
    method: str
    reason: str
    at: float
    unserved: bool = False
    must_confirm: bool = False
    stage: Stage = Stage.NEW
    confirming_since: float = NEVER
    members_asked: bool = False
    said_at: float = NEVER

    @property
    def identity(self) -> Hashable:
        """Two reports about a deployment with the same identity are one."""
        return self.code, self.method

    @property
    def standing(self) -> Standing:
        """How the model stands with the method that this is about."""
        return self.record.standing(self.method)

    @property
    def confirmed(self) -> bool:
        """Whether the model failed once more, and all members were asked."""
        return self.members_asked and self.record.tried_at >= self.confirming_since

    def to_dict(self) -> dict[str, Any]:
        """The same as strict JSON, for snapshots."""
        standing = self.record.standings.get(self.method)
        told = {
            "model_id": self.record.model_id,
            "code": self.code.value,
            "stage": self.stage.value,
            "method": self.method or None,
            "failures": standing.failures if standing is not None else 0,
            "timeouts": standing.timeouts if standing is not None else 0,
            "witness": (standing.witness or None) if standing is not None else None,
            "reason": self.reason,
        }
        row: dict[str, Any] = strict_json(told)
        return row


@attrs.frozen
class Decision:
    """What was decided about reports.

    Attributes:
        released: reports to send now.
        held: reports that are held from now on.
        pending: reports that have become due, and wait from now on.
        to_confirm: reports whose models are to be tried once more, while all members are asked a PING.
    """

    released: list[PendingReport] = attrs.field(factory=list)
    held: list[PendingReport] = attrs.field(factory=list)
    pending: list[PendingReport] = attrs.field(factory=list)
    to_confirm: list[PendingReport] = attrs.field(factory=list)


class NewsKind(enum.Enum):
    """What the judge has to tell.

    Attributes:
        DUE: a report has become due; look at `Judge.decide`.
        WITHDRAWN: a report is withdrawn.
        SWITCHED_OFF: a report would have become due, but reporting is off.
        NO_WITNESS: something failed that no other model has shown to be possible: it may be us.
        CHANGED: something has happened that a pending report may have waited for.
    """

    DUE = enum.auto()
    WITHDRAWN = enum.auto()
    SWITCHED_OFF = enum.auto()
    NO_WITNESS = enum.auto()
    CHANGED = enum.auto()


@attrs.frozen
class News:
    """What the judge has to tell.

    Attributes:
        kind: what it is.
        report: the report, for all kinds but NO_WITNESS and CHANGED.
        method: the method, for NO_WITNESS.
        text: more about it, in words.
    """

    kind: NewsKind
    report: PendingReport | None = None
    method: str = ""
    text: str = ""


class PendingReports:
    """The reports of one cluster that are not sent yet.

    Args:
        records: the records of all deployments, as they are.
        limits: how many failures and timeouts are allowed.
        health: the other numbers.
        enabled: whether anything is reported.
        gateway: all nodes are reached through one gateway.
        tell: told the news, at once. It must neither raise nor wait.
    """

    def __init__(
        self,
        records: Collection[Record],
        limits: Limits,
        health: Health,
        *,
        enabled: bool,
        gateway: bool,
        tell: Callable[[News], None],
    ) -> None:
        self._records = records
        self._limits = limits
        self._health = health
        self._enabled = enabled
        self._gateway = gateway
        self._tell = tell
        self._of_record: dict[Record, dict[Hashable, PendingReport]] = {}

    def __bool__(self) -> bool:
        """Whether there are any, held ones too."""
        return bool(self._of_record)

    def __iter__(self) -> Iterator[PendingReport]:
        for reports in self._of_record.values():
            yield from reports.values()

    @property
    def pending(self) -> int:
        """How many reports wait."""
        return sum(report.stage is not Stage.HELD for report in self)

    @property
    def held(self) -> int:
        """How many reports are held now."""
        return sum(report.stage is Stage.HELD for report in self)

    def rows(self) -> list[dict[str, Any]]:
        """The reports that wait or are held, in plain values."""
        return [report.to_dict() for report in self]

    def decide(self, now: float, members: int) -> Decision:
        """Decide what can be decided at `now`, with so many members (rules c, d and e)."""
        decision = Decision()
        if self:
            crowds = Crowds(self._records, members, self._health, gateway=self._gateway)
            for report in list(self):
                self._decide(report, crowds, now, decision)
        return decision

    def _decide(self, report: PendingReport, crowds: Crowds, now: float, decision: Decision) -> None:
        if report.stage is Stage.HELD:
            return
        if not self._stands(report, crowds.all, now):
            if report.unserved:
                self._remove(report)
        elif not self._has_waited(report, now):
            pass
        elif any(self._shares_trouble(report, crowd) for crowd in crowds.around(report.record)):
            self.fall_back(report)
            report.stage = Stage.HELD
            if report.method == CONNECTION:
                report.record.held_at = now
            decision.held.append(report)
        elif report.stage is Stage.NEW:
            report.stage = Stage.PENDING
            decision.pending.append(report)
        elif report.must_confirm and report.stage is Stage.PENDING:
            report.stage, report.confirming_since, report.members_asked = Stage.CONFIRMING, now, False
            decision.to_confirm.append(report)
        else:
            self._remove(report)
            decision.released.append(report)

    def _has_waited(self, report: PendingReport, now: float) -> bool:
        """Whether it is time to look at a report."""
        match report.stage:
            case Stage.PENDING:
                return now >= report.at + self._health.mass_window
            case Stage.CONFIRMING:
                return report.confirmed
            case _:
                return True

    def next_decision(self, now: float) -> float | None:
        """When to call `decide` again if nothing else happens; None if there is no need."""
        times = [report.at + self._health.mass_window for report in self if report.stage is Stage.PENDING]
        return max(min(times), now) if times else None

    def note_members_asked(self, report: PendingReport) -> None:
        """All members were asked a PING since a report began to be confirmed."""
        report.members_asked = True

    def note_report(self, record: Record) -> None:
        """A model was reported: nothing more is, until it begins anew."""
        record.reported = True
        self._of_record.pop(record, None)

    def say_again(self, now: float, every: float = _SAID_EVERY) -> list[PendingReport]:
        """The held reports that the log has not mentioned for so many seconds; they count as said now."""
        due = [report for report in self if report.stage is Stage.HELD and now - report.said_at >= every]
        for report in due:
            report.said_at = now
        return due

    def add(self, report: PendingReport) -> None:
        """Take a report. If the same one waits already, it goes on waiting."""
        if report.record.reported:
            return
        if not self._enabled:
            self.fall_back(report)
            self._tell(News(NewsKind.SWITCHED_OFF, report))
            return
        waiting = self._of_record.get(report.record, {}).get(report.identity)
        if waiting is not None and waiting.stage is not Stage.HELD:
            return
        if waiting is not None:
            report.said_at = waiting.said_at
        if report.code is FailureCode.BAD_IMPLEMENTATION and self._health.require_witness:
            report.stage = Stage.UNPROVED
        self._of_record.setdefault(report.record, {})[report.identity] = report
        self._tell(News(NewsKind.DUE, report))

    def withdraw(self, report: PendingReport, why: str) -> None:
        """Withdraw a report that waits or is held."""
        if self._remove(report):
            self._tell(News(NewsKind.WITHDRAWN, report, text=why))

    def _remove(self, report: PendingReport) -> bool:
        reports = self._of_record.get(report.record, {})
        if reports.pop(report.identity, None) is None:
            return False
        if not reports:
            del self._of_record[report.record]
        return True

    def withdraw_about(self, record: Record, why: str, method: str | None = None) -> None:
        """Withdraw all reports about a model, or those about one of its methods."""
        for report in self.about(record):
            if method is None or report.method == method:
                self.withdraw(report, why)

    def withdraw_unserved(self, record: Record, method: str, why: str) -> None:
        """Withdraw the report that calls of a method come to nothing."""
        for report in self.about(record):
            if report.unserved and report.method == method:
                self.withdraw(report, why)

    def about(self, record: Record) -> list[PendingReport]:
        """The reports about one deployment."""
        return list(self._of_record.get(record, {}).values())

    def fall_back(self, report: PendingReport) -> None:
        """Count back to the limit, so that a new incident is needed."""
        standing = report.record.standings.get(report.method)
        if standing is None:
            return
        if report.unserved:
            standing.hindered = min(standing.hindered, self._limits.unserved or 0)
        elif report.code is FailureCode.MULTIPLE_TIMEOUT and self._limits.timeouts is not None:
            standing.timeouts = min(standing.timeouts, self._limits.timeouts)
        elif report.code is FailureCode.MULTIPLE_FAILED and self._limits.failures is not None:
            standing.failures = min(standing.failures, self._limits.failures)

    def _stands(self, report: PendingReport, crowd: Crowd, now: float) -> bool:
        """Whether a report still has what it needs. One that is proved only now begins to wait now."""
        if report.unserved:
            standing = report.standing
            return self._limits.escapes(standing, self._health.unserved, now) and crowd.most_others_succeeded(
                standing.method, standing.hindered_since
            )
        if report.code is not FailureCode.BAD_IMPLEMENTATION or not self._health.require_witness:
            return True
        if not crowd.most_have(report.method):
            report.stage = Stage.UNPROVED
            return False
        if report.stage is Stage.UNPROVED:
            report.stage, report.at = Stage.NEW, now
        return True

    def _shares_trouble(self, report: PendingReport, crowd: Crowd) -> bool:
        """Whether a model is not alone with its trouble (rule d)."""
        if report.unserved:
            at_once = {each.record for each in self if each.unserved and crowd.has(each.record)}
            return len(at_once) > crowd.lost_by_chance
        if report.method == CONNECTION:
            return crowd.lost_with_others(report.record)
        first_at = report.standing.first_at
        return first_at is not None and crowd.shares_trouble(report.method, first_at)
