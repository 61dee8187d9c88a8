"""TLS contexts for a client: which certificates it trusts.

`ssl.create_default_context` trusts what the system trusts. From Python 3.13 on, it requires extensions that
are in RFC 5280, but that private authorities often leave out. (The deployed ones do: their certificates have
no authority key identifier.) Contexts for a private authority don't require these extensions, so all versions
of Python accept the same certificates. Everything else is verified as strictly. No context lets the other
end renegotiate (TLS 1.2): whoever was verified in the handshake is the one to the end.

A node's certificate must have the node's own name (`node_context`). For TLS, ``*.crunchdao.internal`` is the
name of all nodes, and whoever has such a certificate could stand in for each.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import ssl
import time
from typing import Any, Final

from ..errors import ConfigError
from .keys import read_file, shown_path

__all__ = ["client_context", "node_context", "warn_of_plaintext"]

logger = logging.getLogger("trio_model_runner.security")

_OLDEST_VERSION: Final = ssl.TLSVersion.TLSv1_2
_LOCAL_NAMES: Final = frozenset(("localhost", "localhost6", "ip6-localhost", "ip6-loopback"))
"""The last ones are in ``/etc/hosts`` of Fedora and Debian, for ``::1``."""

_HOSTNAME_MISMATCH: Final = 62  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH


def client_context(ca_file: str | os.PathLike[str] | None = None, *, argument: str = "") -> ssl.SSLContext:
    """A context that verifies the server's certificate and its name, and speaks TLS 1.2 or later.

    A wildcard in the certificate is a name as any other.

    Args:
        ca_file: the certificates (PEM) of the authorities to trust, no others; None trusts the system's.
        argument: the name of the argument or setting that has the path, for messages.

    Raises:
        ConfigError: the file can't be read, or holds no certificate that is valid now.
    """
    if ca_file is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _trust(context, ca_file, argument)
    context.minimum_version = max(context.minimum_version, _OLDEST_VERSION)
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


class _ExactNameObject(ssl.SSLObject):
    """One end of a TLS connection; the handshake fails unless the certificate has exactly the name asked for.

    OpenSSL has verified the certificate by then, and has found a name that matches. Whether that was a
    wildcard it doesn't say.
    """

    def do_handshake(self) -> None:
        """See `ssl.SSLObject`."""
        super().do_handshake()
        name = self.server_hostname or ""
        certificate = self.getpeercert() or {}
        alternatives: Any = certificate.get("subjectAltName", ())
        if not any(kind == "DNS" and text.lower() == name.lower() for kind, text in alternatives):
            message = f"Hostname mismatch, certificate is not valid for {name!r} itself"
            error = ssl.SSLCertVerificationError(ssl.SSLErrorNumber.SSL_ERROR_SSL, message)
            error.verify_code, error.verify_message = _HOSTNAME_MISMATCH, message
            raise error


def node_context(ca_file: str | os.PathLike[str], *, argument: str = "") -> ssl.SSLContext:
    """The same for nodes, which have to have a certificate with exactly their name.

    The name must be one of the certificate's DNS names (subjectAltName). No wildcard and no IP address passes
    for it, nor the common name, which the certificate's owner chooses freely.

    This is for `ssl.SSLContext.wrap_bio` with a handshake of its own, as Trio has it. A socket of the
    standard library (``wrap_socket``) would take wildcards.

    Args:
        ca_file: the certificates (PEM) of the authorities to trust, no others.
        argument: the name of the argument or setting that has the path, for messages.

    Raises:
        ConfigError: see `client_context`.
    """
    context = client_context(ca_file, argument=argument)
    context.hostname_checks_common_name = False
    context.sslobject_class = _ExactNameObject
    return context


def warn_of_plaintext(host: str) -> None:
    """Log a warning that the orchestrator says in plaintext who the nodes are, though there are credentials.

    There is none if it is on this machine: nobody is on the way then.

    Args:
        host: the orchestrator's.
    """
    name = host.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        local = name in _LOCAL_NAMES or name.endswith(".localhost")  # RFC 6761, section 6.3
    else:
        address = getattr(address, "ipv4_mapped", None) or address  # as ::ffff:127.0.0.1
        local = address.is_loopback or address.is_unspecified  # the kernel connects 0.0.0.0 to itself
    if not local:
        logger.warning(
            "the orchestrator at %r is spoken to without TLS, though there are credentials: whoever is on the"
            " way can name other nodes, and other wallets; tls or tls_ca_file prevents that",
            host,
        )


def _trust(context: ssl.SSLContext, ca_file: str | os.PathLike[str], argument: str) -> None:
    content = read_file(ca_file, argument=argument)
    source = shown_path(ca_file)
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        raise ConfigError(f"{source}: holds no certificate in PEM format") from None
    certificates = context.get_ca_certs()
    if certificates and not any(map(_is_valid_now, certificates)):
        raise ConfigError(f"{source}: no certificate in it is valid now")


def _is_valid_now(certificate: dict[str, Any]) -> bool:
    first, last = (ssl.cert_time_to_seconds(certificate[name]) for name in ("notBefore", "notAfter"))
    return first <= time.time() <= last
