"""Streams to some addresses only.

The orchestrator names the hosts of the nodes, and might name any service that this machine can reach. So
`RestrictedNetwork` looks at the addresses first. It connects to the very address that it has looked at: a
name that is resolved twice can have another address the second time.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final, TypeAlias

import trio

from .addresses import address_text, ascii_host
from .base import Network

__all__ = ["IPNetwork", "RestrictedNetwork"]

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_SECONDS_AN_ADDRESS: Final = 3.0


class RestrictedNetwork(Network):
    """Connects only to addresses in some networks.

    A host name is resolved first. If a single one of its addresses lies outside, it is refused altogether: a
    name with both kinds of addresses may be made to get around the rule. The addresses are then tried one
    after the other, each for three seconds but the last.

    Args:
        network: what opens the streams.
        allowed: where their other ends must be.
    """

    def __init__(self, network: Network, allowed: Sequence[IPNetwork]) -> None:
        self.secure = network.secure
        self._network = network
        self._allowed = tuple(allowed)

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream to an allowed address of `host`; see `Network.connect`.

        Raises:
            PermissionError: not all addresses of the host are allowed.
            OSError: it can't be resolved, or as `Network.connect`.
        """
        found = await trio.socket.getaddrinfo(ascii_host(host), port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        for address in addresses:
            if not self._allows(address):
                raise PermissionError(
                    errno.EACCES, f"{address_text(host, port)}: {address} is in no allowed network"
                )
        for address in addresses[:-1]:
            with contextlib.suppress(OSError), trio.move_on_after(_SECONDS_AN_ADDRESS):
                return await self._network.connect(address, port)
        return await self._network.connect(addresses[-1], port)

    def _allows(self, text: str) -> bool:
        address = ipaddress.ip_address(text)
        mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:10.0.0.1 is 10.0.0.1 to the kernel
        return any((mapped or address) in network for network in self._allowed)
