"""TLS beneath a connection: a `Network` on top of another one, and errors that say which side is at fault.

The TLS library notices almost every mistake, but explains few of them. Three mistakes are frequent, and hard
to recognise:

- **TLS to a plaintext port** ends in "wrong version number": the library takes the server's HTTP/2 for a TLS
  record. (`rpc.ending` recognises plaintext to a TLS port.)
- **A server that refuses the client's certificate** under TLS 1.3 does so after the client's handshake is
  done (RFC 8446, section 4.4.4). Connecting succeeds, and the first read fails, sometimes with an alert. So
  `explain` is for errors of reading, too.
- **A server that does not speak HTTP/2** finishes the handshake, but does not choose HTTP/2 by ALPN. gRPC's
  own clients refuse such a server, and so do we: neither side would understand the other.

What comes over a `TLSStream` is seen in whole TLS records of up to 16 KiB (RFC 8446, section 5.1), each of
which takes seconds on a slow line. Whoever takes bytes for a sign of life reads the stream beneath, and uses
the codec (`tls_codec`) that the two share.

A server may close without TLS's own goodbye, as many do: in HTTP/2, the end of each answer is marked.
"""

from __future__ import annotations

import enum
import socket
import ssl
from typing import Final

import trio

from ..text import quoted
from .addresses import address_text, authority_host
from .base import Network
from .tcp import TCPNetwork
from .tls_codec import TLSCodec

__all__ = ["TLSFault", "TLSNetwork", "TLSStream", "explain", "fault_of"]

_ALPN: Final = "h2"
_SIZE: Final = 64 << 10
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
_ABOUT_OUR_CERTIFICATE: Final = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")


class TLSStream(trio.abc.Stream):
    """A stream over TLS, as `TLSNetwork` opens it.

    It can be used as any stream, or be taken apart: then its own methods must not be called any more. Like
    `trio.SSLStream`, it can't be used any more if sending was cancelled.

    Args:
        stream: the stream beneath, which from now on is this one's to close.
        codec: has no handshake behind it yet.

    Attributes:
        stream: the same.
        codec: the same.
    """

    def __init__(self, stream: trio.abc.Stream, codec: TLSCodec) -> None:
        self.stream = stream
        self.codec = codec
        self._sending = trio.Lock()
        self._cut_off = False
        self._unread = b""

    async def shake_hands(self) -> None:
        """Go through the handshake.

        Raises:
            trio.BrokenResourceError: it failed, and the cause says why, or the peer hung up. (`ssl.SSLError`
                by itself would pass for an error of the system, while its ``errno`` is of another kind.)
        """
        data: bytes | bytearray = b""
        while not self._shake_hands(data):
            await self._send()
            data = await self.stream.receive_some(_SIZE)
            if not data:
                raise trio.BrokenResourceError("the peer hung up")
        await self._send()

    def _shake_hands(self, data: bytes | bytearray) -> bool:
        try:
            return self.codec.shake_hands(data)
        except ssl.SSLError as error:
            raise trio.BrokenResourceError("TLS failed") from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        await self._send(memoryview(data))

    async def _send(self, *data: memoryview) -> None:
        """Send this, and what TLS itself has to say. The order is TLS's, whoever else sends something."""
        async with self._sending:
            if self._cut_off:
                raise trio.BrokenResourceError("an earlier piece was cut off")
            self._cut_off = True
            try:
                for piece in self.codec.encrypt(data):
                    await self.stream.send_all(piece)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError("TLS failed") from error
            self._cut_off = False

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`."""
        codec = self.codec
        if self._unread or codec.holds_more:
            await trio.lowlevel.checkpoint()
        while not (self._unread or codec.ended or codec.failure is not None):
            data = b"" if codec.holds_more else bytes(await self.stream.receive_some(_SIZE))
            if not (data or codec.holds_more):
                return b""
            self._unread = codec.decrypt(data)
            if codec.wants_to_send:
                await self._send()
        if codec.failure is not None and not self._unread:
            raise trio.BrokenResourceError("TLS failed") from codec.failure
        size = len(self._unread) if max_bytes is None else max_bytes
        received, self._unread = self._unread[:size], self._unread[size:]
        return received

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`. TLS's own goodbye is not said."""
        await self.stream.aclose()


