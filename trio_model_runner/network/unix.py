"""Streams to a UNIX socket."""

from __future__ import annotations

import os
from typing import Any, Final

import attrs
import trio

from ..text import kind_of_secret, shown
from .base import Network

__all__ = ["UnixNetwork"]

_LONGEST_PATH: Final = 108  # bytes, of ``sockaddr_un.sun_path`` (unix(7)); other systems have fewer


def _to_path(value: Any) -> Any:
    """Convert a path to text, and leave everything else for the validator."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _check_path(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"path: must be a str, got {type(value).__name__}")
    if not value:
        raise ValueError("path: must be the path of a socket, and not empty")
    if len(value) > _LONGEST_PATH:
        kind = kind_of_secret(value) or f"{len(value)} characters, more than any socket's path has"
        raise ValueError(f"path: holds {kind}; the path of a socket is wanted")


def _shown_path(path: str) -> str:
    return shown(path, 2 * _LONGEST_PATH)  # with quotes, and what is written out


@attrs.frozen
class UnixNetwork(Network):
    """A UNIX socket: one server on this machine. Host and port are ignored.

    Attributes:
        path: where the socket is. What could be a key is not shown.

    Raises:
        TypeError: `path` is no path.
        ValueError: it is longer than any socket's.
    """

    path: str = attrs.field(converter=_to_path, validator=_check_path, repr=_shown_path)

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Connect to the socket; see `Network.connect`."""
        try:
            return await trio.open_unix_socket(self.path)
        except OSError as error:
            # The error must say what was not found.
            error.filename = self.path if kind_of_secret(self.path) is None else _shown_path(self.path)
            raise
