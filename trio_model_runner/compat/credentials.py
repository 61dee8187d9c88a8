"""Credentials of the asyncio client made ours: they hold the same files and keys."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..security import Credentials, SecureCredentials
from ..security import GatewayCredentials as OurGatewayCredentials
from ..security.keys import public_key_info, require_packages
from ..text import shown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

__all__ = ["GatewayCredentials", "to_credentials"]


@dataclass(frozen=True)
class GatewayCredentials:
    """A coordinator's RSA key, which signs the tokens for a gateway. It is made as the asyncio client's is.

    Attributes:
        private_key: the key.
    """

    private_key: RSAPrivateKey = field(repr=False)

    @classmethod
    def from_files(cls, cert_path: str | os.PathLike[str], key_path: str | os.PathLike[str]) -> Self:
        """Load the key from a file; see `trio_model_runner.GatewayCredentials.from_files`.

        Args:
            cert_path: the key's certificate. It is not read, as there.
            key_path: an RSA key, PEM, without a passphrase.

        Raises:
            ConfigError: the file can't be read, or holds something else. The text names the file.
        """
        return cls(OurGatewayCredentials.from_files(key_path=key_path)._key)

    @classmethod
    def from_pem(cls, key_pem: bytes) -> Self:
        """Use an RSA key in PEM format, without a passphrase.

        Raises:
            ConfigError: it is something else.
        """
        return cls(OurGatewayCredentials.from_pem(key_pem)._key)


def to_credentials(secure: object | None, gateway: object | None) -> Credentials | None:
    """The credentials to use, of those that a runner was given.

    Args:
        secure: a `SecureCredentials`, ours or the asyncio client's; None for none.
        gateway: a `GatewayCredentials`, ours or the asyncio client's; None for none.

    Raises:
        ValueError: both were given.
        TypeError: one is something else.
        ConfigError: they can't be used; see `SecureCredentials.from_files`.
    """
    if secure is not None and gateway is not None:
        raise ValueError("secure_credentials and gateway_credentials are mutually exclusive")
    if secure is not None:
        return secure if isinstance(secure, SecureCredentials) else _secure(secure)
    if gateway is not None:
        return gateway if isinstance(gateway, OurGatewayCredentials) else _gateway(gateway)
    return None


def _secure(theirs: Any) -> SecureCredentials:
    """Write the three files once more, for a moment: TLS libraries read files, and theirs were read before.

    To take their SSL context would leave out what ours checks: dates, keys, and a node's exact name.
    """
    try:
        contents = {"ca.crt": theirs.ca_bytes, "tls.crt": theirs.cert_bytes, "tls.key": theirs.key_bytes}
    except AttributeError:
        raise TypeError(
            f"secure_credentials: must be SecureCredentials or None, got {shown(type(theirs))}"
        ) from None
    with tempfile.TemporaryDirectory() as directory:  # which this user alone may enter
        for name, content in contents.items():
            path = Path(directory, name)
            path.touch(mode=0o600)
            path.write_bytes(content)
        return SecureCredentials.from_directory(directory)


def _gateway(theirs: Any) -> OurGatewayCredentials:
    require_packages()
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    key = getattr(theirs, "private_key", None)
    if not isinstance(key, RSAPrivateKey):
        rule = "gateway_credentials: must be GatewayCredentials with an RSA key, or None"
        raise TypeError(f"{rule}, got {shown(type(theirs))}")
    return OurGatewayCredentials(public_key_info(key.public_key()), key)
