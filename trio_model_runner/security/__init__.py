"""Who talks to whom: credentials for the nodes, proofs from them, and TLS contexts.

Read `node_security` first. It has all that the rest of the package asks about a model's connections and
calls: the same few questions, whatever the credentials.

`secure` and `gateway` are the two kinds of credentials that a coordinator can have. `delegation` says whether
a node belongs to the model that it claims to be, and `tokens` makes what a gateway asks for. `keys` and `tls`
read files. Nothing here opens a connection, or knows what is called on one.
"""

from .gateway import GatewayCredentials
from .secure import SecureCredentials

Credentials = SecureCredentials | GatewayCredentials

__all__ = ["Credentials", "GatewayCredentials", "SecureCredentials"]
