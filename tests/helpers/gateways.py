"""Gateways: nodes behind ordinary TLS that ask for a token with every call, and prove nothing of wallets."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)

from helpers.secure_crunch import Node
from trio_model_runner import GatewayCredentials

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    import trustme

__all__ = ["PUBLIC_KEY", "TOKEN", "gateway", "make_credentials", "read_token", "trust_alone"]

MESSAGE, SIGNATURE, PUBLIC_KEY = TOKEN = tuple(
    f"x-gateway-auth-{part}" for part in ("message", "signature", "pubkey")
)


def make_credentials(**settings: Any) -> GatewayCredentials:
    """New credentials, with a key of their own."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return GatewayCredentials.from_pem(pem, **settings)


def trust_alone(authority: trustme.CA, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an authority the only one that the system trusts."""
    authority.cert_pem.write_to_path(directory / "authorities.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "authorities.pem"))


def gateway(model_id: str = "7", **made: Any) -> Node:
    """A gateway and the node behind it in one."""
    node = Node(model_id, **{"names": ("localhost", "127.0.0.1"), "mutual": False} | made)
    node.proof = lambda method: ()
    return node


def read_token(metadata: dict[str, str]) -> dict[str, Any]:
    """What a token says, once its signature is verified as a gateway does it."""
    message, signature, public_key = (base64.b64decode(metadata[name], validate=True) for name in TOKEN)
    key = load_der_public_key(public_key)
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(signature, message, padding.PKCS1v15(), SHA256())
    token: dict[str, Any] = json.loads(message)
    assert message == json.dumps(token, separators=(",", ":")).encode()
    return token
