"""What a screen does on Ctrl-Z: the terminal is given back while the process is stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import trio

__all__ = ["leave_while_stopped"]


async def leave_while_stopped(leave: Callable[[], None], come_back: Callable[[], None]) -> None:
    """Give the terminal back on Ctrl-Z, and draw on when the process goes on, until cancelled.

    Args:
        leave: gives the terminal back.
        come_back: takes it again.
    """
    if signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN:  # of a shell without job control
        return
    with trio.open_signal_receiver(signal.SIGTSTP) as stops:
        async for _ in stops:
            leave()
            os.kill(os.getpid(), signal.SIGSTOP)
            come_back()
