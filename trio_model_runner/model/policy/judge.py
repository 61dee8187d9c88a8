"""The judge of one cluster: counts what the models do, and decides what is reported.

A report stops a person's model; a false one is worse than none; a model that is broken is reported all the
same, within a bound. The rules, with the letters that the comments below use:

a. **Repetition.** More failures, or more timeouts, than the limits, of one method since its last success. A
   success of the method clears both, and withdraws what is due. Setup fails once.
b. **A witness.** A failure or a timeout counts only if another model succeeded with the same request: see
   `evidence`. For Setup, that is a node which says that it made an instance. A missing method needs more
   models that have it than lack it.
c. **The way.** A timeout counts only if the node gave a sign of life in time afterwards. CONNECTION_FAILED is
   withdrawn when the model is connected again. Before it is sent, the model must fail once more, and all
   members are asked a PING, since an idle connection notices a cut only when it is used.
d. **It is alone.** What is due waits for a minute. It is looked at before and after that: if too many models
   share the trouble (`reports.Crowd`), it is held, and a new incident is needed.
e. **Unserved.** So that no model escapes by dropping the connection, restarting, or being busy whenever it
   would be blamed: see `record.Limits.escapes`.

What follows from a call that overran is in `overrun`. There is no I/O here and no clock: times are seconds of
the owner's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from ...values.failure_codes import FailureCode
from .counting import Counting
from .evidence import Form, Incident, RoundEvidence
from .outcomes import RULES, Counts, Outcome
from .record import NEVER, SETUP, Record, Standing
from .reports import CONNECTION, News, NewsKind, PendingReport, PendingReports, Stage

if TYPE_CHECKING:
    from ...config import Health
    from .overrun import Overrun
    from .record import Limits

__all__ = ["Judge"]

_MAX_FORMS: Final = 10_000
_COMPLAINT_EVERY: Final = 3600.0  # seconds

_WAS_ASKED: Final = frozenset(
    {
        Outcome.BUSY,
        Outcome.UNAVAILABLE,
        Outcome.INSTANCE_LOST,
        Outcome.CONNECTION_LOST,
        Outcome.PROOF_LAPSED,
        Outcome.SITTING_OUT,
    }
)
"""Outcomes of models that were asked in vain, or would have been asked but for what they did before."""


class Judge:
    """Counts what the models of one cluster do, and decides what is reported.

    Args:
        limits: how many failures and timeouts are allowed.
        health: the other numbers.
        enabled: whether anything is reported.
        gateway: all nodes are reached through one gateway.
        tell: told the news, at once. It must neither raise nor wait.

    Attributes:
        records: the records of all deployments.
        setups: the evidence about Setups.
        forms: the forms of calls, by method and shape.
        reports: the reports that wait.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        health: Health,
        enabled: bool = True,
        gateway: bool = False,
        tell: Callable[[News], None] = lambda _: None,
    ) -> None:
        self.records: dict[Record, None] = {}
        self.setups = RoundEvidence(Form(SETUP), NEVER)
        self._limits = limits
        self._health = health
        self._tell = tell
        self.forms: dict[tuple[str, Hashable], Form] = {}
        self.reports = PendingReports(
            self.records, limits, health, enabled=enabled, gateway=gateway, tell=tell
        )
        self._counting = Counting(limits, self.reports)
        self._waiting_for_way: WeakKeyDictionary[Overrun, Incident] = WeakKeyDictionary()

    # Models and rounds.

    def admit(self, key: Hashable, model_id: str, host: str) -> Record:
        """Begin the record of a deployment."""
        record = Record(key, model_id, host)
        self.records[record] = None
        return record

    def dismiss(self, record: Record) -> None:
        """A deployment is gone: forget it."""
        self.records.pop(record, None)
        self._forget(record)
        record.reported = True  # nothing more will be

    def begin_anew(self, record: Record) -> None:
        """A deployment begins anew: forget what counts against it, and withdraw its reports."""
        record.begin_anew()
        self._forget(record)

    def _forget(self, record: Record) -> None:
        self._forget_setups(record)
        self.reports.withdraw_about(record, "it begins anew, or is gone")

    def _forget_setups(self, record: Record) -> None:
        self.setups.waiting = [each for each in self.setups.waiting if each.record is not record]

    def new_form(self, method: str, shape: Hashable) -> Form:
        """Begin the form of a method with arguments of a shape, which is not in `forms`."""
        if len(self.forms) >= _MAX_FORMS:
            del self.forms[next(iter(self.forms))]
        form = self.forms[method, shape] = Form(method)
        return form

    def form(self, method: str, shape: Hashable) -> Form:
        """The form of a method with arguments of a shape, always the same one."""
        return self.forms.get((method, shape)) or self.new_form(method, shape)

    def is_due(self, record: Record) -> bool:
        """Whether a report about a deployment waits, and needs no more proof."""
        return any(report.stage is not Stage.UNPROVED for report in self.reports.about(record))

    # What happens to calls and Setups.

    def note(
        self,
        record: Record,
        evidence: RoundEvidence,
        outcome: Outcome,
        *,
        began: float,
        now: float,
        detail: str = "",
        overrun: Overrun | None = None,
    ) -> None:
        """Count the outcome of a call or a Setup.

        Args:
            record: whose.
            evidence: about the request.
            outcome: what happened.
            began: when the call began.
            now: the time.
            detail: what happened, for the model's author.
            overrun: the overrun that the call has become, if it has. It says later whether the way was good.
        """
        rule = RULES[outcome]
        standing = record.standing(evidence.form.method)
        if rule.counts is Counts.CLEARS:
            self._note_success(record, evidence, outcome, standing, now)
            return
        record.no_news.pop((Outcome.SUCCEEDED, evidence.form.method), None)
        self._note_answer(record, evidence, outcome, standing, now)
        if rule.report is not None:
            self._report_at_once(record, outcome, now, detail)
        match rule.counts:
            case Counts.FAILURE | Counts.TIMEOUT:
                incident = Incident(
                    record,
                    standing,
                    standing.cleared,
                    rule.counts is Counts.TIMEOUT,
                    began=began if evidence is self.setups else evidence.began,
                    ended=now,
                    detail=detail,
                )
                self._note_incident(incident, evidence, overrun)
            case Counts.LACKS:
                standing.first_at = began if standing.first_at is None else standing.first_at
                self._counting.become_due(record, standing, FailureCode.BAD_IMPLEMENTATION, detail, now)
            case Counts.HINDERED:
                self.hinder(record, standing, began, now)

    def _note_answer(
        self, record: Record, evidence: RoundEvidence, outcome: Outcome, standing: Standing, now: float
    ) -> None:
        """Note what an outcome other than a success says to others, and of the model's presence."""
        rule = RULES[outcome]
        standing.called_at = now
        if outcome in (Outcome.BAD_IMPLEMENTATION, Outcome.OPTIONAL_MISSING):
            standing.lacks = True
        if rule.answered:
            evidence.answered += 1
            evidence.form.note((record.model_id, False))
            standing.asked_at = now
            if rule.counts is not Counts.TIMEOUT:
                standing.hindered = 0
                self.reports.withdraw_unserved(record, evidence.form.method, "it answered")
        elif outcome in _WAS_ASKED or (
            record.overrun is not None and record.overrun.method == evidence.form.method
        ):
            standing.asked_at = now

    def _note_success(
        self, record: Record, evidence: RoundEvidence, outcome: Outcome, standing: Standing, now: float
    ) -> None:
        is_first = standing.succeeded_at == NEVER
        standing.clear()
        standing.succeeded_at = now
        record.no_news[outcome, evidence.form.method] = standing
        evidence.form.note(record.success_mark)
        evidence.form.succeeded_at = now
        evidence.note_success(record.model_id)
        self.reports.withdraw_about(record, f"{evidence.form.method} succeeded", evidence.form.method)
        if is_first and self.reports:
            self._tell(News(NewsKind.CHANGED))  # a missing method may be proved now
        self._witness_waiting(evidence, now)

    def note_setup(self, record: Record, *, created: bool, now: float) -> None:
        """A node was asked for an instance, and has one.

        Args:
            record: whose node.
            created: it said that it made the instance just now. Only that shows that the request was good.
            now: the time.
        """
        record.connected = True
        record.loss_noted = False
        record.held_at = NEVER
        self.note_through(record, now)
        self.reports.withdraw_about(record, "it is connected again", CONNECTION)
        standing = record.standing(SETUP)
        standing.clear()
        standing.succeeded_at = now
        self._forget_setups(record)
        self.reports.withdraw_about(record, "Setup succeeded", SETUP)
        if not created:
            return
        record.created = True
        self.setups.note_success(record.model_id)
        if self.reports:
            self._tell(News(NewsKind.CHANGED))
        self._witness_waiting(self.setups, now)

    def hinder(self, record: Record, standing: Standing, began: float, now: float) -> None:
        """A call on a model came to nothing on its side of the line (rule e)."""
        standing.hinder(began)
        record.expect_news(standing.method)
        if self._limits.escapes(standing, self._health.unserved, now):
            calls = f"{standing.hindered} calls of {standing.method} in {now - standing.hindered_since:.0f} s"
            reason = f"unserved: {calls} came to nothing, while other models answered"
            self._counting.become_due(
                record, standing, FailureCode.CONNECTION_FAILED, reason, now, unserved=True
            )

    def note_witnesses(self, evidence: RoundEvidence, records: Iterable[Record], now: float) -> None:
        """Another process says which models have succeeded with a request: they are witnesses for all."""
        form = evidence.form
        for record in records:
            record.standing(form.method).succeeded_at = form.succeeded_at = now
            evidence.note_success(record.model_id)
            form.note(record.success_mark)
        self._witness_waiting(evidence, now)

    def close(self, evidence: RoundEvidence) -> None:
        """A round is over: what has no witness yet needs one from another round (rule b)."""
        waiting, evidence.waiting = evidence.waiting, []
        for incident in waiting:
            witness = evidence.last_resort(incident.record.model_id)
            if witness:
                incident.witness = witness
                self._counting.count_if_certain(incident, incident.ended)
            else:
                self._complain(evidence.form, incident)

    def _note_incident(self, incident: Incident, evidence: RoundEvidence, overrun: Overrun | None) -> None:
        if not incident.is_timeout:
            incident.way_was_good = True  # it answered
        elif overrun is not None:
            incident.way_was_good = overrun.way_was_good
            if overrun.way_was_good is None:
                self._waiting_for_way[overrun] = incident
            elif not overrun.way_was_good:
                self.hinder(incident.record, incident.standing, incident.began, incident.ended)
        if self._health.require_witness:
            incident.witness = evidence.witness_for(incident.record.model_id) or None
        else:
            incident.witness = incident.record.model_id
        if incident.witness is None:
            evidence.waiting.append(incident)
            if evidence is self.setups:
                self._complain(evidence.form, incident)
        else:
            self._counting.count_if_certain(incident, incident.ended)

    def _witness_waiting(self, evidence: RoundEvidence, now: float) -> None:
        """Count the incidents that waited for a witness."""
        waiting, evidence.waiting = evidence.waiting, []
        for incident in waiting:
            witness = evidence.witness_for(incident.record.model_id)
            if witness:
                incident.witness = witness
                self._counting.count_if_certain(incident, now)
            else:
                evidence.waiting.append(incident)

    def _complain(self, form: Form, incident: Incident) -> None:
        """Tell that nobody has shown that a call can succeed; not more often than once an hour.

        It is no secret where others made such a call meanwhile and succeeded, in rounds of their own.
        """
        now = incident.ended
        if form.succeeded_at > incident.began:
            return
        if form.complained_at is None or now - form.complained_at >= _COMPLAINT_EVERY:
            form.complained_at = now
            self._tell(News(NewsKind.NO_WITNESS, method=form.method, text=incident.detail))

    # What happens to overruns; see `overrun`.

    def note_way(self, record: Record, overrun: Overrun, *, good: bool, now: float) -> None:
        """It is known whether the node gave a sign of life in time after a call was cut off (rule c)."""
        if overrun.way_was_good is not None:
            return
        overrun.way_was_good = good
        incident = self._waiting_for_way.pop(overrun, None)
        if incident is None:
            return
        incident.way_was_good = good
        if good:
            self._counting.count_if_certain(incident, now)
        elif incident.cleared == incident.standing.cleared:
            self.hinder(record, incident.standing, incident.began, now)

    def note_still_busy(self, record: Record, overrun: Overrun, *, seen_at: float, now: float) -> None:
        """The node was still at an overrunning call at `seen_at`: count the windows that have ended."""
        overrun.windows += overrun.close_windows(seen_at)
        if not overrun.windows or overrun is not record.overrun:
            return
        witness = self._witness_since(record, overrun)
        if not witness:
            return
        standing = record.standing(overrun.method)
        standing.count(timeouts=overrun.windows, began=overrun.sent_at, witness=witness)
        overrun.windows = 0
        record.no_news.pop((Outcome.SUCCEEDED, overrun.method), None)
        detail = f"still busy with {overrun.name}, {now - overrun.sent_at:.1f} s after it was called"
        self._counting.look_at(record, standing, detail, now, True)

    def windows_would_be_due(self, record: Record, overrun: Overrun, now: float) -> bool:
        """Whether the windows that have ended would make a report due, if the model was still at it."""
        if self._limits.timeouts is None or not overrun.ours:
            return False
        ended = sum(end <= now for end in overrun.window_ends)
        timeouts = record.standing(overrun.method).timeouts
        return timeouts <= self._limits.timeouts < timeouts + ended

    def note_through(self, record: Record, now: float) -> None:
        """The node is through with what was cut off, or has no instance any more."""
        overrun, record.overrun = record.overrun, None
        if overrun is not None and overrun.ours and overrun.method in record.standings:
            standing = record.standings[overrun.method]
            standing.begin_sitting_out(now, self._limits.timeouts, self._health.mass_window)

    def _witness_since(self, record: Record, overrun: Overrun) -> str:
        """The id of another model that has succeeded with a method since a call of it began, or ""."""
        if not self._health.require_witness:
            return record.model_id
        if overrun.method == SETUP:  # what a Setup asks for is always the same
            return self.setups.witness_for(record.model_id)
        for other in self.records:
            standing = other.standings.get(overrun.method)
            if standing is None or other.model_id == record.model_id:
                continue
            if standing.succeeded_at >= overrun.sent_at:
                return other.model_id
        return ""

    # What happens to connections.

    def note_loss(
        self, record: Record, *, stood: float, peaceful: bool, now: float, silent: bool = False
    ) -> None:
        """A connection has ended.

        Args:
            record: whose.
            stood: how long it had stood, seconds.
            peaceful: its node retired it, or the instance on it is lost. That is no loss.
            now: the time.
            silent: the node gave no sign of life.
        """
        if silent and record.overrun is not None:
            record.overrun.lose_sight()
        self._note_overrun_cut(record, now)
        if not peaceful:
            record.note_loss(now, stood)
        record.connected = False
        for report in () if peaceful else self.reports.about(record):
            if report.code is FailureCode.MULTIPLE_TIMEOUT:  # it needs a new proof, on a new connection
                self.reports.fall_back(report)
                self.reports.withdraw(report, "its connection is gone")

    def _note_overrun_cut(self, record: Record, now: float) -> None:
        """An overrun ends with its connection: who restarts whenever it hangs is unserved (rule e)."""
        overrun = record.overrun
        if overrun is None:
            return
        if overrun.way_was_good is None:
            self.note_way(record, overrun, good=False, now=now)
        elif overrun.way_was_good and overrun.method in record.standings and not overrun.cut:
            self.hinder(record, record.standings[overrun.method], overrun.sent_at, now)
        overrun.cut = True

    def note_failed_attempt(self, record: Record, *, began: float, now: float) -> None:
        """An attempt to connect has failed."""
        record.tried_at = began
        record.connected = False
        record.note_loss(began)
        if any(report.stage is Stage.CONFIRMING for report in self.reports.about(record)):
            self._tell(News(NewsKind.CHANGED))

    def _report_at_once(self, record: Record, outcome: Outcome, now: float, detail: str) -> None:
        code = RULES[outcome].report
        assert code is not None
        record.note_loss(now)
        self.reports.add(
            PendingReport(record, code, CONNECTION, detail, now, must_confirm=RULES[outcome].may_pass)
        )

    def note_giving_up(self, record: Record, outcome: Outcome, *, now: float, detail: str) -> None:
        """A model can't be brought up, for a reason that is not in the answer to its Setup."""
        if RULES[outcome].report is not None:
            self._report_at_once(record, outcome, now, detail)
