"""A single exception leaves a function as itself; a group leaves only if several exceptions happened.

A nursery puts all exceptions that pass through it into a group, even a single one. That is right for the code
that opens the nursery. It is wrong for code that calls a function: a caller need not know that the function
has a nursery inside, and `except KeyError` around the call should just work.

- `one_by_itself` goes around a nursery of our own: a group of one exception becomes that exception.
- `open_nursery_for_body` is a nursery around code that is not ours: that code's exceptions are not changed.
- `first_of` finds an exception in groups. `describe` says in words what an error is.
"""

from __future__ import annotations

import os
from types import TracebackType

import trio

__all__ = ["describe", "first_of", "one_by_itself", "open_nursery_for_body", "reason_of"]


class one_by_itself:  # noqa: N801 - used as `with one_by_itself():`, like Trio's `move_on_after`
    """A context manager around one nursery: a group of one exception becomes that exception.

    `trio.Cancelled` beside another exception is left out. Groups inside the group stay as they are: they are
    not the nursery's.
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
            only.__context__ = context  # `raise` has just replaced it with the group
            del only, context, others, error, traceback  # else this frame and the traceback keep each other


class open_nursery_for_body:  # noqa: N801 - used like `trio.open_nursery`
    """A nursery around code that is not ours, as an async context manager.

    `trio.open_nursery` puts what its body raises into a new group. If the body raises a group of a class of
    its own, a copy of another class leaves. Here:

    - What the body raises leaves as the very same object, also if it is a group. The nursery's tasks are
      cancelled first. Only a group with `trio.Cancelled` in it is taken apart, as any nursery does: the
      nursery may have caused the cancellation itself.
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
        if error is None or has_any(error, trio.Cancelled):
            with one_by_itself():
                # A nursery always waits for its tasks; no timeout could shorten that.
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


def has_any(error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Whether an error is one of these kinds, or a group that has one, however deep."""
    if isinstance(error, BaseExceptionGroup):
        return any(
            has_any(each, kinds) for each in error.exceptions
        )  # `subgroup` would run a stranger's `derive`
    return isinstance(error, kinds)


def first_of(error: BaseException) -> BaseException:
    """Return the first exception in a group, however deep; what is no group comes back as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def describe(error: BaseException) -> str:
    """Say what an error is. The text of an OSError is followed by those of its causes.

    Trio tries each of a host's addresses. Its error only says that all attempts failed; the causes say why.
    """
    cause = error.__cause__
    causes = cause.exceptions if isinstance(cause, BaseExceptionGroup) else () if cause is None else (cause,)
    text = str(error) or repr(error)
    if isinstance(error, OSError):
        more = [each for each in dict.fromkeys(map(reason_of, causes)) if each not in text]
        return ": ".join([text, ", ".join(more)]) if more else text
    return text


def reason_of(error: BaseException) -> str:
    """Why something failed: what the operating system says, without its number, or the error's text.

    Trio puts the address before that, as Python writes it.
    """
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    system = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror
    return system if error.strerror.endswith(system) else error.strerror
