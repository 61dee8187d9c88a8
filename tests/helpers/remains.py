"""What a cluster may not leave behind: connections, and tasks of the package's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import trio

import trio_model_runner

if TYPE_CHECKING:
    from trio_model_runner.testing import LocalCrunch

__all__ = ["count_connections", "our_tasks"]

PACKAGE = Path(trio_model_runner.__file__).parent


def count_connections(crunch: LocalCrunch) -> int:
    nodes = [deployment.node.connections for deployment in crunch.deployments]
    return sum(nodes) + crunch.orchestrator.connections


def our_tasks() -> list[str]:
    """The tasks of this run that are the package's own, but for the crunch's."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    names, tasks = [], [root]
    while tasks:
        task = tasks.pop()
        tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        path = Path(task.coro.cr_code.co_filename)  # type: ignore[attr-defined]
        if path.is_relative_to(PACKAGE) and path.parent.name != "testing":
            names.append(task.name)
    return names
