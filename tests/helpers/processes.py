"""Which processes there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["children_of", "reader_processes", "shard_processes"]


def reader_processes() -> set[int]:
    """This process's readers of frames, and its children that ended and were not waited for."""
    return _children(b"reader")


def shard_processes() -> set[int]:
    """This process's shards, and its children that ended and were not waited for."""
    return _children(b"shard")


def children_of(process: int, word: bytes = b"") -> set[int]:
    """The processes that a process has started, and that have not ended; whose command has this word."""
    return {
        number
        for number, parent, state, command in _processes()
        if parent == process and state != "Z" and word in command
    }


def _children(word: bytes) -> set[int]:
    return {
        number
        for number, parent, state, command in _processes()
        if parent == os.getpid() and (word in command or state == "Z")
    }


def _processes() -> Iterator[tuple[int, int, str, bytes]]:
    """Of each process its number, its parent's, its state, and its command."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
            command = path.with_name("cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        yield int(path.parent.name), int(parent), state, command
