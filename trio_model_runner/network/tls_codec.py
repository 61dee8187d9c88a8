"""TLS as a client speaks it, without any I/O: what was read goes in, and what is to be written comes out.

`trio.SSLStream` does the same with I/O, and waits wherever TLS might: a task must stand by in each direction,
and each small message passes through four objects. Here nothing waits, so whoever reads many sockets in one
task, and writes where there is something to say, does it with TLS as without. A small call of the secure mode
took 749 thousand instructions with the one, and 383 with the other.

Three things follow from TLS being a conversation, and not only a cipher:

- **Reading makes something to write**: the answer to a KeyUpdate (RFC 8446, section 4.6.3), an alert. So
  whoever has called `decrypt` also writes what `encrypt` gives, even if there is nothing to encrypt. A peer
  that asks for answers and does not read them is cut off.
- **A write could have to wait for a read**, if the peer could begin a new handshake in the middle. HTTP/2
  forbids that (RFC 9113, section 9.2.1), TLS 1.3 has none, and the contexts here refuse it (`TLSNetwork`).
- **Some bytes are dearer than others.** A KeyUpdate of 27 bytes takes as long as 50,000 bytes of a message.
  So `decrypt` stops where much has brought little, and `holds_more` then asks for another turn: 16 KiB of
  KeyUpdates took 9 ms.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from typing import Final

__all__ = ["TLSCodec"]

_RECORD: Final = 16 << 10  # the most that one record holds, bytes: RFC 8446, section 5.1
_MOST_UNREAD_ANSWERS: Final = 32 << 10  # bytes; a turn makes half of that


class TLSCodec:
    """One TLS connection.

    Args:
        context: the trusted authorities, our certificate, and so on. It must refuse renegotiation.
        server_hostname: the name that the server's certificate must have.

    Attributes:
        object: what the library says of the connection: certificates, ALPN.
        ended: the peer has said goodbye: nothing more comes.
        failure: why nothing more can be read, if that is no end as it should be. It is known with the last
            piece that could be read.

    Raises:
        ValueError: no certificate could have that name.
    """

    __slots__ = ("_incoming", "_outgoing", "_said_goodbye", "_undecrypted", "ended", "failure", "object")

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._undecrypted: bytes | memoryview = b""
        self._said_goodbye = False
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self.ended = False
        self.failure: ssl.SSLError | None = None

    def shake_hands(self, data: bytes | bytearray = b"") -> bool:
        """Go on with the handshake; say whether it is done. In any case `encrypt` has something to write.

        Args:
            data: what has been read since.

        Raises:
            ssl.SSLError: it failed.
        """
        self._incoming.write(data)
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    @property
    def holds_more(self) -> bool:
        """Whether `decrypt` could go on with what it has; after the handshake, it may have something."""
        return not self.ended and self.failure is None and bool(self._undecrypted or self._incoming.pending)

    def decrypt(self, data: bytes) -> bytes:
        """Take what was read, and give what it says, maybe nothing yet. Never raises for what a peer sends.

        Args:
            data: what was read; b"" in a turn for which `holds_more` asked. While it asks, nothing else.
        """
        if len(data) <= _RECORD and not self._undecrypted:
            self._incoming.write(data)
            return self._decrypt_fed()
        rest = memoryview(data) if data else self._undecrypted
        pieces = list[bytes]()
        while rest and not self.ended and self.failure is None:
            fed, rest = rest[:_RECORD], rest[_RECORD:]
            self._incoming.write(fed)
            pieces.append(self._decrypt_fed())
            if len(pieces[-1]) * 2 < len(fed):
                break
        self._undecrypted = rest or b""  # an empty view would keep what it is a view of
        return b"".join(pieces)

    def _decrypt_fed(self) -> bytes:
        """What all whole records say that were fed."""
        plain = self._read_all()
        if self._outgoing.pending > _MOST_UNREAD_ANSWERS and self.failure is None:
            self.failure = ssl.SSLError("the peer asks for answers and does not read them")
        return plain

    def _read_all(self) -> bytes:
        pieces: list[bytes] = []
        try:
            while piece := self.object.read(_RECORD):
                if not self._incoming.pending:  # mostly; to ask again would take 2 us, since it raises
                    return b"".join((*pieces, piece)) if pieces else piece
                pieces.append(piece)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            self.failure = error
        return b"".join(pieces)

    @property
    def wants_to_send(self) -> bool:
        """Whether TLS itself has something to say, which `encrypt` gives."""
        return bool(self._outgoing.pending)

    def encrypt(self, data: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
        """What is to be written to say all this, and what TLS itself has to say, if there is anything.

        Each piece that is returned must be written, in this order, or nothing more.

        Raises:
            ssl.SSLError: there is no way to say it any more.
        """
        plain = data[0] if len(data) == 1 else b"".join(data)
        if len(plain) <= _RECORD:
            if plain:
                self.object.write(plain)
            return [self._outgoing.read()] if self._outgoing.pending else []
        # Piece by piece, for the library keeps as much memory as it ever had to hold at once.
        pieces: list[bytes | memoryview] = []
        view = memoryview(plain)
        for start in range(0, len(view), _RECORD):
            self.object.write(view[start : start + _RECORD])
            pieces.append(self._outgoing.read())
        return pieces

    def say_goodbye(self) -> list[bytes | memoryview]:
        """What is to be written to end the connection, once; nothing can be encrypted after this."""
        if not self._said_goodbye:
            self._said_goodbye = True
            with contextlib.suppress(ssl.SSLError):  # it would wait for the peer's, or all is over anyway
                self.object.unwrap()
        return [self._outgoing.read()] if self._outgoing.pending else []

    @property
    def said_goodbye(self) -> bool:
        """Whether `say_goodbye` was called."""
        return self._said_goodbye
