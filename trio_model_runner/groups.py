"""Exceptions leave as themselves where one suffices, and as groups only where several happened.

A nursery wraps whatever passes through it in a group, even a single exception. That is right for whoever
opened the nursery, and wrong for whoever called a function that has one inside: how the function does its
work is its own business, and `except KeyError` around it should just work.

- `one_by_itself` goes around a nursery of our own: a group of one becomes that one.
- `open_nursery_for_body` is a nursery around code that is not ours: what that raises leaves untouched.
- `first_of` finds an exception in groups, `describe` says what an error is.
"""

from __future__ import annotations

from types import TracebackType

import trio

__all__ = ["describe", "first_of", "one_by_itself", "open_nursery_for_body"]


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


class open_nursery_for_body:  # noqa: N801 - used like `trio.open_nursery`
    """A nursery around code that is not ours, as an async context manager.

    `trio.open_nursery` makes a new group of what its body raises, and a group of the body's own becomes a
    copy of another class. Here:

    - What the body raises leaves as the very same exception, groups of any class included. The nursery's
      tasks are cancelled first. A group with `trio.Cancelled` in it is the one exception: the nursery may
      have caused that itself, so it takes the group apart, as any nursery does.
    - A task that crashes cancels the body, and its exception leaves by itself.
    - If a task and the body both raise, both leave in one group, the task's first.
    """

    def __init__(self) -> None:
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> trio.Nursery:
        self._nursery = await self._manager.__aenter__()
        return self._nursery

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._nursery is not None
        if error is None or _has_cancelled(error):
            with one_by_itself():
                # Nothing bounds this: a nursery always waits for its tasks, and no timeout could shorten that.
                return bool(await self._manager.__aexit__(kind, error, traceback))  # noqa: ASYNC102
        self._nursery.cancel_scope.cancel()
        try:
            await self._manager.__aexit__(None, None, None)  # noqa: ASYNC102 - the same
        except trio.Cancelled:  # noqa: ASYNC103 - of a scope around us; the body's exception leaves instead
            pass
        except BaseExceptionGroup as group:
            _, crashes = group.split(trio.Cancelled)
            if crashes is not None:
                raise BaseExceptionGroup("a task and the body", [*crashes.exceptions, error]) from None
        return False


def _has_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_has_cancelled, error.exceptions))
    return isinstance(error, trio.Cancelled)


def first_of(error: BaseException) -> BaseException:
    """The first exception in a group that is no group itself; an exception that is none is its own first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def describe(error: BaseException) -> str:
    """Say what an error is, with the causes where it only says that all attempts failed.

    Trio tries each of a host's addresses, and keeps what went wrong behind the error that it raises.
    """
    cause = error.__cause__
    causes = cause.exceptions if isinstance(cause, BaseExceptionGroup) else () if cause is None else (cause,)
    if isinstance(error, OSError) and causes:
        return f"{error}: {', '.join(dict.fromkeys(map(str, causes)))}"
    return str(error)
