"""How work in a worker thread ends early once nobody wants its result.

A thread can't be stopped from outside. So code that may take long asks now and then. It asks here, and not
Trio, since it is also used where there is no Trio: in a program of its own, and in the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar, TypeVarTuple

__all__ = ["run_stoppable", "stop_if_abandoned"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_check = ContextVar[Callable[[], None] | None]("_check", default=None)


def stop_if_abandoned() -> None:
    """Raise what ends this work if its result is wanted no longer; do nothing outside `run_stoppable`.

    What is raised in a worker thread of `workers` is `trio.Cancelled`. Nobody may catch it.
    """
    check = _check.get()
    if check is not None:
        check()


def run_stoppable(check: Callable[[], None], function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Call a function. While it runs, `stop_if_abandoned` calls `check`."""
    token = _check.set(check)
    try:
        return function(*arguments)
    finally:
        _check.reset(token)
