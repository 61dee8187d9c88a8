"""When a request that certainly was not processed is sent again.

A server says so by REFUSED_STREAM (RFC 9113, section 8.7), or by a GOAWAY whose last stream id is below the
call's (section 6.8); and what was never written when its connection ended, nobody has seen. To send such a
request again is never to make a call twice. gRPC calls that a transparent retry (gRFC A6).

gRPC does it at once, and where the server has refused, once: so that clients don't storm a server. But once
is too little. A server with room for a few streams counts one that it has answered for a moment longer than
its client does, and refuses a good part of a crowd (with room for three, up to 83 of 400 calls twice). So
requests are sent again as often as needed until the deadline, after waits that grow: 1 to 2 ms at first,
about a second in the end.

A call that has no deadline at all, not even of a scope, would wait for ever for a server that refuses for
ever. It fails with the 64th refusal, after about a minute.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from ..backoff import growing_waits

__all__ = ["Retries"]

_FIRST_WAIT: Final = 0.0015
_LONGEST_WAIT: Final = 1.0
_JITTER: Final = 1 / 3
_MOST_WITHOUT_DEADLINE: Final = 63


class Retries:
    """How often one call's request was sent again, and how long it waits before the next time."""

    def __init__(self) -> None:
        self._waits = growing_waits(_FIRST_WAIT, maximum=_LONGEST_WAIT, jitter=_JITTER)
        self._count = 0

    def left(self, deadline: float) -> bool:
        """Whether it may be sent again, for a call that must be over at `deadline`; `math.inf` for never."""
        return deadline < math.inf or self._count < _MOST_WITHOUT_DEADLINE

    async def wait(self) -> None:
        """Wait before the request is sent again."""
        self._count += 1
        await trio.sleep(next(self._waits))
