"""Who the nodes of a cheap fleet are, and their coordinator: certificates, wallets, tokens' keys.

The reference client takes RSA keys alone, of nodes and for tokens, and the platform's registry of
coordinators knows no others; so all keys are RSA of 2,048 bits. The nodes share one, for making a key takes
50 ms. Each has a certificate, a wallet and a proof of its own, so no client saves anything by that.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from entries import NOBODY, model_id

from trio_model_runner.testing.authority import CLIENTS, Authority, server_context
from trio_model_runner.testing.security import node_name, write_key
from trio_model_runner.testing.wallet import Metadata, Wallet

__all__ = ["Identities", "identities_of"]


class Identities:
    """Of plaintext nodes: they have none."""

    def context(self, index: int) -> ssl.SSLContext | None:
        """The TLS of a node; None if it has none."""
        return None

    def proof(self, index: int) -> Metadata:
        """What goes ahead of all answers of a node."""
        return ()

    def participant(self, index: int) -> dict[str, str]:
        """What the orchestrator says about whose model it is."""
        return NOBODY


class SecureIdentities(Identities):
    """Of the secure model protocol. The coordinator's credentials are written into a directory."""

    def __init__(self, directory: Path) -> None:
        self._authority = Authority.make()
        self._key = new_key()
        self._public_key = self._authority.issue(key=self._key).public_key
        self._participants: dict[int, tuple[Wallet, str]] = {}
        coordinator = self._authority.issue(["coordinator@example.org"], usage=CLIENTS, key=new_key())
        (directory / "ca.crt").write_bytes(self._authority.pem)
        (directory / "tls.crt").write_bytes(coordinator.chain)
        write_key(directory / "tls.key", coordinator.key_pem)

    def context(self, index: int) -> ssl.SSLContext:
        certificate = self._authority.issue([node_name(model_id(index))], key=self._key)
        return server_context(certificate, clients=self._authority)

    def proof(self, index: int) -> Metadata:
        wallet, hotkey = self._of(index)
        return wallet.delegate(self._public_key, model_id=model_id(index), hotkey=hotkey)

    def participant(self, index: int) -> dict[str, str]:
        wallet, hotkey = self._of(index)
        return {"cruncher_wallet_pubkey": wallet.address, "cruncher_hotkey": hotkey}

    def _of(self, index: int) -> tuple[Wallet, str]:
        return self._participants.setdefault(index, (Wallet(), Wallet().address))


class GatewayIdentities(Identities):
    """Of gateways, which have one certificate for this machine. They look at no token, which is cheap."""

    def __init__(self, directory: Path) -> None:
        authority = Authority.make()
        self._context = server_context(authority.issue(["127.0.0.1"], key=new_key()))
        (directory / "gateway-ca.crt").write_bytes(authority.pem)
        write_key(directory / "key.pem", authority.issue(key=new_key()).key_pem)

    def context(self, index: int) -> ssl.SSLContext:
        return self._context


def identities_of(mode: str, directory: str) -> Identities:
    """The identities of a mode: ``""`` is plaintext."""
    match mode:
        case "secure":
            return SecureIdentities(Path(directory))
        case "gateway":
            return GatewayIdentities(Path(directory))
        case "":
            return Identities()
    raise ValueError(f"no such mode: {mode}")


def new_key() -> rsa.RSAPrivateKey:
    """An RSA key."""
    return rsa.generate_private_key(65537, 2048)
