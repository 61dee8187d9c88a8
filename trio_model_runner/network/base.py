"""The interface of all networks."""

from __future__ import annotations

import abc

import trio

__all__ = ["Network"]


class Network(abc.ABC):
    """Opens byte streams to a host and a port.

    Attributes:
        secure: True if nobody on the way can read or change what goes over the streams, and the other end is
            known. It is what "https" means in the web.
    """

    secure: bool = False

    @abc.abstractmethod
    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream to `host` and `port`.

        Raises:
            OSError: nothing answers there, the host's name can't be resolved, or this process has no
                permission.
        """

    async def look_up(self, host: str) -> None:
        """Look the name of `host` up, so that `connect` knows it for a second.

        A name that never resolves takes seconds, and nothing but a thread. Whoever lets few connect at a time
        calls this before, so that such names do not use up the turns. Here, names need no look-up.

        Raises:
            OSError: the host's name can't be resolved.
        """
        await trio.lowlevel.checkpoint()
