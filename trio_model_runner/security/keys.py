"""Keys and certificates from files, with errors that name the file.

A coordinator's keys are made once, copied to a server, and forgotten. Later mistakes would show as errors of
a TLS library, which explain little. So every mistake that can be found when a file is loaded is found then: a
file that is missing or has something else in it, a key of another certificate or of another kind, a
certificate that is no longer valid. Every error is a `ConfigError` that begins with the file's name. None
shows the file's content: it may be a key, even where a certificate was expected.

`cryptography` does the reading. It is imported where it is needed, so that a program without credentials
needs neither the package nor the time.
"""

from __future__ import annotations

import datetime
import importlib
import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
    from cryptography.x509 import Certificate

__all__ = [
    "check_matches",
    "load_certificate",
    "load_private_key",
    "load_rsa_key",
    "public_key_info",
    "read_file",
    "require_packages",
    "warn_of_readers",
]

logger = logging.getLogger("trio_model_runner.security")

_LARGEST_FILE = 1 << 20  # bytes; a chain of certificates has a few thousand bytes


def require_packages() -> None:
    """Check that the packages for credentials are installed.

    Raises:
        ConfigError: a package is missing.
    """
    for package in ("cryptography", "base58"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigError(
                f"credentials: need the package {package!r}: pip install 'trio-model-runner[secure]'"
            ) from error


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Read a small file.

    Raises:
        ConfigError: the file can't be read, or is too large for a key or a certificate.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"cannot read {os.fspath(path)!r}: {reason}") from error
    if len(content) > _LARGEST_FILE:
        raise ConfigError(f"{os.fspath(path)!r}: is too large to hold a key or a certificate")
    return content


def warn_of_readers(path: str | os.PathLike[str]) -> None:
    """Log a warning if others than its owner may read a private key's file."""
    mode = stat.S_IMODE(Path(path).stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        logger.warning(
            "the private key in %r is open to other users of this machine (mode %03o): chmod 600 closes it",
            os.fspath(path),
            mode,
        )


def load_certificate(pem: bytes, source: str) -> Certificate:
    """Read a certificate, the first if there is a chain, and check that it is valid today.

    Args:
        pem: one or more certificates.
        source: where they come from, for messages.

    Raises:
        ConfigError: there is no certificate, or it is not valid yet or any more.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import load_pem_x509_certificates

    try:
        certificate = load_pem_x509_certificates(pem)[0]
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{source}: holds no certificate in PEM format") from None
    now = datetime.datetime.now(datetime.UTC)
    if now > last:
        raise ConfigError(f"{source}: the certificate has expired on {last:%Y-%m-%d}")
    if now < first:
        raise ConfigError(f"{source}: the certificate is not valid before {first:%Y-%m-%d %H:%M} UTC")
    return certificate


def load_private_key(pem: bytes, source: str) -> PrivateKeyTypes:
    """Read a private key that has no passphrase.

    Args:
        pem: the key.
        source: where it comes from, for messages.

    Raises:
        ConfigError: there is no key, or it has a passphrase.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConfigError(f"{source}: the private key has a passphrase, which nobody could enter") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{source}: holds no private key in PEM format") from None


def load_rsa_key(pem: bytes, source: str) -> RSAPrivateKey:
    """Read a private key, which must be an RSA key; see `load_private_key`."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    key = load_private_key(pem, source)
    if not isinstance(key, RSAPrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey")
        raise ConfigError(f"{source}: must be an RSA key, got one of kind {kind}")
    return key


def public_key_info(key: PublicKeyTypes) -> bytes:
    """A public key as DER SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_matches(key: PrivateKeyTypes, key_source: str, certificate: Certificate, source: str) -> None:
    """Check that a key and a certificate belong together.

    Raises:
        ConfigError: the certificate is for another key.
    """
    if public_key_info(key.public_key()) != public_key_info(certificate.public_key()):
        raise ConfigError(f"{key_source}: is not the key of the certificate in {source}")
