"""A call's metadata: what may be sent, and what came.

Metadata are header fields, and share them with HTTP/2 and with gRPC itself. A peer that gets a field which
HTTP/2 forbids may end the connection, and with it all other calls. So whatever a peer may refuse is refused
here, before anything is sent. What is refused may be a secret: a token with the line break of the file that
it came from is a typical mistake. So no error shows a value; each names the key and the rule.

Two documents say what is allowed: RFC 9113, sections 8.1 to 8.3, and gRPC's "gRPC over HTTP2", section
"Requests":

- Keys have the characters 0-9, a-z, "_", "-" and ".". HTTP/2 has no upper case (RFC 9113, section 8.2.1), and
  its own fields begin with a colon (section 8.3).
- Text is printable ASCII, at least one character, without a blank at either end: HTTP/2 calls that malformed
  (section 8.2.1), and gRPC lets anybody strip it.
- Where a key ends in "-bin", the value is any bytes, sent in base64.
- Some names are taken (`_TAKEN`), and all that begin with "grpc-".

A proxy may join several values of one key by commas (RFC 9110, section 5.3). In text a comma may be part of
the value, so text stays as it came. Base64 has no commas, and gRPC says: "Implementations must split
Binary-Headers on ',' before decoding the Base64-encoded values". They come with padding or without.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from multidict import MultiDict

from ..text import quoted
from .headers import Fields, RawFields

__all__ = ["Metadata", "binary_values", "encode_metadata", "read_metadata"]

Metadata = MultiDict[Any]  # of text, and of bytes where the key ends in "-bin"

_BINARY: Final = "-bin"
_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_TEXT: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
_BASE64: Final = re.compile(r"([A-Za-z0-9+/]*)={0,2}")
_BLANKS: Final = " \t"

_GRPCS: Final = ("te", "content-type", "user-agent")
_TAKEN: Final[Mapping[str, str]] = {
    **dict.fromkeys(_GRPCS, "gRPC sends it itself"),
    **dict.fromkeys(
        ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"),
        "HTTP/2 forbids it (RFC 9113, section 8.2.2)",
    ),
    "host": "HTTP/2 has :authority instead (RFC 9113, section 8.3.1)",
    "content-length": "it must be the request's length in HTTP/2 (RFC 9113, section 8.1.1)",
}
"""Names that no metadata may have, and why."""


def encode_metadata(metadata: Mapping[str, Any] | Collection[tuple[str, Any]]) -> RawFields:
    """Give the header fields of a request's metadata.

    Args:
        metadata: text, and bytes where the key ends in "-bin"; pairs may repeat a key.

    Raises:
        TypeError: a value or a key has the wrong type.
        ValueError: they can't be sent. No error shows a value.
    """
    pairs = metadata.items() if isinstance(metadata, Mapping) else metadata
    return tuple(_encode(key, value) for key, value in pairs)


def read_metadata(fields: Fields) -> Metadata:
    """Give the metadata in a response's block of fields: all that has no meaning for gRPC or HTTP.

    Raises:
        GRPCError: a value of a "-bin" key is not base64; the error shows the key alone.
    """
    metadata: Metadata = MultiDict()
    for key, value in fields:
        if key.startswith((":", "grpc-")) or key in _GRPCS:
            continue
        if not key.endswith(_BINARY):
            metadata.add(key, value)
            continue
        values = binary_values(value)
        if values is None:
            text = f"the answer's metadata can't be read: the value of {quoted(key)} is not base64"
            raise GRPCError(Status.INTERNAL, text)
        for each in values:
            metadata.add(key, each)
    return metadata


def binary_values(text: str) -> list[bytes] | None:
    """Give the values in one field whose key ends in "-bin", which may be joined by commas.

    Returns:
        The values, at least one; None if one of them is not base64.
    """
    values = []
    for part in text.split(","):
        match = _BASE64.fullmatch(part.strip(_BLANKS))
        if match is None or len(match[1]) % 4 == 1:
            return None
        values.append(base64.b64decode(match[1] + "=" * (-len(match[1]) % 4)))
    return values


def _encode(key: object, value: object) -> tuple[bytes, bytes]:
    if not isinstance(key, str):
        raise TypeError(f"metadata: a key must be a str, not {type(key).__name__}")
    if not _KEY.fullmatch(key):
        raise ValueError(
            f"metadata: {quoted(key)} can't be a key: those have 0-9, a-z, '_', '-' and '.' alone"
        )
    if key in _TAKEN or key.startswith("grpc-"):
        reason = _TAKEN.get(key, "all that begin with 'grpc-' are gRPC's own")
        raise ValueError(f"metadata: {quoted(key)} can't be a key: {reason}")
    encode = _encode_binary if key.endswith(_BINARY) else _encode_text
    return key.encode("ascii"), encode(key, value)


def _encode_text(key: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError(
            f"metadata: the value of {quoted(key)} must be a str, not {type(value).__name__}:"
            f" bytes need a key that ends in '{_BINARY}'"
        )
    if not _TEXT.fullmatch(value):
        raise ValueError(
            f"metadata: the value of {quoted(key)} must be printable ASCII, at least one character, without"
            " a blank or a line break at either end"
        )
    return value.encode("ascii")


def _encode_binary(key: str, value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(
            f"metadata: the value of {quoted(key)} must be bytes, since its key ends in '{_BINARY}',"
            f" not {type(value).__name__}"
        )
    return base64.b64encode(value).rstrip(b"=")
