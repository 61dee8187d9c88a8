"""Streams to hosts of some names only.

The orchestrator names the hosts of the nodes, and any name that it owns has a good certificate. What is
secret must not go there, so the names are known beforehand. They are compared as they are sent: in ASCII,
without a final dot, and capitals are small letters. An IP address is no name: it is compared as a number,
and no suffix fits it. Nothing is resolved here; see `restricted` for addresses.
"""

from __future__ import annotations

import errno
import ipaddress
import re
from collections.abc import Sequence
from typing import Final

import trio

from ..text import quoted
from .addresses import authority_host
from .base import Network

__all__ = ["NamedHosts", "host_pattern"]

_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"\d+|0x[0-9a-f]*")
"""A last label that makes a name an IPv4 address for most resolvers: ``127.1`` is 127.0.0.1."""

_LONGEST_NAME: Final = 253  # letters (RFC 1035, section 2.3.4)


class NamedHosts(Network):
    """Connects only to hosts of some names.

    Args:
        network: opens the streams.
        allowed: the hosts, as `host_pattern` gives them.
    """

    def __init__(self, network: Network, allowed: Sequence[str]) -> None:
        self.secure = network.secure
        self._network = network
        self._names = frozenset(pattern for pattern in allowed if not pattern.startswith("."))
        self._suffixes = tuple(pattern for pattern in allowed if pattern.startswith("."))

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream to `host`, if it is allowed; see `Network.connect`.

        Raises:
            PermissionError: it is not; nothing was sent.
            OSError: see `Network.connect`.
        """
        self._check(host)
        return await self._network.connect(host, port)

    async def look_up(self, host: str) -> None:
        """Look the host's name up, if it is allowed; see `Network.look_up`.

        Raises:
            PermissionError: it is not; no resolver was asked.
            OSError: see `Network.look_up`.
        """
        self._check(host)
        await self._network.look_up(host)

    def _check(self, host: str) -> None:
        if not self._allows(host):
            shown = quoted(host, ascii_only=True)
            raise PermissionError(errno.EACCES, f"{shown} is not among the allowed hosts")

    def _allows(self, host: str) -> bool:
        name = authority_host(host).lower()
        if (address := _address_of(name)) is not None:
            return address in self._names
        # What is no name fits no suffix: who knows what a resolver makes of ``evil.example%.example.org``.
        is_name = all(map(_LABEL.fullmatch, name.split(".")))
        return is_name and (name in self._names or name.endswith(self._suffixes))


def host_pattern(text: str) -> str:
    """What is compared of a name, an IP address, or a suffix such as ``.example.org``.

    The suffix stands for all names that end in it, at any depth, and not for ``example.org`` itself.

    Raises:
        ValueError: it is none of them; the text says in what way, without `text` itself.
    """
    suffix = text.startswith(".")
    try:
        name = authority_host(text.removeprefix(".")).lower()
    except OSError:
        name = ""
    if (address := _address_of(name)) is not None:
        if suffix:
            raise ValueError("no suffix fits an IP address")
        return address
    if "*" in text:
        raise ValueError("a suffix begins with its dot, without '*'")
    labels = name.split(".")
    if not all(map(_LABEL.fullmatch, labels)) or len(name) > _LONGEST_NAME:
        raise ValueError("it is no host name")
    if _NUMBER.fullmatch(labels[-1]):
        raise ValueError("it is no host name, and no IP address in full")
    return f".{name}" if suffix else name


def _address_of(name: str) -> str | None:
    """The one spelling of an IP address, without a zone; None for a name."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:10.0.0.1 is 10.0.0.1 to the kernel
    return str(mapped or address)
