"""What every network is to the rest."""

from __future__ import annotations

import abc

import trio

__all__ = ["Network"]


class Network(abc.ABC):
    """Opens byte streams to a host and a port.

    Attributes:
        secure: nobody on the way can read or change what goes over the streams, and it is known who is at
            their other end: what is "https" in the web.
    """

    secure: bool = False

    @abc.abstractmethod
    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream to `host` and `port`.

        Raises:
            OSError: nobody answers there, the host's name can't be resolved, or this process may not ask.
        """
