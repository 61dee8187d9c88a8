"""Credentials for the secure model protocol: TLS with certificates on both sides.

The platform's certificate tool, ``crunch-certificate``, makes a directory with three files: the certificate
of the authority that issues the nodes' certificates, this coordinator's certificate, and its key. A node
takes calls from this coordinator only: it knows a hash of the coordinator's public key from the chain.

The key stays in its file and in the TLS library: nothing here holds its bytes.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Self

import attrs

from ..errors import ConfigError
from ..text import with_reason
from .keys import (
    as_path,
    check_matches,
    load_certificate,
    load_private_key,
    read_file,
    require_packages,
    warn_of_readers,
)
from .tls import node_context

__all__ = ["SecureCredentials"]


@attrs.frozen
class SecureCredentials:
    """A coordinator's certificate and key, and the authority that issues the nodes' certificates.

    Use `from_directory` or `from_files`, which read and check the files.

    Attributes:
        ca_file: the authority's certificate, PEM.
        certificate_file: the coordinator's certificate, or chain, PEM.
        key_file: the coordinator's private key, PEM.
        context: an SSL context with that certificate, which trusts that authority only.
    """

    ca_file: Path
    certificate_file: Path
    key_file: Path
    context: ssl.SSLContext = attrs.field(repr=False, eq=False)

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str]) -> Self:
        """Load ``ca.crt``, ``tls.crt`` and ``tls.key`` from a directory; see `from_files`."""
        directory = as_path(path, "path")
        paths = directory / "ca.crt", directory / "tls.crt", directory / "tls.key"
        return cls._load(paths, ("path", "path", "path"))

    @classmethod
    def from_files(
        cls,
        ca_cert_path: str | os.PathLike[str],
        tls_cert_path: str | os.PathLike[str],
        tls_key_path: str | os.PathLike[str],
    ) -> Self:
        """Load a certificate, its key and the nodes' authority. This blocks for a moment.

        If other users of the machine may read the key's file, or replace it, a warning is logged.

        Args:
            ca_cert_path: the authority's certificate, PEM.
            tls_cert_path: the coordinator's certificate, or chain, PEM.
            tls_key_path: its private key, PEM, without a passphrase.

        Raises:
            ConfigError: a file can't be read or holds something else, the key is not the certificate's, a
                certificate is not valid now, or a package is missing. The text names the file.
        """
        arguments = "ca_cert_path", "tls_cert_path", "tls_key_path"
        paths = map(as_path, (ca_cert_path, tls_cert_path, tls_key_path), arguments)
        return cls._load(tuple(paths), arguments)

    @classmethod
    def _load(cls, paths: tuple[Path, ...], arguments: tuple[str, ...]) -> Self:
        require_packages()
        ca_file, certificate_file, key_file = paths
        context = node_context(ca_file, argument=arguments[0])
        certificate_source, key_source = repr(str(certificate_file)), repr(str(key_file))
        content = read_file(certificate_file, argument=arguments[1])
        certificate = load_certificate(content, certificate_source)
        key = load_private_key(read_file(key_file, argument=arguments[2]), key_source)
        check_matches(key, key_source, certificate, certificate_source)
        try:
            # Without a password, OpenSSL would ask the terminal for a passphrase.
            context.load_cert_chain(certificate_file, key_file, password=lambda: "")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            files = f"{certificate_source} and {key_source}"
            raise ConfigError(with_reason(f"{files}: can't be used for TLS", error)) from None
        warn_of_readers(key_file)
        return cls(ca_file, certificate_file, key_file, context)
