"""Credentials for nodes behind a gateway: a proxy that ends TLS, and takes calls with a signed token.

The connection is ordinary TLS to the gateway's own name, verified with the system's authorities. Each call
carries a token, which tells the nodes who calls; `tokens` makes them. The nodes know a hash of the
coordinator's public key from the chain, and the chain has RSA keys only.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs

from ..errors import ConfigError
from .keys import (
    as_path,
    check_matches,
    load_certificate,
    load_rsa_key,
    public_key_info,
    read_file,
    require_packages,
    shown_path,
    warn_of_readers,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

__all__ = ["GatewayCredentials"]


@attrs.frozen
class GatewayCredentials:
    """A coordinator's RSA key. It signs the tokens for a gateway.

    Use `from_directory`, `from_files` or `from_pem`. No repr shows the key, and it can't be pickled.

    Attributes:
        public_key: the public key, DER SubjectPublicKeyInfo.
        tls: the authorities that may vouch for the gateway; None are the system's.
        key_file: where the key was loaded from; None if the program had it already.
    """

    public_key: bytes = attrs.field(repr=lambda key: f"<sha256 {hashlib.sha256(key).hexdigest()}>")
    _key: RSAPrivateKey = attrs.field(repr=False, eq=False)
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False, eq=False)
    key_file: Path | None = attrs.field(default=None, repr=False, eq=False)

    @classmethod
    def from_pem(cls, key_pem: bytes, *, tls: ssl.SSLContext | None = None) -> Self:
        """Use a private key that the program already has.

        Args:
            key_pem: an RSA key in PEM format, without a passphrase.
            tls: the authorities that may vouch for the gateway, for a gateway with an authority of its own.
                It must verify certificates and host names. None are the system's.

        Raises:
            ConfigError: `key_pem` or `tls` is something else, or a package is missing.
        """
        if tls is not None and not _verifies(tls):
            raise ConfigError("tls: must be an ssl.SSLContext that verifies certificates and host names")
        if not isinstance(key_pem, bytes | bytearray | memoryview):
            raise ConfigError(f"key_pem: must be bytes, got {type(key_pem).__name__}")
        return attrs.evolve(cls._from_pem(bytes(key_pem), "key_pem"), tls=tls)

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str]) -> Self:
        """Load ``key.pem`` from a directory; see `from_files`."""
        return cls._load(as_path(path, "path") / "key.pem", None, argument="path")

    @classmethod
    def from_files(
        cls, *, key_path: str | os.PathLike[str], cert_path: str | os.PathLike[str] | None = None
    ) -> Self:
        """Load the key from a file. This blocks for a moment.

        If other users of the machine may read the key's file, or replace it, a warning is logged.

        Args:
            key_path: an RSA key, PEM, without a passphrase.
            cert_path: the key's certificate, PEM. It is only used to check the key.

        Raises:
            ConfigError: a file can't be read or holds something else, the key is not the certificate's, the
                certificate is not valid now, or a package is missing. The text names the file.
        """
        return cls._load(key_path, cert_path, argument="key_path")

    @classmethod
    def _load(
        cls, key_path: str | os.PathLike[str], cert_path: str | os.PathLike[str] | None, *, argument: str
    ) -> Self:
        require_packages()
        content = read_file(key_path, argument=argument)
        source = shown_path(key_path)
        credentials = cls._from_pem(content, source)
        if cert_path is not None:
            content = read_file(cert_path, argument="cert_path")
            certificate_source = shown_path(cert_path)
            certificate = load_certificate(content, certificate_source)
            check_matches(credentials._key, source, certificate, certificate_source)
        warn_of_readers(key_path)
        return attrs.evolve(credentials, key_file=Path(key_path))

    @classmethod
    def _from_pem(cls, pem: bytes, source: str) -> Self:
        require_packages()
        key = load_rsa_key(pem, source)
        return cls(public_key_info(key.public_key()), key)

    def sign(self, message: bytes) -> bytes:
        """Sign a message: RSA PKCS#1 v1.5 with SHA-256. Other threads run meanwhile."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._key.sign(message, PKCS1v15(), SHA256())


def _verifies(tls: object) -> bool:
    """Whether it is a context with which nobody can stand in for the gateway, and have the tokens."""
    return isinstance(tls, ssl.SSLContext) and tls.check_hostname and tls.verify_mode is ssl.CERT_REQUIRED
