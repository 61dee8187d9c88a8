"""Waiting for what happens in other processes, where nobody tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .node_process import NodeProcess

__all__ = ["PATIENT", "Release", "wait_for_holding", "wait_until"]

PATIENT = 30.0
"""Seconds for what takes no time on a machine that is not busy."""

_POLL_INTERVAL = 0.01


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, for so long as is patient."""
    with trio.fail_after(PATIENT):
        while not condition():  # noqa: ASYNC110  nothing could set an event
            await trio.sleep(_POLL_INTERVAL)


async def wait_for_holding(nodes: Iterable[NodeProcess], times: int = 1) -> None:
    """Wait until models have entered their method `hold`, so often in their nodes' lives."""
    for node in nodes:
        await wait_until(lambda node=node: node.count_holdings() >= times)  # type: ignore[misc]


class Release:
    """The file that models wait for in their method `hold`.

    Attributes:
        path: its path, for the method's argument.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "release"
        self.path = str(self._file)

    def now(self) -> None:
        """Let all of them go."""
        self._file.touch()
