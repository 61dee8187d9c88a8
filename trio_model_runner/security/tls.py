"""TLS contexts for a client: which certificates it trusts.

`ssl.create_default_context` trusts what the system trusts. From Python 3.13 on, it requires extensions that
are in RFC 5280, but that private authorities often leave out. (The deployed ones do: their certificates have
no authority key identifier.) Contexts for a private authority don't require these extensions, so all versions
of Python accept the same certificates. Everything else is verified as strictly.
"""

from __future__ import annotations

import os
import ssl
import time
from typing import Any, Final

from ..errors import ConfigError
from .keys import read_file, shown_path

__all__ = ["client_context"]

_OLDEST_VERSION: Final = ssl.TLSVersion.TLSv1_2


def client_context(ca_file: str | os.PathLike[str] | None = None) -> ssl.SSLContext:
    """A context that verifies the server's certificate and its name, and speaks TLS 1.2 or later.

    Args:
        ca_file: the certificates (PEM) of the authorities to trust, no others; None trusts the system's.

    Raises:
        ConfigError: the file can't be read, or holds no certificate that is valid now.
    """
    if ca_file is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _trust(context, ca_file)
    context.minimum_version = max(context.minimum_version, _OLDEST_VERSION)
    return context


def _trust(context: ssl.SSLContext, ca_file: str | os.PathLike[str]) -> None:
    content = read_file(ca_file)
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
