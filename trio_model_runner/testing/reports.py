"""What a coordinator has reported, and what a test says when that is not what it should be.

A report waits for a minute, may be held, and needs a witness. So a test that misses one wants to know where
it is. The orchestrator knows only what was sent. The rest is in the snapshots of the coordinator's clusters,
and is shown beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from ..values.failure_codes import FailureCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..cluster.cluster import Cluster
    from ..network import MemoryNetwork
    from .orchestrator import LocalOrchestrator
    from .report import Report

__all__ = ["Reported"]

REPORT_TIMEOUT: Final = 600.0  # seconds; ten times as long as a report waits

_STAGES: Final = {
    "held": "held, since the model is not alone with it",
    "unproved": "unproved, since not enough other models have that method",
}
"""What the stages of reports are called here, where it is not "pending"."""

_NEVER_SENT: Final = frozenset(_STAGES)


class Reported:
    """What a `LocalCrunch` says about reports.

    Attributes:
        network: the network of the orchestrator; None is this machine's.
        orchestrator: where reports arrive.
    """

    network: MemoryNetwork | None
    orchestrator: LocalOrchestrator

    @property
    def reports(self) -> list[Report]:
        """Every failure that was reported, oldest first, as it was sent; see `Report`."""
        return self.orchestrator.reports

    def assert_reported(self, model_id: str, code: FailureCode | str | None = None) -> Report:
        """Check that a model was reported, and return the first such report.

        The failure text shows what was reported, what is pending and what is held, and the models' states.

        Args:
            model_id: the model.
            code: the report's code; None takes any.

        Raises:
            AssertionError: it was not.
            ValueError: there is no such code.
        """
        __tracebackhide__ = True
        code = None if code is None else FailureCode(code)
        return check_reported(self.orchestrator, self._clusters(), model_id, code)

    def assert_no_reports(self) -> None:
        """Check that nothing was reported, and that no report is pending, which time alone would send.

        Reports that are held are never sent, and are no failure. The text is that of `assert_reported`.

        Raises:
            AssertionError: something was reported, or is pending.
        """
        __tracebackhide__ = True
        check_none_reported(self.reports, self._clusters())

    async def wait_for_report(
        self, model_id: str, code: FailureCode | str | None = None, *, timeout: float = REPORT_TIMEOUT
    ) -> Report:
        """Wait until a model is reported, and return the first such report.

        A report waits for `health.mass_window` (60 s by default). On ``autojump_clock`` that takes no time.

        Args:
            model_id: the model.
            code: the report's code; None takes any.
            timeout: seconds.

        Raises:
            AssertionError: it was not reported in that time; see `assert_reported`.
            ValueError: there is no such code.
        """
        __tracebackhide__ = True
        code = None if code is None else FailureCode(code)
        with trio.move_on_after(timeout):
            await self.orchestrator.wait_for_report(model_id, code)
        return check_reported(self.orchestrator, self._clusters(), model_id, code, waited=timeout)

    async def wait_for_reports(self, count: int = 1) -> list[Report]:
        """Wait until `count` failures, or more, were reported, and return `reports`."""
        await self.orchestrator.wait_for_reports(count)
        return self.reports

    def _clusters(self) -> list[Cluster]:
        """The clusters that coordinate this crunch."""
        from ..cluster.cluster import existing_clusters

        address = self.orchestrator.host, self.orchestrator.port
        return [
            cluster
            for cluster in existing_clusters()
            if (cluster.config.host, cluster.config.port) == address
            and self.network in (None, cluster.config.network)
        ]


def check_reported(
    orchestrator: LocalOrchestrator,
    clusters: Sequence[Cluster],
    model_id: str,
    code: str | None,
    *,
    waited: float | None = None,
) -> Report:
    """The first report of a model, with that code if one is given.

    Args:
        orchestrator: where it was reported.
        clusters: the coordinator's.
        model_id: the model.
        code: the code; None takes any.
        waited: seconds that the test has waited for it, for the text.

    Raises:
        AssertionError: there is none.
    """
    __tracebackhide__ = True
    for report in orchestrator.reports:
        if report.model_id == model_id and code in (None, report.code):
            return report
    wanted = f"{model_id} was not reported" + ("" if code is None else f" as {code}")
    wanted += "" if waited is None else f" within {waited:g} s"
    if model_id not in orchestrator.announced_ids:
        names = ", ".join(orchestrator.announced_ids) or "none"
        wanted += f": there never was such a model; there are or were: {names}"
    raise AssertionError(f"{wanted}\n{describe_reports(orchestrator.reports, clusters)}")


def check_none_reported(reports: Sequence[Report], clusters: Sequence[Cluster]) -> None:
    """Check that nothing was reported, and nothing is about to be.

    Raises:
        AssertionError: something was, or is pending.
    """
    __tracebackhide__ = True
    pending = sum(row["stage"] not in _NEVER_SENT for each in clusters for row in each.snapshot().reports)
    if reports or pending:
        counts = f"{len(reports)} sent, {pending} pending"
        raise AssertionError(
            f"reports where none was expected: {counts}\n{describe_reports(reports, clusters)}"
        )


def describe_reports(reports: Sequence[Report], clusters: Sequence[Cluster]) -> str:
    """What was reported, what waits and what is held, and how the models are: lines of text."""
    lines = ["reported:", *(f"  {report}" for report in reports)] if reports else ["reported: nothing"]
    if not clusters:
        lines.append("pending and held: not known, since there is no Cluster with this crunch's config()")
    for cluster in clusters:
        lines += _describe_cluster(cluster)
    return "\n".join(lines)


def _describe_cluster(cluster: Cluster) -> Iterator[str]:
    snapshot = cluster.snapshot()
    rows: dict[str, list[str]] = {"pending": [], _STAGES["held"]: []}
    for row in snapshot.reports:
        rows.setdefault(_STAGES.get(row["stage"], "pending"), []).append(_describe_row(row))
    for stage, texts in rows.items():
        yield f"{stage}:" if texts else f"{stage.partition(',')[0]}: nothing"
        yield from (f"  {text}" for text in texts)
    if not snapshot.reports:
        yield "  (what has no witness, or is not repeated often enough, does not count: model/README.md)"
    if not cluster.config.report_failures:
        yield "  (report_failures is False)"
    if snapshot.reports_unsent:
        yield f"not sent, since the orchestrator is away: {snapshot.reports_unsent}"
    yield "models:" if cluster.announced else "models: none is announced"
    for model_id, model in cluster.announced.items():
        yield f"  {model_id}: {model.state.value}" + ("" if model.error is None else f" ({model.error})")


def _describe_row(row: Mapping[str, Any]) -> str:
    parts = [f"{row['model_id']} as {row['code']}: {row['reason']}"]
    if row["method"]:
        counts = f"{row['failures']} failures and {row['timeouts']} timeouts since its last success"
        parts.append(f"{row['method']}: {counts}")
    if row["witness"]:
        parts.append(f"witness: {row['witness']}")
    return "; ".join(parts)
