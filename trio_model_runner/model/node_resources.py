"""What the actors of one process share, to connect to their nodes and to read their answers.

It knows no model, and nobody who calls any: whoever runs actors makes one of these for all of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import enable_ki_protection

from ..frame_readers.readers import FrameReaders
from ..groups import one_by_itself
from ..rpc.reader import SocketHub
from ..security.node_security import node_security

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from ..services.base import NodeService
    from .fence import Fence

__all__ = ["NodeResources"]

_HELD_AT_ONCE: Final = 10
"""So many models that can't be reached, and that nobody is told of, are tried again at the same time."""


class NodeResources:
    """What the actors of one process share. First `open`, then `run` must run while any of them does.

    Args:
        config: the settings.
        service: the gRPC service that the nodes have; None if the models are only observed.

    Attributes:
        config: the same.
        service: the same.
        security: how connections and calls are secured.
        hub: the one reader of all plain sockets; None if each connection reads for itself.
        frame_readers: read data frames in answers; None if threads do.
        connect_limiter: limits how many models connect at the same time.
        held_limiter: the same for models that can't be reached, and the report about that is held.
        fence: holds requests back, where they may be forbidden at any moment; else None. What it holds back
            waits: whoever closes it must end that.
    """

    def __init__(self, config: ClusterConfig, service: NodeService | None) -> None:
        self.config = config
        self.service = service
        self.security = node_security(config.credentials, clock_leeway=config.clock_leeway)
        self.hub: SocketHub | None = None
        self.frame_readers = FrameReaders(config.limits.max_frame_bytes) if config.isolate_frames else None
        self.connect_limiter = trio.CapacityLimiter(config.limits.max_simultaneous_connects or math.inf)
        self.held_limiter = trio.CapacityLimiter(_HELD_AT_ONCE)
        self.fence: Fence | None = None

    def open(self) -> None:
        """Have what is there only in a Trio program that runs."""
        if SocketHub.available():
            self.hub = SocketHub()

    @enable_ki_protection
    async def run(self) -> None:
        """Read from sockets, and read frames, until this is cancelled."""
        with one_by_itself():
            async with trio.open_nursery() as nursery:
                if self.hub is not None:
                    nursery.start_soon(self.hub.run)
                if self.frame_readers is not None:
                    nursery.start_soon(self.frame_readers.run)
