"""Streams to some addresses only.

The orchestrator names the hosts of the nodes, and could name any service that this machine can reach. So
`RestrictedNetwork` checks the addresses first. It connects to exactly the address that it has checked: if the
name were resolved again, it could have another address.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
from collections.abc import Sequence
from typing import Final, TypeAlias

import trio

from .addresses import address_text
from .base import Network
from .lookups import resolve

__all__ = ["IPNetwork", "RestrictedNetwork"]

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_SECONDS_AN_ADDRESS: Final = 3.0


class RestrictedNetwork(Network):
    """Connects only to addresses in some networks.

    A host name is resolved first. If one of its addresses is not allowed, the host is refused: a name with
    both kinds of addresses may be a trick. Then the addresses are tried one after the other. Each one has
    three seconds; the last one has no such limit.

    Args:
        network: opens the streams.
        allowed: the networks in which the other ends must be.
    """

    def __init__(self, network: Network, allowed: Sequence[IPNetwork]) -> None:
        self.secure = network.secure
        self._network = network
        self._allowed = tuple(allowed)

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream to an allowed address of `host`; see `Network.connect`.

        Raises:
            PermissionError: not all addresses of the host are allowed.
            OSError: the host can't be resolved, or see `Network.connect`.
        """
        addresses = await resolve(host, port)
        for address in addresses:
            if not self._allows(address):
                raise PermissionError(
                    errno.EACCES, f"{address_text(host, port)}: {address} is in no allowed network"
                )
        for address in addresses[:-1]:
            with contextlib.suppress(OSError), trio.move_on_after(_SECONDS_AN_ADDRESS):
                return await self._network.connect(address, port)
        return await self._network.connect(addresses[-1], port)

    async def look_up(self, host: str) -> None:
        """Look the host's name up; see `Network.look_up`. Its addresses are checked by `connect`."""
        await resolve(host, 0)

    def _allows(self, text: str) -> bool:
        address = ipaddress.ip_address(text)
        mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:10.0.0.1 is 10.0.0.1 to the kernel
        return any((mapped or address) in network for network in self._allowed)
