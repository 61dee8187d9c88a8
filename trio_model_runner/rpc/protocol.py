"""What gRPC puts on HTTP/2: request headers, timeouts, statuses. Messages are in `messages`.

Pure functions, after the specification "gRPC over HTTP2". Statuses are grpclib's type. A call's metadata are
in `metadata`.
"""

from __future__ import annotations

import functools
import math
import platform
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ..version import VERSION
from .headers import Fields, RawFields

__all__ = [
    "NotGRPC",
    "check_headers",
    "encode_timeout",
    "over_limit_error",
    "page_error",
    "raise_for_status",
    "read_status",
    "request_fields",
]

_USER_AGENT: Final = f"grpc-python-trio-model-runner/{VERSION} ({platform.system()})".lower().encode()

_MAX_TIMEOUT_DIGITS_VALUE: Final = 99_999_999
_TIMEOUT_UNITS: Final = (("n", 1e-9), ("u", 1e-6), ("m", 1e-3), ("S", 1.0), ("M", 60.0), ("H", 3600.0))

_STATUS_OF_CODE: Final = {str(status.value): status for status in Status}

_CONTENT_TYPE: Final = re.compile(r"application/grpc([+;].*)?", re.IGNORECASE)

_STATUS_OF_HTTP: Final = {
    "400": Status.INTERNAL,
    "401": Status.UNAUTHENTICATED,
    "403": Status.PERMISSION_DENIED,
    "404": Status.UNIMPLEMENTED,
    "429": Status.UNAVAILABLE,
    "502": Status.UNAVAILABLE,
    "503": Status.UNAVAILABLE,
    "504": Status.UNAVAILABLE,
}


class NotGRPC(GRPCError):
    """A response is none of gRPC's: a page of HTTP, as proxies make them.

    The status is that of gRPC's table for HTTP's ("HTTP to gRPC Status Code Mapping").
    """


def request_fields(
    path: str,
    *,
    scheme: str,
    authority: str,
    metadata: Iterable[tuple[str, str]] = (),
    content_type: str = "application/grpc",
) -> RawFields:
    """The request headers of a call to `path` ("/package.Service/Method")."""
    return (
        (b":method", b"POST"),
        (b":scheme", scheme.encode("ascii")),
        (b":path", path.encode("ascii")),
        (b":authority", authority.encode("ascii")),
        (b"te", b"trailers"),
        (b"content-type", content_type.encode("ascii")),
        (b"user-agent", _USER_AGENT),
        *((name.encode("ascii"), value.encode("ascii")) for name, value in metadata),
    )


@functools.lru_cache(maxsize=64)  # a round's calls have the same time left, to the millisecond
def encode_timeout(seconds: float) -> RawFields:
    """The `grpc-timeout` header for so many seconds: at most 8 digits, rounded up; none for infinity.

    Raises:
        ValueError: not a number.
    """
    if math.isnan(seconds):
        raise ValueError("a timeout is not a number")
    for unit, length in _TIMEOUT_UNITS:
        count = max(seconds, 0.0) / length
        if count <= _MAX_TIMEOUT_DIGITS_VALUE:
            return ((b"grpc-timeout", b"%d%s" % (max(1, math.ceil(count)), unit.encode())),)
    return ()


@functools.lru_cache(maxsize=256)  # a server's good answers have the same few blocks; errors are not kept
def raise_for_status(headers: Fields, trailers: Fields | None) -> None:
    """Check that a response is gRPC's, and that its status is OK.

    Args:
        headers: the response's headers; of a "trailers-only" response, its only block.
        trailers: its trailers, None if it ended without.

    Raises:
        GRPCError: the status is another one, or it is no gRPC response.
    """
    last = headers if trailers is None else trailers
    check_headers(headers, last)
    status, message = read_status(last)
    if status is not Status.OK:
        raise GRPCError(status, message)


def check_headers(headers: Fields, last: Fields) -> None:
    """Check that a response whose status is expected in `last` is gRPC's, as far as its headers say.

    Raises:
        NotGRPC: it is not.
    """
    if last is headers and any(name == "grpc-status" for name, _ in last):
        content_type = _content_type(headers)
        if content_type is None or _CONTENT_TYPE.fullmatch(content_type):
            return  # a status alone; grpclib's server has no content-type where it has no such method
    page = page_error(headers)
    if page is not None:
        raise NotGRPC(*page)


@functools.lru_cache(maxsize=256)  # a server's good answers have the same headers
def page_error(headers: Fields) -> tuple[Status, str] | None:
    """What it means that a response with a body is none of gRPC's, by its headers; None if it is one.

    That is known before the body: a page of a proxy's is no compressed message.
    """
    content_type = _content_type(headers)
    http_status = headers[0][1]
    if http_status != "200":
        status = _STATUS_OF_HTTP.get(http_status, Status.UNKNOWN)
        return status, f"the server answered with HTTP status {http_status!r}"
    if content_type is None or not _CONTENT_TYPE.fullmatch(content_type):
        return Status.UNKNOWN, f"the answer's content-type is {content_type!r}, not gRPC's"
    return None


def _content_type(headers: Fields) -> str | None:
    return next((value for name, value in headers if name == "content-type"), None)


def over_limit_error() -> GRPCError:
    """What it means that a response's headers are larger than allowed, and that it does not fail anyway."""
    return GRPCError(Status.RESOURCE_EXHAUSTED, "the answer's headers are over the limit, max_header_bytes")


def read_status(last: Fields) -> tuple[Status, str | None]:
    """The status in a response's last block of fields, and its message.

    Raises:
        GRPCError: there is none, or one that nobody knows.
    """
    fields = dict(last)
    code = fields.get("grpc-status")
    if any(name == "grpc-status" and value != code for name, value in last):
        raise GRPCError(Status.UNKNOWN, "the answer has several grpc-status")
    if code == "0":
        return Status.OK, None
    # Percent-encoded UTF-8 by the specification. Some servers send it raw, and here it has a letter a byte.
    message = unquote_to_bytes(fields.get("grpc-message", "").encode("latin-1")).decode("utf-8", "replace")
    if code is None:
        raise GRPCError(Status.UNKNOWN, "the answer has no grpc-status")
    if code not in _STATUS_OF_CODE:
        raise GRPCError(Status.UNKNOWN, f"the unknown grpc-status {code!r}: {message}")
    return _STATUS_OF_CODE[code], message or None
