"""Waits that grow: between attempts to connect, to reconnect, to send again.

Clients that were cut off at the same moment would come back at the same moment if they all waited equally
long. So each wait can be made a random fraction longer or shorter.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["growing_waits"]


def growing_waits(
    initial: float, *, factor: float = 2.0, maximum: float, jitter: float = 0.0
) -> Iterator[float]:
    """Give waits in seconds, without end.

    Args:
        initial: the first wait, seconds.
        factor: how many times longer each wait is than the one before.
        maximum: no wait is longer than this, seconds; the jitter comes on top.
        jitter: the fraction, 0 to 1, by which each wait is randomly longer or shorter.
    """
    wait = min(initial, maximum)
    while True:
        yield wait * random.uniform(1 - jitter, 1 + jitter)
        wait = min(wait * factor, maximum)
