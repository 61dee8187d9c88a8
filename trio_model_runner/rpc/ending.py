"""Why a connection ended, or takes no new calls: a value, which nobody needs to parse.

A program that must know whether its server closed in peace asks for the cause and the code. The text is for
people: it goes into logs and results, and its words may change.
"""

from __future__ import annotations

import enum
from typing import Final

import attrs
import trio

from ..network.tls import explain
from ..text import readable, with_reason
from .frames import ErrorCode, error_name

__all__ = ["EndCause", "Ending", "explain_no_settings"]

_TOO_MANY_PINGS: Final = b"too_many_pings"
_LONGEST_DEBUG_DATA: Final = 200
_TLS_RECORDS: Final = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake: RFC 8446, section 5.1


class EndCause(enum.Enum):
    """What made a connection end, or take no new calls."""

    CLOSED_BY_US = "closed by us"
    """This program closed it or gave it up."""

    RETIRED = "retired"
    """This program wants no new calls on it."""

    STREAM_IDS_USED_UP = "stream ids used up"
    """It has carried as many calls as HTTP/2 has ids for."""

    CLOSED_BY_SERVER = "closed by the server"
    """The server closed the byte stream without a GOAWAY."""

    GOAWAY = "GOAWAY"
    """The server takes no new calls on it. The ending has the error code."""

    TOO_MANY_PINGS = "too many pings"
    """The server sent the GOAWAY with which gRPC's servers object to PINGs."""

    BROKEN = "broken"
    """The byte stream failed."""

    TLS_FAILED = "TLS failed"
    """TLS failed, and said why: a certificate was refused, for example."""

    PROTOCOL_VIOLATION = "protocol violation"
    """The server sent what HTTP/2 forbids."""

    TOO_MUCH_WORK = "too much work for nothing"
    """The server sent too much that brings no call forward; see `budget`."""

    NO_ANSWER_TO_PING = "no answer to a PING"
    """The server did not answer a PING in time."""

    SPEAKS_TLS = "speaks TLS"
    """The port wants TLS, and this connection is plaintext."""

    SPEAKS_HTTP1 = "speaks HTTP/1"
    """The server speaks HTTP/1."""


@attrs.frozen
class Ending:
    """Why a connection ended, or takes no new calls; `str` gives the text for people.

    Attributes:
        cause: what made it end.
        detail: the same in words, with all that is known.
        code: the error code of the server's GOAWAY (RFC 9113, section 7); None where there was none.
    """

    cause: EndCause
    detail: str
    code: int | None = None

    def __str__(self) -> str:
        return self.detail

    @property
    def peaceful(self) -> bool:
        """Whether the server retired the connection in peace: by a GOAWAY with the code NO_ERROR."""
        return self.cause is EndCause.GOAWAY and self.code == ErrorCode.NO_ERROR

    @classmethod
    def by_error(cls, error: trio.BrokenResourceError | trio.ClosedResourceError) -> Ending:
        """The ending that an error of the byte stream means."""
        tls = explain(error)
        if tls is not None:
            return cls(EndCause.TLS_FAILED, tls)
        return cls(EndCause.BROKEN, with_reason("the connection broke", error.__cause__ or error))

    @classmethod
    def by_violation(cls, code: int, reason: str) -> Ending:
        """The ending that we make, for what the server did.

        Args:
            code: the error code that it is told (RFC 9113, section 7).
            reason: what it did.
        """
        if code == ErrorCode.ENHANCE_YOUR_CALM:
            return cls(EndCause.TOO_MUCH_WORK, f"the server sent too much for nothing: {reason}")
        return cls(EndCause.PROTOCOL_VIOLATION, f"the server broke the protocol: {reason}")

    @classmethod
    def by_goaway(cls, code: int, debug_data: bytes) -> Ending:
        """The ending that a GOAWAY from the server means.

        Args:
            code: its error code.
            debug_data: its text for people, if any.
        """
        calm = code == ErrorCode.ENHANCE_YOUR_CALM and debug_data == _TOO_MANY_PINGS
        text = readable(debug_data.decode("ascii", "replace"), _LONGEST_DEBUG_DATA)
        detail = f"the server said GOAWAY: {error_name(code)}{f' ({text})' if text else ''}"
        return cls(EndCause.TOO_MANY_PINGS if calm else EndCause.GOAWAY, detail, code)


def explain_no_settings(ending: Ending, first_bytes: bytes, *, encrypted: bool) -> Ending:
    """Say better why a connection ended on which the server's SETTINGS never came.

    Args:
        ending: how it ended, as far as the byte stream knows.
        first_bytes: what came first, a few bytes of it.
        encrypted: the connection spoke TLS.
    """
    if first_bytes.startswith(_TLS_RECORDS):
        return Ending(EndCause.SPEAKS_TLS, "the server speaks TLS, and this connection is plaintext")
    if first_bytes.startswith(b"HTTP/1"):
        return Ending(EndCause.SPEAKS_HTTP1, "the server speaks HTTP/1, not gRPC")
    if first_bytes or ending.cause not in (EndCause.CLOSED_BY_SERVER, EndCause.BROKEN):
        return ending
    other = "a server that refuses our certificate" if encrypted else "a port that wants TLS"
    return Ending(ending.cause, f"{ending.detail} before its HTTP/2 SETTINGS ({other} does that, too)")
