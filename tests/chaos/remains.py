"""What the library keeps of sockets and tasks in this process, counted from outside."""

from __future__ import annotations

import os
import socket
import stat
from collections import Counter
from pathlib import Path

import attrs
import trio

import trio_model_runner

__all__ = ["Remains"]

_PACKAGE = Path(trio_model_runner.__file__).parent


@attrs.frozen
class Remains:
    """What there is at one moment.

    Attributes:
        tasks: how many tasks of this run are the package's own.
        peers: how many TCP sockets this process has to each host; "" is for those that are not connected.
    """

    tasks: int
    peers: Counter[str]

    @classmethod
    def now(cls) -> Remains:
        """What there is now."""
        return cls(_count_tasks(), _find_peers())


def _count_tasks() -> int:
    """How many tasks of this run are the package's own."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    count, tasks = 0, [root]
    while tasks:
        task = tasks.pop()
        tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        code = getattr(task.coro, "cr_code", None)
        count += code is not None and Path(code.co_filename).is_relative_to(_PACKAGE)
    return count


def _find_peers() -> Counter[str]:
    """How many TCP sockets this process has to each host; "" is for those that are not connected."""
    peers: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - it changes while it is read
        try:
            duplicate = os.dup(int(name))
        except OSError:  # the listing's own
            continue
        try:
            if not stat.S_ISSOCK(os.fstat(duplicate).st_mode):
                continue
            with socket.socket(fileno=os.dup(duplicate)) as each:
                if each.family == socket.AF_INET:
                    peers[_peer(each)] += 1
        finally:
            os.close(duplicate)
    return peers


def _peer(each: socket.socket) -> str:
    try:
        return str(each.getpeername()[0])
    except OSError:
        return ""
