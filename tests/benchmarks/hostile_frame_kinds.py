"""Kinds of misbehaviour with frames that need no header block: SETTINGS, DATA, PING and the rest.

Each frame of these takes its sender 9 bytes and a little more, and its reader a turn. Flow control is obeyed
everywhere, so that no frame is refused for that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from hostile_peer import Peer, kind, on_newest
from hostile_wire import OK, Flag, Setting, Type, data, frame, headers, padded, setting

NO_ERROR = bytes(4)
REFUSED_STREAM = b"\0\0\0\7"
CANCEL = b"\0\0\0\x08"
ONE = b"\0\0\0\1"
LAST_STREAM = b"\x7f\xff\xff\xff"
LARGEST_MESSAGE = b"\0" + (64 << 20).to_bytes(4, "big")
"""How a gRPC message of 64 MiB begins."""
TWICE_THE_LARGEST = 5 * 2 * (64 << 20) / 1e6
"""MB; each of five nodes may have as large a message read, and put together."""


def again(piece: bytes) -> Callable[[int], Iterator[bytes]]:
    """The same piece again and again, whatever the stream."""
    return lambda stream: itertools.repeat(piece)


def on_stream(make: Callable[[int], bytes]) -> Callable[[int], Iterator[bytes]]:
    """A small frame of a stream, 10,000 times in a piece, again and again."""
    return lambda stream: itertools.repeat(make(stream) * 10_000)


@kind()
def settings_table(peer: Peer, stream: int) -> Iterator[bytes]:
    """SETTINGS that change the header table's size 2,600 times a frame, to 0 and back."""
    changes = (setting(Setting.HEADER_TABLE_SIZE, 0) + setting(Setting.HEADER_TABLE_SIZE, 4096)) * 1300
    return on_newest(peer, again(frame(Type.SETTINGS, 0, 0, changes) * 6))


@kind()
def settings_window(peer: Peer, stream: int) -> Iterator[bytes]:
    """SETTINGS that change the streams' initial window 2,600 times a frame, down and up, calls being open."""
    changes = (setting(Setting.INITIAL_WINDOW_SIZE, 0) + setting(Setting.INITIAL_WINDOW_SIZE, 65_535)) * 1300
    return on_newest(peer, again(frame(Type.SETTINGS, 0, 0, changes) * 6))


@kind()
def settings_streams(peer: Peer, stream: int) -> Iterator[bytes]:
    """SETTINGS that change how many streams there may be, and how large a frame, 2,600 times a frame."""
    changes = (setting(Setting.MAX_CONCURRENT_STREAMS, 0) + setting(Setting.MAX_FRAME_SIZE, 16_384)) * 650
    changes += (setting(Setting.MAX_CONCURRENT_STREAMS, 100) + setting(Setting.MAX_FRAME_SIZE, 65_536)) * 650
    return on_newest(peer, again(frame(Type.SETTINGS, 0, 0, changes) * 6))


@kind()
def settings_unknown(peer: Peer, stream: int) -> Iterator[bytes]:
    """SETTINGS with 2,700 entries that nobody knows."""
    entries = b"".join(setting(0x1000 + each, each) for each in range(2700))
    return on_newest(peer, again(frame(Type.SETTINGS, 0, 0, entries) * 6))


@kind()
def settings_empty(peer: Peer, stream: int) -> Iterator[bytes]:
    """Empty SETTINGS, each of which must be acknowledged."""
    return on_newest(peer, again(frame(Type.SETTINGS, 0, 0) * 10_000))


@kind()
def settings_ack(peer: Peer, stream: int) -> Iterator[bytes]:
    """Acknowledgements of SETTINGS that were never sent."""
    return on_newest(peer, again(frame(Type.SETTINGS, Flag.ACK, 0) * 10_000))


