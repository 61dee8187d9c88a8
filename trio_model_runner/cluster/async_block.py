"""What a cluster's method returns that is used with `async with`, once.

Python's own context managers from generators say of every other use that an object of theirs lacks some
attribute. Here it is said how to use it. It must not know what the block is for.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from trio.lowlevel import enable_ki_protection

__all__ = ["AsyncBlock"]

T = TypeVar("T")


class AsyncBlock(AbstractAsyncContextManager[T, bool | None]):
    """An async context manager that can be entered once.

    Args:
        manager: what is entered.
        use: how it is used, in Python.
    """

    def __init__(self, manager: AbstractAsyncContextManager[T, bool | None], use: str) -> None:
        self._manager = manager
        self._use = use
        self._entered = False

    @enable_ki_protection
    async def __aenter__(self) -> T:
        if self._entered:
            raise RuntimeError(f"this block was entered before: make a new one, by `{self._use}`")
        self._entered = True
        return await self._manager.__aenter__()

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - it shields itself

    if not TYPE_CHECKING:  # type checkers know by themselves that these are wrong

        def _refuse(self, *_):
            raise RuntimeError(f"use it so: `{self._use}`")

        __enter__ = __iter__ = __aiter__ = __await__ = _refuse

        def __exit__(self, kind, error, traceback):
            raise AssertionError  # Python looks for it before it enters
