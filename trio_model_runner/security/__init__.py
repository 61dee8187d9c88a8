"""How nodes and coordinators prove who they are: credentials, proofs, tokens, TLS contexts.

Read `node_security` first. It answers all questions of the rest of the package about a model's connections
and calls: the same few questions for every kind of credentials.

`secure` and `gateway` are the two kinds of credentials that a coordinator can have. `delegation` checks
whether a node belongs to its model, and `tokens` makes the tokens that a gateway wants. `keys` and `tls` read
files. Nothing here may open a connection, or know what is called on one.
"""

from .gateway import GatewayCredentials
from .secure import SecureCredentials

Credentials = SecureCredentials | GatewayCredentials

__all__ = ["Credentials", "GatewayCredentials", "SecureCredentials"]
