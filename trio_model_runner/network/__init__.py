"""How to open a byte stream to somewhere: over TCP, to a UNIX socket, or inside this process.

All other rooms ask a `Network` for a stream, and never use sockets themselves. So the same `Cluster` runs on
real sockets and, in tests, in memory, with Trio's autojump clock. A network knows hosts and ports. It must
not know what is sent over the stream.

Read in this order: `base` (the interface), `addresses` (spells host names for the resolver and the other end,
and says which can't be resolved), `lookups` (asks the system's resolver, in few threads of its own), `tcp`,
`unix`, `memory`, `black_holes` (where a network in memory loses what is sent). Then come three networks on
top of another one: `restricted` (connects to some addresses only), `named_hosts` (connects to hosts of some
names only), and `tls`, on `tls_codec`, which are not imported here, since not every program uses them.
"""

from .addresses import address_text, ascii_host, authority_host
from .base import Network
from .black_holes import Cut, Direction
from .memory import MemoryListener, MemoryNetwork
from .restricted import IPNetwork, RestrictedNetwork
from .tcp import TCPNetwork
from .unix import UnixNetwork

__all__ = [
    "Cut",
    "Direction",
    "IPNetwork",
    "MemoryListener",
    "MemoryNetwork",
    "Network",
    "RestrictedNetwork",
    "TCPNetwork",
    "UnixNetwork",
    "address_text",
    "ascii_host",
    "authority_host",
]
