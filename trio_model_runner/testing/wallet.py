"""A participant's wallet, which signs for the TLS key of a model's node.

It signs whatever it is told to, so that a test can have a proof with any mistake. It needs `cryptography` and
`base58` (the extra ``secure``), and must not know certificates or connections.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import attrs
import base58
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Metadata", "Wallet"]

Metadata = tuple[tuple[str, str], ...]

MESSAGE: Final = "x-server-auth-message"
SIGNATURE: Final = "x-server-auth-signature"
WALLET: Final = "x-server-wallet-pubkey"


@attrs.frozen
class Wallet:
    """An Ed25519 key; a new one by default."""

    key: Ed25519PrivateKey = attrs.field(factory=Ed25519PrivateKey.generate, repr=False)

    @property
    def address(self) -> str:
        """The public key, base58, as orchestrators and nodes write it."""
        return base58.b58encode(self.key.public_key().public_bytes_raw()).decode()

    def sign(self, message: bytes) -> Metadata:
        """The metadata with which a node shows a signed message."""
        return (
            (MESSAGE, _text_of(message)),
            (SIGNATURE, _text_of(self.key.sign(message))),
            (WALLET, self.address),
        )

    def delegate(self, public_key: bytes, **fields: Any) -> Metadata:
        """Vouch for a TLS key: the proof that its node sends with every answer.

        Args:
            public_key: the node's, DER SubjectPublicKeyInfo.
            fields: the message's other fields, which are ``model_id``, ``hotkey`` and perhaps ``expires_at``
                (POSIX seconds). One that is None is left out.
        """
        message = {"cert_pub": _text_of(public_key)} | fields
        present = {name: value for name, value in message.items() if value is not None}
        return self.sign(json.dumps(present).encode())


def _text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()
