"""Where reports about models are kept back, and from where they are sent.

`model.policy` decides which reports are released and which are held; this module has the clock, the log, and
the way to the orchestrator. A model that is reported is let go of until the orchestrator announces it again.
While reporting is off, nothing is reported, and models stay, however much they fail.

A report has a model's id and its host. If a deployment has left, or is announced at another address, another
deployment may have the same id and host by now. So a report about such a deployment is not sent.

If reports are held, the orchestrator does not learn that these models are given up, and has no reason to
announce them again. So models that were given up are tried again after a while.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import trio
from trio.lowlevel import enable_ki_protection

from ..groups import one_by_itself
from ..model.handle import ModelRunner
from ..model.policy import (
    SETUP,
    Decision,
    Judge,
    Limits,
    News,
    NewsKind,
    PendingReport,
    Stage,
    may_be_sent,
)
from ..orchestrator import FailureReport
from ..security import GatewayCredentials
from ..signal import Signal
from ..text import quoted
from ..values.failure_codes import FailureCode
from ..values.results import ModelState
from .instrument import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import ClusterConfig
    from .feed import Feed
    from .hooks import Hooks

__all__ = ["Reportable", "Reporting"]

_LEFT: Final = frozenset({ModelState.RETIRING, ModelState.GONE})
_MOST_NAMED: Final = 5
_MAY_BE_US: Final = "it may be us, that is, the call itself or this machine"
_ALONE: Final = f"{_MAY_BE_US} (there is no other model; health.require_witness=false is for a crunch of one)"
_OFF: Final = "reporting is off (report_failures)"
_SECONDS_BETWEEN_REMINDERS: Final = 60.0

logger = logging.getLogger("trio_model_runner.cluster")


class Reportable(Protocol):
    """What `Reporting` needs of the fleet."""

    def count(self) -> int:
        """How many models are announced."""

    def is_moving(self, model: ModelRunner) -> bool:
        """Whether a model is announced at another address than the one where it is used."""

    def let_go(self, model: ModelRunner, reason: str) -> None:
        """Let go of a model: it was reported."""

    def tell_held(self, model: ModelRunner, report: PendingReport) -> None:
        """Tell listeners that a report is held."""

    def try_later(self, model: ModelRunner) -> None:
        """If a model was given up, try it again with growing waits."""

    def try_now(self, model: ModelRunner) -> None:
        """If a model was given up, try it again at once."""

    async def ping_all(self, timeout: float) -> None:
        """Ask all members for a sign of life. Those that give none within `timeout` seconds are lost."""

    async def bring_up_to_date(self) -> None:
        """Have the judge told all that is known of the models by now."""


class Reporting:
    """The reports about the models of one cluster.

    Args:
        config: the settings.
        feed: where reports go.
        models: the models.
        hooks: tells instruments of reports; None if there are none.
        instance_name: what a Setup asks for, such as the name of a class; empty if it asks for nothing.

    Attributes:
        judge: decides what counts against the models, and what is reported.
    """

    def __init__(
        self,
        config: ClusterConfig,
        feed: Feed,
        models: Reportable,
        hooks: Hooks | None = None,
        instance_name: str = "",
    ) -> None:
        self.judge = Judge(
            limits=Limits(config.max_consecutive_failures, config.max_consecutive_timeouts),
            health=config.health,
            enabled=config.report_failures,
            gateway=isinstance(config.credentials, GatewayCredentials),
            tell=self._take_news,
        )
        self._enabled = config.report_failures
        self._timeout = config.health.timeout
        self._feed = feed
        self._models = models
        self._hooks = hooks
        self._instance_name = instance_name
        if hooks is not None:
            feed.on_sent = self._tell_sent
        self._changed = False
        self._change = Signal()
        self._unproved: set[str] = set()
        self._switched_off: set[tuple[str, FailureCode]] = set()

    @property
    def pending(self) -> int:
        """How many reports are pending."""
        return self.judge.reports.pending

    @property
    def held(self) -> int:
        """How many reports are held."""
        return self.judge.reports.held

    def rows(self) -> list[dict[str, Any]]:
        """The reports that are pending or held, in plain values."""
        return self.judge.reports.rows()

    def send(self, model: ModelRunner, code: FailureCode, reason: str | None) -> None:
        """Report a model now, and let go of it until it is announced again."""
        if not self._enabled:
            logger.warning("model %s is not reported as %s: %s", quoted(model.model_id), code, _OFF)
            return
        if self._has_left(model):
            logger.warning(
                "model %s is not reported as %s: this deployment has left", quoted(model.model_id), code
            )
            return
        report = FailureReport(
            model_id=model.model_id,
            deployment_id=model.deployment_id,
            host=model.host,
            code=code,
            reason=reason,
        )
        self._feed.report(report)
        self._models.let_go(model, f"reported as {code}: {reason or 'no reason given'}")

    def look_again(self) -> None:
        """Look at the pending reports again: something has changed."""
        self._changed = True
        self._change.send()

    @enable_ki_protection
    async def run(self) -> None:
        """Send or hold reports when their time has come, or when something has changed, until cancelled."""
        with one_by_itself():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._remind)
                while True:
                    if self.judge.reports:
                        await self._models.bring_up_to_date()
                    self._changed = False
                    now = trio.current_time()
                    decision = self.judge.reports.decide(now, self._models.count())
                    self._act_on(decision)
                    if decision.to_confirm:
                        nursery.start_soon(self._confirm, decision.to_confirm)
                    next_at = self.judge.reports.next_decision(now)
                    with trio.move_on_at(math.inf if next_at is None else next_at):
                        await self._change.wait_until(lambda: self._changed)
                        await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def _confirm(self, reports: Sequence[PendingReport]) -> None:
        """Have models tried once more, and ask all others whether it is the network."""
        for report in reports:
            self._models.try_now(_model_of(report))
        await self._models.ping_all(self._timeout)
        for report in reports:
            self.judge.reports.note_members_asked(report)
        self.look_again()

    @enable_ki_protection
    async def _remind(self) -> None:
        """Say again what is held, every hour."""
        while True:
            await trio.sleep(_SECONDS_BETWEEN_REMINDERS)
            self._say_held(self.judge.reports.say_again(trio.current_time()))

    def _act_on(self, decision: Decision) -> None:
        for report in decision.pending:
            logger.info("model %s may be reported: %s", *_described(report))
            if self._hooks is not None:
                self._hooks.report_pending(_plain(report))
        for report in decision.held:
            if report.said_at == -math.inf:
                self._models.tell_held(_model_of(report), report)
                if self._hooks is not None:
                    self._hooks.report_held(_plain(report))
            self._models.try_later(_model_of(report))
        if decision.held:
            self._say_held([each for each in decision.held if each.said_at == -math.inf])
        for report in decision.released:
            self._release(report)

    def _release(self, report: PendingReport) -> None:
        model = _model_of(report)
        if not may_be_sent(report.code, orchestrator_connected=self._feed.connected):
            logger.info("model %s is not reported: the orchestrator is away, too", quoted(model.model_id))
            self._tell_withdrawn(report, "the orchestrator is away, too")
        elif self._has_left(model):
            self._tell_withdrawn(report, "the model has left")
        else:
            logger.warning("model %s is reported: %s", *_described(report))
            self.send(model, report.code, report.reason)

    def _say_held(self, reports: Sequence[PendingReport]) -> None:
        if not reports:
            return
        now = trio.current_time()
        for report in reports:
            report.said_at = now
        names = ", ".join(quoted(report.record.model_id) for report in reports[:_MOST_NAMED])
        logger.error(
            "%s not reported, since too many have trouble at the same time; it may be us, or the network: "
            "%s%s (the first: %s)",
            "1 model is" if len(reports) == 1 else f"{len(reports)} models are",
            names,
            ", ..." if len(reports) > _MOST_NAMED else "",
            _described(reports[0])[1],
        )

    def _take_news(self, news: News) -> None:
        """Log what the judge has to tell, and look at the reports again."""
        report = news.report
        match news.kind:
            case NewsKind.NO_WITNESS:
                logger.error(
                    "no other model has succeeded with %s and such arguments, so nobody is blamed; %s: %s",
                    quoted(news.method.lstrip("/")),
                    _ALONE if self._models.count() == 1 else _MAY_BE_US,
                    quoted(news.text),
                )
            case NewsKind.WITHDRAWN if report is not None and report.stage is not Stage.UNPROVED:
                logger.info("model %s is not reported after all: %s: %s", *_described(report), news.text)
                self._tell_withdrawn(report, news.text)
            case NewsKind.SWITCHED_OFF if report is not None:
                self._log_switched_off(report)
            case NewsKind.DUE if report is not None and report.stage is Stage.UNPROVED:
                self._log_unproved(report)
            case _:
                pass
        self.look_again()

    def _tell_withdrawn(self, report: PendingReport, why: str) -> None:
        if self._hooks is not None:
            self._hooks.report_withdrawn(_plain(report), why)

    def _tell_sent(self, report: FailureReport) -> None:
        if self._hooks is not None:
            self._hooks.report_sent(Report(report.model_id, report.deployment_id, report.code, report.reason))

    def _log_unproved(self, report: PendingReport) -> None:
        if report.method not in self._unproved:
            self._unproved.add(report.method)
            if report.method == SETUP and self._instance_name:
                lacked = f"the class_name {quoted(self._instance_name)}"
            else:
                lacked = quoted(report.method.lstrip("/"))
            logger.error(
                "as many models lack %s as have shown that they have it, or more, so nobody is blamed; "
                "is it spelt right? %s",
                lacked,
                quoted(report.reason),
            )

    def _log_switched_off(self, report: PendingReport) -> None:
        key = (report.record.model_id, report.code)
        if key not in self._switched_off:
            self._switched_off.add(key)
            described = _described(report)
            logger.info("model %s would be reported, but %s: %s", described[0], _OFF, described[1])

    def _has_left(self, model: ModelRunner) -> bool:
        return model.state in _LEFT or self._models.is_moving(model)


def _model_of(report: PendingReport) -> ModelRunner:
    return cast("ModelRunner", report.record.key)


def _plain(report: PendingReport) -> Report:
    """A report as instruments are told of it."""
    row = report.to_dict()
    return Report(
        model_id=report.record.model_id,
        deployment_id=_model_of(report).deployment_id,
        code=report.code,
        reason=report.reason,
        method=row["method"],
        failures=row["failures"],
        timeouts=row["timeouts"],
        witness=row["witness"],
    )


def _described(report: PendingReport) -> tuple[str, str]:
    """The model of a report, and the report in words: code, method, counts, witness and reason."""
    row = report.to_dict()
    parts = [report.code.value]
    if report.method:
        counts = f"{_number(row['failures'], 'failure')}, {_number(row['timeouts'], 'timeout')}"
        parts.append(f"{report.method.lstrip('/')}: {counts} since its last success")
    if row["witness"]:
        parts.append(f"witness: {quoted(row['witness'])}")
    return quoted(report.record.model_id), "; ".join([*parts, quoted(report.reason)])


def _number(count: int, of: str) -> str:
    return f"{count} {of}{'s' * (count != 1)}"
