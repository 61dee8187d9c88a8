"""How nodes and coordinators prove who they are: credentials, proofs, tokens, TLS contexts.

Read `node_security` first. Other rooms ask only this file about credentials; each kind answers the same few
questions.

`secure` and `gateway` are the two kinds of credentials that a coordinator can have. `delegation` checks
whether a node belongs to its model (it verifies the proof), `wallet` knows the keys of wallets, and `tokens`
makes the tokens that a gateway wants. `keys` and `tls` read files. Nothing here may open a connection, or
know what is called on one.
"""

from .gateway import GatewayCredentials
from .secure import SecureCredentials

Credentials = SecureCredentials | GatewayCredentials

__all__ = ["Credentials", "GatewayCredentials", "SecureCredentials"]
