"""How to open a byte stream to somewhere: over TCP, to a UNIX socket, or inside this process.

Everything above asks a `Network` for a stream and never touches a socket's address again, so the very
same `Cluster` runs on real sockets and, in tests, on memory under a clock that jumps. A network knows
hosts and ports; it must not know what is said over the stream.

Read in this order: `base` (the interface), `addresses` (host names, and those that can't be resolved), `tcp`,
`unix`, `memory`; then the two that stand on another network: `restricted` (connects to some addresses only)
and `tls`, which is imported by who speaks it.
"""

from .addresses import address_text, ascii_host
from .base import Network
from .memory import MemoryListener, MemoryNetwork
from .restricted import IPNetwork, RestrictedNetwork
from .tcp import TCPNetwork
from .unix import UnixNetwork

__all__ = [
    "IPNetwork",
    "MemoryListener",
    "MemoryNetwork",
    "Network",
    "RestrictedNetwork",
    "TCPNetwork",
    "UnixNetwork",
    "address_text",
    "ascii_host",
]
