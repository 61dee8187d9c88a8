"""What a cluster needs of the feed that tells it its models; an `OrchestratorFeed` is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..orchestrator import FailureReport, FeedEvent

__all__ = ["Feed"]


class Feed(Protocol):
    """The orchestrator's events, and the way for reports.

    Attributes:
        on_sent: told each report that has been sent.
    """

    on_sent: Callable[[FailureReport], None] | None

    @property
    def connected(self) -> bool:
        """Whether there is a connection on which an ``init`` has come."""

    @property
    def since(self) -> float | None:
        """Since when `connected` has its present value, in POSIX seconds; None before `run`."""

    @property
    def last_error(self) -> str | None:
        """Why the last connection ended, or the last attempt failed; None if there was no such trouble."""

    @property
    def pending_reports(self) -> int:
        """How many reports are waiting to be sent."""

    def report(self, report: FailureReport) -> None:
        """Send a report as soon as there is a connection. It replaces an unsent one about the same model."""

    def withdraw(self, model_id: str) -> None:
        """Drop the unsent report about a model, if there is one."""

    async def run(self, deliver: Callable[[FeedEvent], None]) -> None:
        """Deliver each event, in order; return after `aclose`."""

    async def aclose(self) -> None:
        """Send unsent reports, and end `run`, within ``shutdown_grace``."""
