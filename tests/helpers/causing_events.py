"""What users are told when something happens, and who causes it; `causing` has what raises at once.

Each module of events has its own: `causing_entering`, `causing_results` and `causing_log_lines`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from helpers.coordinating import until
from trio_model_runner import Cluster, ModelState
from trio_model_runner.config import Backoff

__all__ = ["FEW_TRIES", "Event", "Events", "Said", "enter", "until_failed"]

FEW_TRIES: Final[dict[str, Any]] = {"backoff": Backoff(attempts=3, initial=0.1, connect_timeout=1.0)}


class Said:
    """Collects what users are told.

    Attributes:
        texts: what they were told.
        directory: for files.
    """

    def __init__(self, directory: Path) -> None:
        self.texts: list[str] = []
        self.directory = directory

    def results(self, results: Any) -> None:
        """Note the details of a round."""
        self.texts += [result.detail for result in results.values()]

    def errors(self, cluster: Cluster) -> None:
        """Note why models are not ready."""
        self.texts += [str(model.error) for model in cluster.announced.values()]

    async def raised(self, awaitable: Awaitable[object]) -> None:
        """Note what something raises."""
        try:
            await awaitable
        except AssertionError:
            raise
        except Exception as error:
            self.texts.append(str(error))
        else:
            raise AssertionError("it raised nothing")


Event = Callable[[Said], Awaitable[None]]


class Events(dict[tuple[str, ...], Event]):
    """Events by what they cause, as the list of troubles quotes it."""

    def cause(self, *quotes: str) -> Callable[[Event], Event]:
        """Add an event that causes these quotes."""

        def add(event: Event) -> Event:
            self[quotes] = event
            return event

        return add


async def until_failed(cluster: Cluster) -> None:
    await until(cluster, lambda: {model.state for model in cluster.announced.values()} == {ModelState.FAILED})


async def enter(cluster: Cluster) -> None:
    """Enter a cluster, which will not work."""
    async with cluster:
        raise AssertionError("it was entered")
