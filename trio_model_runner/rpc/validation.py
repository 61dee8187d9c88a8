"""Whether a response's headers and trailers are as RFC 9113, sections 8.1 to 8.3, wants them.

A response that is malformed is no answer, whatever else it says: intermediaries may read it in another way.
"""

from __future__ import annotations

import re
from typing import Final

from .headers import Fields

__all__ = ["MALFORMED", "NO_LENGTH", "check_fields"]

MALFORMED: Final = -2
NO_LENGTH: Final = -1

_NAME: Final = re.compile(r"[!-9;-@\[-~]+")
"""RFC 9113, section 8.2.1: visible ASCII without capital letters and colons."""

_FORBIDDEN_IN_VALUE: Final = re.compile(r"[\0\r\n]|\A[ \t]|[ \t]\Z")

_OF_THE_CONNECTION: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
)
"""RFC 9113, section 8.2.2."""

_STATUS: Final = re.compile(r"(?!101)[1-9][0-9][0-9]")  # HTTP/2 has no 101: RFC 9113, section 8.6
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_WITHOUT_BODY: Final = frozenset({"204", "304"})  # whose content-length, if any, is about another response


def check_fields(fields: Fields, trailers: bool) -> int:
    """Check the headers of a response, or its trailers.

    Returns:
        The content-length that the response must have, bytes; `NO_LENGTH` if it does not say, or
        `MALFORMED`.
    """
    status = ""
    if not trailers:
        if not (fields and fields[0][0] == ":status" and _STATUS.fullmatch(fields[0][1])):
            return MALFORMED
        status, fields = fields[0][1], fields[1:]
    lengths = set()
    for name, value in fields:
        if not _is_field(name, value):
            return MALFORMED
        if name == "content-length":
            lengths.add(value)
    if not lengths or trailers or status in _WITHOUT_BODY:
        return NO_LENGTH
    length = lengths.pop()
    return MALFORMED if lengths or not _LENGTH.fullmatch(length) else int(length)


def _is_field(name: str, value: str) -> bool:
    if not _NAME.fullmatch(name) or _FORBIDDEN_IN_VALUE.search(value):
        return False
    return name not in _OF_THE_CONNECTION and (name != "te" or value == "trailers")
