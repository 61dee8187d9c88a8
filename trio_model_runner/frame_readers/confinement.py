"""The limits that a reader process puts itself under.

Memory: `RLIMIT_DATA` makes allocations fail beyond what the largest allowed frame needs, so a file that says
it has a terabyte is an exception. (Linux counts private writable memory there, from 4.7 on. macOS does not
enforce it.)

Time: the interval timer `ITIMER_PROF` counts the processor's time in this process, in all its threads, and
sends SIGPROF when it is over, which ends the process even in the middle of a C++ function. Time on the clock
would blame a frame for a busy machine.

Where a system lacks one of these, the limit is missing. `process` also limits the time on the clock.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["cpu_seconds", "limit_memory", "limited_time", "take_default_signals"]

_CPU_SECONDS: Final = 1.0
_CPU_SECONDS_PER_BYTE: Final = 50e-9
"""A frame takes 2 to 10 ns a byte, and one that expands to 256 MiB takes 0.3 s."""

_ROOM_BYTES: Final = 128 * 2**20
"""For the frame's bytes, and for what pyarrow has besides tables."""

_COPIES: Final = 4
"""How often a table may be in memory while it is read, made plain and written."""


def cpu_seconds(length: int) -> float:
    """How much of a processor's time the reading of a frame may take, in seconds.

    Args:
        length: of the frame as it came, bytes.
    """
    return _CPU_SECONDS + length * _CPU_SECONDS_PER_BYTE


def take_default_signals() -> None:
    """Undo what this process inherited: signals that are ignored or blocked would not end it."""
    if sys.platform == "win32":
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF, signal.SIGTERM})
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def limit_memory(max_frame_bytes: int) -> None:
    """Let this process allocate what frames up to a size need, beyond what it has now; and dump no core."""
    if sys.platform == "win32":
        return
    import resource

    more = _COPIES * max_frame_bytes + _ROOM_BYTES
    with contextlib.suppress(ValueError, OSError):  # a lower limit is there already
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + more,) * 2)


def _data_bytes() -> int:
    try:
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmData:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return 2**30


@contextlib.contextmanager
def limited_time(seconds: float) -> Iterator[None]:
    """End this process by SIGPROF if what is inside takes more of a processor's time."""
    if sys.platform == "win32":
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
