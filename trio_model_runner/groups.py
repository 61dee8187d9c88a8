"""Exceptions leave as themselves where one suffices, and as groups only where several happened.

A nursery wraps whatever passes through it in a group, even a single exception. That is right for whoever
opened the nursery, and wrong for whoever called a function that has one inside: how the function does its
work is its own business, and `except KeyError` around it should just work.
"""

from __future__ import annotations

from types import TracebackType

import trio

__all__ = ["describe", "one_by_itself"]


class one_by_itself:  # noqa: N801 - used as `with one_by_itself():`, like Trio's `move_on_after`
    """A context manager around one nursery: a group of one becomes that one.

    `trio.Cancelled` beside another exception is left out. Groups that were in the group stay as they are:
    they are somebody else's.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, BaseExceptionGroup):
            return
        others = [each for each in error.exceptions if not isinstance(each, trio.Cancelled)]
        if len(others) > 1:
            return
        only = others[0] if others else error.exceptions[0]
        context = only.__context__
        try:
            raise only
        finally:
            only.__context__ = context  # which `raise` has just replaced with the group
            del only, context, others, error, traceback  # or this frame, in the traceback, would keep itself


def describe(error: BaseException) -> str:
    """Say what an error is, with the causes where it only says that all attempts failed.

    Trio tries each of a host's addresses, and keeps what went wrong behind the error that it raises.
    """
    cause = error.__cause__
    causes = cause.exceptions if isinstance(cause, BaseExceptionGroup) else () if cause is None else (cause,)
    if isinstance(error, OSError) and causes:
        return f"{error}: {', '.join(dict.fromkeys(map(str, causes)))}"
    return str(error)
