"""Where verdicts about models wait, and from where they are reported.

`verdicts` decides; this is the clock and the way to the orchestrator. A model that is reported is let go of
until the orchestrator announces it again. While reporting is off nothing is reported, and models stay,
however much they fail.

A report names a model and its host, which for a deployment that has left, or is announced elsewhere by now,
may be those of the one that took its place. So nothing is said about such a deployment.

Where so many would be reported that none is, nobody tells the orchestrator that they are out, and it has no
reason to announce them again. So those that were given up are tried again after a while.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ..model.runner import ModelRunner
from ..orchestrator import FailureReport
from ..text import quoted
from ..values.failure_codes import FailureCode
from ..values.results import ModelState
from .verdicts import Judgement, Verdict, Verdicts

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from ..orchestrator import OrchestratorFeed

__all__ = ["Court"]

logger = logging.getLogger("trio_model_runner.cluster")


class Court:
    """Judges the models of one cluster.

    Args:
        config: the settings.
        feed: where reports go.
        count_members: how many models are announced.
        is_moving: whether a model is announced elsewhere than where it is used.
        tell_held: told each verdict that is not reported, as part of a mass.
    """

    def __init__(
        self,
        config: ClusterConfig,
        feed: OrchestratorFeed,
        *,
        count_members: Callable[[], int],
        is_moving: Callable[[ModelRunner], bool],
        tell_held: Callable[[Verdict[ModelRunner]], None],
    ) -> None:
        self._enabled = config.report_failures
        self._feed = feed
        self._count_members = count_members
        self._is_moving = is_moving
        self._tell_held = tell_held
        self._verdicts: Verdicts[ModelRunner] = Verdicts(config.health, name_of=lambda model: model.model_id)
        self._wake = trio.Event()
        self._unproved: set[str] = set()

    @property
    def pending(self) -> int:
        """How many verdicts wait."""
        return self._verdicts.pending

    @property
    def held(self) -> int:
        """How many verdicts were not reported, since too many came at once."""
        return self._verdicts.held

    def accuse(self, model: ModelRunner, code: FailureCode, reason: str, name: str | None) -> None:
        """Take a verdict.

        Args:
            model: about whom.
            code: what to report.
            reason: what its author gets to read.
            name: the class or method that it lacks, which is its fault only if another model has it.
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
        if name is not None and name not in self._unproved and not self._verdicts.proved(name, model):
            self._unproved.add(name)
            logger.error("no model has shown yet that %r exists; is it spelt right? %s", name, quoted(reason))
        self._verdicts.give(Verdict(model, code, reason, trio.current_time(), name))
        self.wake()

    def acquit(self, model: ModelRunner, name: str) -> None:
        """Note that a model succeeded with a class or method, and drop what waits against it."""
        proved = self._verdicts.is_proved(name)  # as nearly always, and then this must cost nothing
        if not proved and self._verdicts.prove(name, model, trio.current_time()):
            self.wake()
        self._verdicts.acquit(model, name)

    def withdraw(self, model: ModelRunner) -> None:
        """Drop what waits against a model that begins anew, or is gone."""
        self._verdicts.withdraw(model)

    def report(self, model: ModelRunner, code: FailureCode, reason: str | None) -> None:
        """Report a model now, and let go of it until it is announced again.

        Raises:
            TypeError: `model` is no ModelRunner, or `reason` no text.
        """
        if not isinstance(model, ModelRunner):
            raise TypeError(f"model: must be a ModelRunner, got {type(model).__name__}")
        if not isinstance(reason, str | None):
            raise TypeError(f"reason: must be a str or None, got {type(reason).__name__}")
        if not self._enabled:
            logger.warning("model %s is not reported as %s: reporting is off", quoted(model.model_id), code)
            return
        if self._has_left(model):
            logger.warning(
                "model %s is not reported as %s: this deployment has left", quoted(model.model_id), code
            )
            return
        self._verdicts.withdraw(model)
        report = FailureReport(
            model_id=model.model_id,
            deployment_id=model.deployment_id,
            host=model.host,
            code=code,
            reason=reason,
        )
        self._feed.report(report)
        model.give_up(f"reported as {code}: {reason or 'no reason given'}")

    def wake(self) -> None:
        """Judge again: something has changed."""
        self._wake.set()

    @enable_ki_protection
    async def sit(self) -> None:
        """Judge whenever something has changed or a verdict's time has come, until cancelled."""
        while True:
            self._wake = trio.Event()
            now = trio.current_time()
            members = self._count_members()
            self._execute(self._verdicts.due(now, members))
            next_at = self._verdicts.next_due(now, members)
            with trio.move_on_at(math.inf if next_at is None else next_at):
                await self._wake.wait()

    def _execute(self, judgement: Judgement[ModelRunner]) -> None:
        if judgement.held:
            logger.error(
                "%d models would be reported at once, which says more about us or the network than about "
                "them: none is. The first: %s: %s",
                len(judgement.held),
                judgement.held[0].code,
                quoted(judgement.held[0].reason),
            )
        for verdict in judgement.held:
            self._tell_held(verdict)
            verdict.model.retry()
        for verdict in judgement.released:
            if verdict.code is FailureCode.CONNECTION_FAILED and not self._feed.connected:
                # Perhaps it was our network. If the orchestrator still lists the model, it is tried again.
                logger.info(
                    "model %s is not reported: the orchestrator is away, too", quoted(verdict.model.model_id)
                )
            elif not self._has_left(verdict.model):
                self.report(verdict.model, verdict.code, verdict.reason)

    def _has_left(self, model: ModelRunner) -> bool:
        return model.retired or model.state is ModelState.GONE or self._is_moving(model)
