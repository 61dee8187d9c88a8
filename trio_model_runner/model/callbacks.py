"""Functions of the coordinator's, called in the middle of a round.

A round is protected from Ctrl-C wherever its places in the queues could be torn apart. What a coordinator
gave as ``arguments=`` or ``returns=`` is not: if it never ends, Ctrl-C must be able to end it.
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
    """Call a function that Ctrl-C may interrupt, wherever this is called."""
    return function(argument)
