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

What arrives is seen in whole TLS records of up to 16 KiB (RFC 8446, section 5.1), each of which takes seconds
on a slow line. Whoever takes bytes for a sign of life must see them beneath TLS; see `BeneathTLS`.

A server may close without TLS's own goodbye, as many do: in HTTP/2, the end of each answer is marked.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Final

import trio

from ..text import quoted
from .addresses import address_text, authority_host
from .base import Network
from .tcp import TCPNetwork

__all__ = ["BeneathTLS", "TLSNetwork", "explain"]

_ALPN: Final = "h2"
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
_ABOUT_OUR_CERTIFICATE: Final = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")


class BeneathTLS(trio.abc.Stream):
    """The stream beneath TLS, which tells when something arrives.

    Attributes:
        on_bytes: called then; it must neither raise nor wait.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.on_bytes: Callable[[], None] = lambda: None
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See `trio.abc.ReceiveStream`."""
        data = await self._stream.receive_some(max_bytes)
        if data:
            self.on_bytes()
        return data

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        await self._stream.aclose()


class TLSNetwork(Network):
    """Opens streams through another network, and speaks TLS on them.

    Args:
        context: the trusted authorities, and our certificate. Its ALPN protocols are set to `protocol` alone.
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
        self._context = context
        self._protocol = protocol
        self._network = TCPNetwork() if network is None else network
        self._server_hostname = server_hostname

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream and go through the handshake; see `Network.connect`.

        Raises:
            ConnectionError: the handshake failed; the text says why.
        """
        peer = address_text(host, port)
        beneath = BeneathTLS(await self._network.connect(host, port))
        name = self._server_hostname or host
        try:
            stream: trio.SSLStream[trio.abc.Stream] = trio.SSLStream(
                beneath, self._context, server_hostname=authority_host(name), https_compatible=True
            )
            await stream.do_handshake()
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

    def _check_protocol(self, stream: trio.SSLStream[trio.abc.Stream], peer: str) -> None:
        if self._protocol is None:
            return
        chosen = stream.selected_alpn_protocol()
        if chosen != self._protocol:
            choice = "no protocol" if chosen is None else repr(chosen)
            raise ConnectionError(
                f"{peer}: the server chose {choice} by TLS's ALPN, and gRPC needs {self._protocol!r}"
            )


_HUNG_UP: Final = "the server hung up in the TLS handshake (a plaintext port does that, too)"


def explain(broken: Exception) -> str | None:
    """Why a stream broke, as TLS says; None if the reason is not TLS."""
    error = broken.__cause__
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError):
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not to be trusted: {error.verify_message}"
    reason = (error.reason or str(error)).upper().replace(" ", "_")
    if "UNEXPECTED_EOF" in reason:
        return None
    text = reason.lower().replace("_", " ")
    if any(part in reason for part in _NOT_TLS):
        return f"the server does not speak TLS: its port is plaintext ({text})"
    if "NO_APPLICATION_PROTOCOL" in reason:
        return f"the server does not speak HTTP/2 over TLS ({text})"
    if "ALERT" in reason and any(part in reason for part in _ABOUT_OUR_CERTIFICATE):
        return f"the server refused our certificate, or wants one ({text})"
    if "ALERT" in reason:
        return f"the server refused the TLS handshake ({text})"
    return f"TLS failed ({text})"
