"""What a forked child must not have: locks, listeners and connections of this process.

A child that was forked has copies of all descriptors. A lock (``flock``) is held, a port is taken and a
connection stays open until the last copy is closed. So the children of a coordinator that was killed, such as
a process pool's, would keep the next one from starting. A child gets the null device in their place: if it
closed them, their numbers would soon be others', and be closed again by objects that it has copies of.

Children that run another program have none of this, since descriptors are not inherited (PEP 446). It must
not know what the descriptors are for.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["keep_from_children"]


class HasDescriptor(Protocol):
    """A file, a socket, or the like."""

    def fileno(self) -> int:
        """Its descriptor; once it is closed, less than 0 or a ValueError."""


_kept: weakref.WeakSet[HasDescriptor] = weakref.WeakSet()


def keep_from_children(opened: HasDescriptor) -> None:
    """Have children that are forked from now on not hold this open.

    Args:
        opened: what has the descriptor. It is known as long as it lives, and must be hashable.
    """
    _kept.add(opened)


def _let_go() -> None:
    """In a child that was just forked."""
    descriptors = [number for number in map(_descriptor, list(_kept)) if number >= 0]
    _kept.clear()
    if not descriptors:
        return
    try:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # no more descriptors, or no such device
        for number in descriptors:
            os.close(number)
        return
    for number in descriptors:
        os.dup2(null, number, inheritable=False)
    os.close(null)


def _descriptor(opened: HasDescriptor) -> int:
    try:
        return opened.fileno()
    except ValueError:
        return -1


os.register_at_fork(after_in_child=_let_go)