class TLSNetwork(Network):
    """Opens streams through another network, and speaks TLS on them.

    Args:
        context: the trusted authorities, and our certificate. Its ALPN protocols are set to `protocol` alone,
            and renegotiation is switched off, which HTTP/2 forbids.
        network: opens the streams beneath; TCP by default.
        server_hostname: the name that the server's certificate must have; None for the host's own name. A
            final dot and an IPv6 zone are left out, here and in SNI; see `addresses`.
        protocol: the protocol that the server must choose by ALPN. None does not change the context's ALPN,
            and accepts any protocol.
    """

    secure = True

    def __init__(
        self,
        context: ssl.SSLContext,
        network: Network | None = None,
        *,
        server_hostname: str | None = None,
        protocol: str | None = _ALPN,
    ) -> None:
        if protocol is not None:
            context.set_alpn_protocols([protocol])
        context.options |= ssl.OP_NO_RENEGOTIATION
        self._context = context
        self._protocol = protocol
        self._network = TCPNetwork() if network is None else network
        self._server_hostname = server_hostname

    async def connect(self, host: str, port: int) -> TLSStream:
        """Open a stream and go through the handshake; see `Network.connect`.

        Raises:
            ConnectionError: the handshake failed; the text says why.
        """
        peer = address_text(host, port)
        beneath = await self._network.connect(host, port)
        name = self._server_hostname or host
        try:
            stream = TLSStream(beneath, TLSCodec(self._context, authority_host(name)))
            await stream.shake_hands()
            self._check_protocol(stream, peer)
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(beneath)
            raise ConnectionError(f"{peer}: {explain(error) or _HUNG_UP}") from error
        except (ValueError, socket.gaierror) as error:  # the name can't be one
            await trio.aclose_forcefully(beneath)
            shown = quoted(name, ascii_only=True)
            raise ConnectionError(f"{peer}: no certificate could have the name {shown}: {error}") from error
        except BaseException:
            await trio.aclose_forcefully(beneath)
            raise
        return stream

    async def look_up(self, host: str) -> None:
        """Look the host's name up; see `Network.look_up`."""
        await self._network.look_up(host)

    def _check_protocol(self, stream: TLSStream, peer: str) -> None:
        if self._protocol is None:
            return
        chosen = stream.codec.object.selected_alpn_protocol()
        if chosen != self._protocol:
            choice = "no protocol" if chosen is None else repr(chosen)
            raise ConnectionError(
                f"{peer}: the server chose {choice} by TLS's ALPN, and gRPC needs {self._protocol!r}"
            )


_HUNG_UP: Final = "the server hung up in the TLS handshake (a plaintext port does that, too)"


class TLSFault(enum.Enum):
    """Why TLS failed."""

    PLAINTEXT = enum.auto()
    """The server does not speak TLS there."""

    UNTRUSTED = enum.auto()
    """The server's certificate is not to be trusted."""

    NO_HTTP2 = enum.auto()
    """The server chose no protocol by ALPN."""

    OUR_CERTIFICATE = enum.auto()
    """The server refused our certificate, or wants one."""

    REFUSED = enum.auto()
    """The server refused the handshake for another reason."""

    OTHER = enum.auto()
    """Anything else."""


_WORDS: Final = {
    TLSFault.PLAINTEXT: "the server does not speak TLS: its port is plaintext, or speaks another protocol",
    TLSFault.NO_HTTP2: "the server does not speak HTTP/2 over TLS",
    TLSFault.OUR_CERTIFICATE: "the server refused our certificate, or wants one",
    TLSFault.REFUSED: "the server refused the TLS handshake",
    TLSFault.OTHER: "TLS failed",
}

_NO_AUTHORITY: Final = "no authority that is trusted here has signed it, or its chain is incomplete"
_ANOTHER_NAME: Final = "it is for another name"
_UNTRUSTED: Final = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "self-signed, so nobody vouches for it",
    19: _NO_AUTHORITY,
    20: _NO_AUTHORITY,
    21: _NO_AUTHORITY,
    62: _ANOTHER_NAME,
    64: _ANOTHER_NAME,
}
"""OpenSSL's codes (``x509_vfy.h``) in plain words."""


def fault_of(error: BaseException) -> TLSFault | None:
    """Of what kind an error is, if TLS is the reason; else None."""
    tls = _tls_error(error)
    if tls is None:
        return None
    if isinstance(tls, ssl.SSLCertVerificationError):
        return TLSFault.UNTRUSTED
    reason = _reason(tls)
    if any(part in reason for part in _NOT_TLS):
        return TLSFault.PLAINTEXT
    if "NO_APPLICATION_PROTOCOL" in reason:
        return TLSFault.NO_HTTP2
    if "ALERT" in reason:
        ours = any(part in reason for part in _ABOUT_OUR_CERTIFICATE)
        return TLSFault.OUR_CERTIFICATE if ours else TLSFault.REFUSED
    return TLSFault.OTHER


def explain(broken: BaseException) -> str | None:
    """Why a stream broke, in plain words, with OpenSSL's in brackets; None if the reason is not TLS."""
    tls, fault = _tls_error(broken), fault_of(broken)
    if tls is None or fault is None:
        return None
    if isinstance(tls, ssl.SSLCertVerificationError):
        said = tls.verify_message
        why = f"{_UNTRUSTED[tls.verify_code]} ({said})" if tls.verify_code in _UNTRUSTED else said
        return f"the server's certificate is not to be trusted: {why}"
    return f"{_WORDS[fault]} ({_reason(tls).lower().replace('_', ' ')})"


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """TLS's own error among the causes of one; None if there is none, or the peer only hung up."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__
    if cause is None or isinstance(cause, ssl.SSLEOFError) or "UNEXPECTED_EOF" in _reason(cause):
        return None
    return cause


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's reason, such as ``WRONG_VERSION_NUMBER``; errors that Python code makes have none."""
    text = str(error.args[0]) if len(error.args) == 1 else str(error)
    return (getattr(error, "reason", None) or text).upper().replace(" ", "_")
