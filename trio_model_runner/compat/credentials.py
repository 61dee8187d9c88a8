"""Credentials of the asyncio client made ours: they hold the same files and keys."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..security import Credentials, GatewayCredentials, SecureCredentials
from ..security.keys import public_key_info
from ..text import shown

__all__ = ["to_credentials"]


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
        return gateway if isinstance(gateway, GatewayCredentials) else _gateway(gateway)
    return None


def _secure(theirs: Any) -> SecureCredentials:
    """Write the three files once more, for a moment: TLS libraries read files, and theirs were read before.

    To take their SSL context would leave out what ours checks: dates, keys, and a node's exact name.
    """
    try:
        contents = {"ca.crt": theirs.ca_bytes, "tls.crt": theirs.cert_bytes, "tls.key": theirs.key_bytes}
    except AttributeError:
        raise TypeError(f"secure_credentials: must be SecureCredentials, got {shown(type(theirs))}") from None
    with tempfile.TemporaryDirectory() as directory:  # which this user alone may enter
        for name, content in contents.items():
            path = Path(directory, name)
            path.touch(mode=0o600)
            path.write_bytes(content)
        return SecureCredentials.from_directory(directory)


def _gateway(theirs: Any) -> GatewayCredentials:
    try:
        key = theirs.private_key
        return GatewayCredentials(public_key_info(key.public_key()), key)
    except AttributeError:
        raise TypeError(
            f"gateway_credentials: must be GatewayCredentials, got {shown(type(theirs))}"
        ) from None