def within_window(peer: Peer, first: bytes, payload: bytes, flags: int = 0) -> Iterator[bytes]:
    """DATA frames for the newest call, as many as its window lets through, until the client gives it up.

    Args:
        peer: the connection.
        first: what the body begins with.
        payload: of the frame that is repeated. The windows count all of it (RFC 9113, 6.9.1).
        flags: of that frame.
    """
    size = len(payload)
    while True:
        stream = peer.stream
        single = frame(Type.DATA, flags, stream, payload)
        count = 200_000 // len(single)
        many = single * count
        yield headers(stream, OK)
        if first and peer.take(stream, len(first), len(first)):
            yield data(stream, first)
        while granted := peer.take(stream, count * size, size):
            yield many[: granted // size * len(single)]
        peer.next_call(stream)


@kind(memory=TWICE_THE_LARGEST)
def data_bytes(peer: Peer, stream: int) -> Iterator[bytes]:
    """A message of 64 MiB, as it may be, in DATA frames of a byte each."""
    return within_window(peer, LARGEST_MESSAGE, b"x")


@kind(memory=TWICE_THE_LARGEST)
def data_bytes_padded(peer: Peer, stream: int) -> Iterator[bytes]:
    """A message of 64 MiB in DATA frames of a byte, each with 255 bytes of padding."""
    return within_window(peer, LARGEST_MESSAGE, padded(b"x"), Flag.PADDED)


@kind(memory=TWICE_THE_LARGEST)
def data_kilobytes(peer: Peer, stream: int) -> Iterator[bytes]:
    """A message of 64 MiB in DATA frames of 1 KiB: small, but useful."""
    return within_window(peer, LARGEST_MESSAGE, bytes(1024))


@kind()
def data_padding(peer: Peer, stream: int) -> Iterator[bytes]:
    """DATA frames of padding alone."""
    return within_window(peer, b"", padded(b""), Flag.PADDED)


@kind()
def messages_empty(peer: Peer, stream: int) -> Iterator[bytes]:
    """Empty messages without end, 3,200 a frame, where one answer is due."""
    return within_window(peer, b"", bytes(16_000))


@kind()
def data_empty(peer: Peer, stream: int) -> Iterator[bytes]:
    """Empty DATA frames, after proper headers."""

    def pieces(stream: int) -> Iterator[bytes]:
        yield headers(stream, OK)
        yield from itertools.repeat(data(stream) * 10_000)

    return on_newest(peer, pieces)


@kind()
def data_empty_padded(peer: Peer, stream: int) -> Iterator[bytes]:
    """DATA frames with the flag for padding, and none: a byte that says 0. The window counts it."""
    return within_window(peer, b"", b"\0", Flag.PADDED)


@kind()
def data_closed(peer: Peer, stream: int) -> Iterator[bytes]:
    """DATA frames of a byte for calls that were answered."""

    def pieces(stream: int) -> Iterator[bytes]:
        many = data(stream, b"x") * 10_000
        while granted := peer.take(0, 10_000):
            yield many[: granted * 10]

    return on_newest(peer, pieces, answered=True)


@kind()
def data_closed_large(peer: Peer, stream: int) -> Iterator[bytes]:
    """DATA frames of 16,000 bytes for calls that were answered."""

    def pieces(stream: int) -> Iterator[bytes]:
        one = data(stream, bytes(16_000))
        while granted := peer.take(0, 160_000, 16_000):
            yield one * (granted // 16_000)

    return on_newest(peer, pieces, answered=True)


@kind()
def data_closed_empty(peer: Peer, stream: int) -> Iterator[bytes]:
    """Empty DATA frames for calls that were answered."""
    return on_newest(peer, on_stream(lambda stream: data(stream)), answered=True)


@kind()
def window_connection(peer: Peer, stream: int) -> Iterator[bytes]:
    """WINDOW_UPDATEs of 1 for the connection."""
    return on_newest(peer, again(frame(Type.WINDOW_UPDATE, 0, 0, ONE) * 10_000))


@kind()
def window_stream(peer: Peer, stream: int) -> Iterator[bytes]:
    """WINDOW_UPDATEs of 1 for an open call."""
    return on_newest(peer, on_stream(lambda stream: frame(Type.WINDOW_UPDATE, 0, stream, ONE)))


@kind()
def window_closed(peer: Peer, stream: int) -> Iterator[bytes]:
    """WINDOW_UPDATEs of 1 for calls that were answered."""
    return on_newest(peer, on_stream(lambda stream: frame(Type.WINDOW_UPDATE, 0, stream, ONE)), answered=True)


@kind()
def ping(peer: Peer, stream: int) -> Iterator[bytes]:
    """PINGs, whose answers are read."""
    return on_newest(peer, again(frame(Type.PING, 0, 0, bytes(8)) * 1000))


@kind()
def ping_unread(peer: Peer, stream: int) -> Iterator[bytes]:
    """PINGs, whose answers are not read."""
    peer.deaf = True
    return on_newest(peer, again(frame(Type.PING, 0, 0, bytes(8)) * 10_000))


@kind()
def ping_ack(peer: Peer, stream: int) -> Iterator[bytes]:
    """Acknowledgements of PINGs that were never sent."""
    return on_newest(peer, again(frame(Type.PING, Flag.ACK, 0, bytes(8)) * 10_000))


@kind()
def goaway(peer: Peer, stream: int) -> Iterator[bytes]:
    """GOAWAYs, again and again, that give no call up."""
    return on_newest(peer, again(frame(Type.GOAWAY, 0, 0, LAST_STREAM + NO_ERROR) * 10_000))


@kind()
def goaway_debug(peer: Peer, stream: int) -> Iterator[bytes]:
    """GOAWAYs with 16 KB of debug data."""
    return on_newest(peer, again(frame(Type.GOAWAY, 0, 0, LAST_STREAM + NO_ERROR + bytes(16_376)) * 12))


@kind()
def unknown_empty(peer: Peer, stream: int) -> Iterator[bytes]:
    """Empty frames of a type that nobody knows."""
    return on_newest(peer, again(frame(Type.UNKNOWN, 0, 0) * 10_000))


@kind()
def unknown_large(peer: Peer, stream: int) -> Iterator[bytes]:
    """Frames of 16 KiB of a type that nobody knows."""
    return on_newest(peer, again(frame(Type.UNKNOWN, 0, 0, bytes(16_384)) * 40))


@kind()
def priority(peer: Peer, stream: int) -> Iterator[bytes]:
    """PRIORITY frames for streams that were never opened."""
    return on_newest(peer, again(frame(Type.PRIORITY, 0, 1001, bytes(4) + b"\x10") * 10_000))


@kind()
def altsvc(peer: Peer, stream: int) -> Iterator[bytes]:
    """ALTSVC and ORIGIN frames (RFC 7838, RFC 8336), which concern browsers."""
    service = frame(Type.ALTSVC, 0, 0, b"\0\x01a" + b'h2=":1"')
    return on_newest(peer, again((service + frame(Type.ORIGIN, 0, 0, b"\0\x09https://a")) * 5000))


@kind()
def reset_closed(peer: Peer, stream: int) -> Iterator[bytes]:
    """RST_STREAMs, again and again, for calls that were answered."""
    return on_newest(peer, on_stream(lambda stream: frame(Type.RST_STREAM, 0, stream, CANCEL)), answered=True)


@kind()
def refused(peer: Peer, stream: int) -> Iterator[bytes]:
    """Every call is refused at once with REFUSED_STREAM, so that it may be sent again."""
    yield frame(Type.RST_STREAM, 0, stream, REFUSED_STREAM)


@kind()
def just_under(peer: Peer, stream: int) -> Iterator[bytes]:
    """Good answers, each after 3,000 empty frames of an unknown type: less than a budget may allow."""
    yield frame(Type.UNKNOWN, 0, 0) * 3000 + peer.answer(stream)


@kind()
def answer_then_frames(peer: Peer, stream: int) -> Iterator[bytes]:
    """Good answers, each followed by 30,000 empty DATA frames on its stream."""
    yield peer.answer(stream)
    yield data(stream) * 30_000
