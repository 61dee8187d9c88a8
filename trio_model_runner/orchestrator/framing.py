"""What the frames of a WebSocket may cost, apart from the messages that they make.

The limit of a message's size counts its text. But a frame can be two bytes long, and have no text at all
(RFC 6455, section 5.4). Each piece of an unfinished message is kept, and each frame takes time. Here the
frames are counted, on their way to the library that understands them:

- *Fragments.* A message may have 1,000 more than it has KiB. Who sends large messages in pieces, uses pieces
  of several KiB.
- *Control frames.* A peer may send 1,000 at once, and 100 a second. A few a minute are common: pings, and
  answers to ours.

A frame may also come byte by byte, and each byte would be a piece that is kept. So `FrameCounter.feed` says
whether something has become complete; else one may as well wait for more. This module does no I/O, and has no
clock.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["FrameCounter", "TooManyFramesError", "end_of_handshake"]

_FRAGMENTS: Final = 1000
_BYTES_A_FRAGMENT: Final = 1024
_CONTROL_FRAMES: Final = 1000
_CONTROL_FRAMES_A_SECOND: Final = 100

_FIN: Final = 0x80
_CONTROL: Final = 0x08  # the opcodes of control frames have this bit (RFC 6455, section 5.5)
_MASK: Final = 0x80
_LENGTH: Final = 0x7F
_LENGTH_BYTES: Final = {126: 2, 127: 8}
_SHORTEST_EXTENDED: Final = 126
_MASK_BYTES: Final = 4
_LONGEST_HEADER: Final = 14

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")  # as h11 has it
_STATUS: Final = re.compile(rb"HTTP/[0-9]\.[0-9] (?!101)[0-9]{3}")


class TooManyFramesError(Exception):
    """The peer sends too many frames for what they bring. The text says what."""


def end_of_handshake(data: bytes | bytearray, start: int = 0) -> int | None:
    """Where the frames begin in all that a server has sent, its answer to the handshake included.

    Args:
        data: all of it.
        start: how much of it was looked at before.

    Returns:
        an index; None if the answer's head has not ended yet, or refuses the handshake.
    """
    blank = _BLANK_LINE.search(data, max(0, start - 2))
    return None if blank is None or _STATUS.match(data) else blank.end()


class FrameCounter:
    """Counts the frames of one connection, and refuses too many.

    Args:
        now: the time, in seconds, as in `feed`.
    """

    def __init__(self, now: float) -> None:
        self._header = bytearray()  # of a frame, as far as it has come
        self._missing = 0  # bytes of the frame's payload
        self._fragments = 0  # of the message that is not finished
        self._brought = 0  # bytes of those fragments
        self._spare = float(_CONTROL_FRAMES)
        self._counted_at = now

    def feed(self, data: bytes | bytearray, now: float) -> bool:
        """Count what has come, and return whether a frame has become complete.

        Args:
            data: the next bytes.
            now: the time, in seconds.

        Raises:
            TooManyFramesError: these are too many.
        """
        gained = (now - self._counted_at) * _CONTROL_FRAMES_A_SECOND
        self._spare = min(self._spare + gained, float(_CONTROL_FRAMES))
        self._counted_at = now
        complete = False
        position, end = 0, len(data)
        while position < end:
            if self._missing:
                taken = min(self._missing, end - position)
                self._missing -= taken
                position += taken
            elif not self._header and position + 1 < end and data[position + 1] < _SHORTEST_EXTENDED:
                self._begin_frame(data[position], data[position + 1])  # a short header, as most are
                position += 2
            else:
                position += self._read_header(data[position : position + _LONGEST_HEADER])
            complete = complete or not (self._missing or self._header)
        return complete

    def _read_header(self, data: bytes | bytearray) -> int:
        """Read a header, or a part of one, and return how many of these bytes it has."""
        header = self._header
        before = len(header)
        header += data
        size = _header_size(header)
        if len(header) < size:
            return len(data)
        length = header[1] & _LENGTH
        if length >= _SHORTEST_EXTENDED:
            length = int.from_bytes(header[2 : 2 + _LENGTH_BYTES[length]])
        self._begin_frame(header[0], length)
        header.clear()
        return size - before

    def _begin_frame(self, first: int, length: int) -> None:
        self._missing = length
        if first & _CONTROL:
            self._spare -= 1
            if self._spare < 0:
                raise TooManyFramesError(
                    f"over {_CONTROL_FRAMES} control frames, and over {_CONTROL_FRAMES_A_SECOND} a second"
                )
        elif first & _FIN:
            self._fragments = self._brought = 0
        else:
            self._fragments += 1
            if self._fragments > _FRAGMENTS + self._brought // _BYTES_A_FRAGMENT:
                raise TooManyFramesError(
                    f"a message in {self._fragments} fragments, in which were {self._brought} bytes"
                )
            self._brought += length


def _header_size(header: bytearray) -> int:
    """How long a frame's header is, as far as its first bytes say (RFC 6455, section 5.2)."""
    if len(header) < 2:
        return 2
    return 2 + _LENGTH_BYTES.get(header[1] & _LENGTH, 0) + (_MASK_BYTES if header[1] & _MASK else 0)
