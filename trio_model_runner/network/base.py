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
