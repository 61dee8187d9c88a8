"""A judge of a few models with names, for tests of the policy alone: no node, no connection, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trio_model_runner.config import Health
from trio_model_runner.model.policy import (
    Decision,
    Form,
    Judge,
    Limits,
    News,
    Outcome,
    Overrun,
    PendingReport,
    Record,
    RoundEvidence,
    Standing,
)
from trio_model_runner.values.failure_codes import FailureCode

__all__ = ["LETTERS", "NOTHING", "WITNESS", "Court", "held", "names", "of", "pending", "released"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""Names of models."""

WITNESS = "witness"
"""A model that is no member, and succeeds in every round of `Court.note`."""


class Court:
    """A judge, and models that are tried.

    Args:
        models: the names of the models. Each has a host in a network of its own.
        failures: the limit of failures.
        timeouts: the limit of timeouts.
        members: how many models are announced; None for as many as there are names.
        gateway: all nodes are reached through one gateway.
        settings: those of `Health`.

    Attributes:
        news: what the judge has told.
    """

    def __init__(
        self,
        models: Iterable[str] = "abc",
        *,
        failures: int | None = 0,
        timeouts: int | None = 0,
        members: int | None = None,
        gateway: bool = False,
        **settings: Any,
    ) -> None:
        self.news: list[News] = []
        self.judge = Judge(
            limits=Limits(failures, timeouts),
            health=Health(**settings),
            gateway=gateway,
            tell=self.news.append,
        )
        self.records = {
            name: self.judge.admit(name, name, f"10.0.{number}.1") for number, name in enumerate(models)
        }
        self.members = len(self.records) if members is None else members

    def note(
        self, model: str, outcome: Outcome, now: float, method: str = "predict", detail: str = ""
    ) -> None:
        """Note the outcome of a call in a round in which the witness has succeeded.

        A call that overran has a good way to its node.
        """
        evidence = RoundEvidence(Form(method), now, witness=WITNESS)
        overrun = None
        if outcome is Outcome.OVERRAN:
            overrun = Overrun(method, now, now, 1.0, counts_from=now, way_was_good=True)
        self.judge.note(
            self.records[model], evidence, outcome, began=now, now=now, detail=detail, overrun=overrun
        )

    def decide(self, now: float) -> Decision:
        """What the judge decides."""
        return self.judge.reports.decide(now, self.members)

    def standing(self, model: str, method: str = "predict") -> Standing:
        """How a model stands with a method."""
        return self.records[model].standing(method)

    def report(self, model: str) -> PendingReport:
        """The one report about a model."""
        (report,) = self.judge.reports.about(self.records[model])
        return report

    def codes(self, model: str) -> list[FailureCode]:
        """The codes of all reports about a model."""
        return [report.code for report in self.judge.reports.about(self.records[model])]

    def record(self, model: str) -> Record:
        """What the judge knows of a model."""
        return self.records[model]


def names(reports: Iterable[PendingReport]) -> set[str]:
    """The models that reports are about."""
    return {report.record.model_id for report in reports}


def of(decision: Decision) -> list[set[str]]:
    """The models of a decision: released, held, pending, to be confirmed."""
    return [*map(names, (decision.released, decision.held, decision.pending, decision.to_confirm))]


NOTHING: list[set[str]] = [set(), set(), set(), set()]
"""Of a decision in which nothing was decided."""


def released(*models: str) -> list[set[str]]:
    """Of a decision by which reports are sent."""
    return [set(models), set(), set(), set()]


def held(*models: str) -> list[set[str]]:
    """Of a decision by which reports are held."""
    return [set(), set(models), set(), set()]


def pending(*models: str) -> list[set[str]]:
    """Of a decision by which reports begin to wait."""
    return [set(), set(), set(models), set()]
