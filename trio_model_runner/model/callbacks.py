"""Functions of the coordinator's, called in the middle of a round.

A round is protected from Ctrl-C, since an interrupt at the wrong line could leave a queue broken. The
functions that a coordinator gives as ``arguments=`` or ``returns=`` are not protected: if one never ends,
Ctrl-C must be able to end it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from trio.lowlevel import disable_ki_protection

__all__ = ["call_interruptibly"]

A = TypeVar("A")
T = TypeVar("T")


@disable_ki_protection
def call_interruptibly(function: Callable[[A], T], argument: A) -> T:
    """Call a function. Ctrl-C may interrupt it, even if the caller is protected."""
    return function(argument)
