"""Who talks to whom: credentials for the nodes, proofs from them, and TLS contexts.

`secure` and `gateway` are the two kinds of credentials that a coordinator can have. `delegation` says whether
a node belongs to the model that it claims to be, and `tokens` makes what a gateway asks for. `node_security`
is what one model's connection needs to know of all that: the same few questions, whatever the credentials.
`keys` and `tls` read files.
"""

from .gateway import GatewayCredentials
from .secure import SecureCredentials

Credentials = SecureCredentials | GatewayCredentials

__all__ = ["Credentials", "GatewayCredentials", "SecureCredentials"]
