"""Where reports about models are kept back, and from where they are sent.

`model.policy.reports` decides which reports are released and which are held; this module has the clock and
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
from typing import TYPE_CHECKING, Final, Protocol

import trio
from trio.lowlevel import enable_ki_protection

from ..model.handle import ModelRunner
from ..model.policy import Decision, PendingReport, PendingReports, may_be_sent
from ..orchestrator import FailureReport
from ..signal import Signal
from ..text import quoted
from ..values.failure_codes import FailureCode
from ..values.results import ModelState

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from ..orchestrator import OrchestratorFeed

__all__ = ["Reportable", "Reporting"]

_LEFT: Final = frozenset({ModelState.RETIRING, ModelState.GONE})

logger = logging.getLogger("trio_model_runner.cluster")


class Reportable(Protocol):
    """What `Reporting` needs of the fleet."""

    def count(self) -> int:
        """How many models are announced."""

    def is_moving(self, model: ModelRunner) -> bool:
        """Whether a model is announced at another address than the one where it is used."""

    def let_go(self, model: ModelRunner, reason: str) -> None:
        """Let go of a model: it was reported."""

    def tell_held(self, report: PendingReport[ModelRunner]) -> None:
        """Tell that a report is held and will not be sent."""


class Reporting:
    """The reports about the models of one cluster.

    Args:
        config: the settings.
        feed: where reports go.
        models: the models.
    """

    def __init__(self, config: ClusterConfig, feed: OrchestratorFeed, models: Reportable) -> None:
        self._enabled = config.report_failures
        self._feed = feed
        self._models = models
        self._pending: PendingReports[ModelRunner] = PendingReports(
            config.health, name_of=lambda model: model.model_id
        )
        self._changed = False
        self._change = Signal()
        self._unproved: set[str] = set()

    @property
    def pending(self) -> int:
        """How many reports are pending."""
        return len(self._pending)

    @property
    def held(self) -> int:
        """How many reports were held, since too many came at once."""
        return self._pending.held

    def add(self, model: ModelRunner, code: FailureCode, reason: str, *, lacking: str | None = None) -> None:
        """Let a report wait until it is certain enough.

        Args:
            model: the model.
            code: what to report.
            reason: the text that the model's author will read.
            lacking: the class or method that the model lacks. The report counts only if another model has it.
        """
        if self._has_left(model):
            return
        if not self._enabled:
            logger.info(
                "model %s would be reported as %s, but reporting is off: %s",
                quoted(model.model_id),
                code,
                quoted(reason),
            )
            return
        if lacking is not None and lacking not in self._unproved and not self._pending.proved(lacking, model):
            self._unproved.add(lacking)
            logger.error(
                "no model has shown yet that %r exists; is it spelt right? %s", lacking, quoted(reason)
            )
        self._pending.add(PendingReport(model, code, reason, trio.current_time(), lacking))
        self.look_again()

    def note_success(self, model: ModelRunner, name: str) -> None:
        """Note that a model succeeded with a class or method, and withdraw its pending report."""
        proved = self._pending.is_proved(name)  # nearly always, and then this must be quick
        if not proved and self._pending.prove(name, model, trio.current_time()):
            self.look_again()
        self._pending.note_success(model, name)

    def withdraw(self, model: ModelRunner) -> None:
        """Withdraw the pending report about a model that begins anew, or is gone."""
        self._pending.withdraw(model)

    def send(self, model: ModelRunner, code: FailureCode, reason: str | None) -> None:
        """Report a model now, and let go of it until it is announced again."""
        if not self._enabled:
            logger.warning("model %s is not reported as %s: reporting is off", quoted(model.model_id), code)
            return
        if self._has_left(model):
            logger.warning(
                "model %s is not reported as %s: this deployment has left", quoted(model.model_id), code
            )
            return
        self._pending.withdraw(model)
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
        while True:
            self._changed = False
            now = trio.current_time()
            members = self._models.count()
            self._act_on(self._pending.due(now, members))
            next_at = self._pending.next_due(now, members)
            with trio.move_on_at(math.inf if next_at is None else next_at):
                await self._change.wait_until(lambda: self._changed)
                await trio.lowlevel.checkpoint()

    def _act_on(self, decision: Decision[ModelRunner]) -> None:
        if decision.held:
            logger.error(
                "%d models would be reported at once, which says more about us or the network than about "
                "them: none is. The first: %s: %s",
                len(decision.held),
                decision.held[0].code,
                quoted(decision.held[0].reason),
            )
        for report in decision.held:
            self._models.tell_held(report)
        for report in decision.released:
            if not may_be_sent(report.code, orchestrator_connected=self._feed.connected):
                logger.info(
                    "model %s is not reported: the orchestrator is away, too", quoted(report.model.model_id)
                )
            elif not self._has_left(report.model):
                self.send(report.model, report.code, report.reason)

    def _has_left(self, model: ModelRunner) -> bool:
        return model.state in _LEFT or self._models.is_moving(model)
