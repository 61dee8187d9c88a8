"""What can be an instrument, and what its hooks must be: checked when the cluster is made.

A hook of a wrong kind would do nothing, in silence: calling an async function or a generator runs nothing of
it. This file must not know who calls the hooks, nor when.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Final

from ..text import shown, shown_scalar
from .instrument import Instrument

__all__ = ["HOOKS", "check_instruments"]

HOOKS: Final = (
    "round_started",
    "metadata",
    "round_ended",
    "call_ended",
    "model_changed",
    "orchestrator_changed",
    "report_pending",
    "report_held",
    "report_withdrawn",
    "report_sent",
)
"""The names of the hooks that are called when something happens."""

_NOT_PLAIN: Final = (
    (inspect.iscoroutinefunction, "an async function"),
    (inspect.isasyncgenfunction, "an async generator"),
    (inspect.isgeneratorfunction, "a generator"),
)


def check_instruments(instruments: Iterable[Instrument]) -> tuple[Instrument, ...]:
    """Refuse what can't be an instrument.

    Raises:
        TypeError: it is a class, has none of the hooks, or one that is no plain function; or its `running` is
            no function that returns an async context manager.
        ValueError: an instrument is given twice.
    """
    if not isinstance(instruments, Iterable) or isinstance(instruments, str | Mapping):
        raise TypeError(f"instruments: must be several instruments, got {shown(instruments)}")
    checked = tuple(instruments)
    for number, each in enumerate(checked):
        if isinstance(each, type):
            raise TypeError(f"instruments: must be instances, got the class {each.__name__}")
        _check_hooks(each)
        if any(each is other for other in checked[:number]):
            raise ValueError(f"instruments: the same {type(each).__name__} is given twice")
    return checked


def _check_hooks(instrument: Instrument) -> None:
    kind = type(instrument).__name__
    found = {name: hook for name in HOOKS if (hook := getattr(instrument, name, None)) is not None}
    running = getattr(instrument, "running", None)
    if not found and running is None:
        raise TypeError(f"instruments: {kind} has none of the hooks: {', '.join(HOOKS)}")
    for name, hook in found.items():
        if (problem := _not_plain(hook)) is not None:
            raise TypeError(f"instruments: {kind}.{name} must be a plain function, got {problem}")
    if running is not None and (problem := _not_plain(running)) is not None:
        raise TypeError(
            f"instruments: {kind}.running must return an async context manager, got {problem}: "
            "write an async generator with @contextlib.asynccontextmanager"
        )


def _not_plain(hook: object) -> str | None:
    """What a hook is that a call does not run; None for one that it does."""
    while isinstance(hook, functools.partial):
        hook = hook.func
    if not callable(hook):
        return shown_scalar(hook)
    # An object is called by its class's method; for a function, that is one of Python's own.
    functions = (hook, type(hook).__call__)
    return next((words for is_of, words in _NOT_PLAIN if any(map(is_of, functions))), None)
