"""`rpc` over TLS: who is trusted, what is chosen, and errors that say which side is at fault."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trio
import trustme
from grpclib.const import Cardinality
from helpers.channel_servers import ANSWER, SERVICE, answering_server, hanging_server, unary
from helpers.h2_server import Address, H2Server, call, frame, h2_server, serving

from trio_model_runner.channel import Channel
from trio_model_runner.network import MemoryNetwork, TCPNetwork
from trio_model_runner.network.tls import TLSNetwork
from trio_model_runner.proto.dynamic_subclass import CallRequest, DynamicSubclassServiceStub
from trio_model_runner.rpc import frames
from trio_model_runner.rpc.connecting import open_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

both_kinds = pytest.mark.parametrize("kind", ["memory", "tcp"])


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str, alpn: tuple[str, ...] = ("h2",)) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*(names or ("127.0.0.1", "node"))).configure_cert(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def serving_tls(
    kind: str, serve: Callable[[Any], Awaitable[object]], context: ssl.SSLContext
) -> AsyncIterator[Address]:
    async def secure(stream: Any) -> None:
        await serve(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    async with serving(kind, secure) as address:
        yield address


async def closing(stream: trio.abc.Stream) -> None:
    """Shake hands, read, and close."""
    with suppress(trio.BrokenResourceError):
        await stream.receive_some()
    await trio.aclose_forcefully(stream)


async def refusal(
    authority: trustme.CA, address: Address, *, context: ssl.SSLContext | None = None, **options: Any
) -> str:
    """The text of the error with which a TLS connection to there fails."""
    network = TLSNetwork(context or client_context(authority), address.network, **options)
    async with trio.open_nursery() as nursery:
        with pytest.raises(ConnectionError) as raised:
            await open_connection(nursery, network, address.host, address.port)
    text = str(raised.value)
    assert text.startswith(f"{address.host}:{address.port}: ")
    return text.partition(": ")[2]


@both_kinds
async def test_a_call_over_tls_and_the_servers_certificate(authority: trustme.CA, kind: str) -> None:
    server = answering_server()
    context = client_context(authority)
    async with (
        serving_tls(kind, server, server_context(authority)) as address,
        Channel(address.host, address.port, ssl=context, network=address.network) as channel,
    ):
        assert channel.peer.cert() is None
        assert await DynamicSubclassServiceStub(channel).call(CallRequest()) == ANSWER
        connection = await channel.connect()
        certificate = connection.peer_certificate
        assert certificate is not None
        assert b"trustme" in certificate
        assert connection.peer_certificate_fields["subjectAltName"]
        # Nothing public says what the two agreed on; the server's side is the test's own.
        assert connection._tls.object.selected_alpn_protocol() == "h2"
    await server.ended.wait()
    assert server.goaways == [frames.ErrorCode.NO_ERROR]


async def test_grpcios_server_is_called_over_tls_with_certificates_both_ways(authority: trustme.CA) -> None:
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    mine = authority.issue_cert("client@example.org")
    key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    seen = []

    def answer(request: CallRequest, context: grpc.ServicerContext) -> Any:
        seen.append(context.auth_context().get("x509_subject_alternative_name"))
        return ANSWER

    with ThreadPoolExecutor(2) as executor:
        server = grpc.server(executor)
        handlers = grpc.method_handlers_generic_handler(SERVICE, {"Call": unary(answer)})
        server.add_generic_rpc_handlers((handlers,))
        credentials = grpc.ssl_server_credentials(
            [(key, chain)], authority.cert_pem.bytes(), require_client_auth=True
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            context = client_context(authority)
            mine.configure_cert(context)
            async with Channel("127.0.0.1", port, ssl=context) as channel:
                assert await DynamicSubclassServiceStub(channel).call(CallRequest()) == ANSWER
                assert (await channel.connect()).peer_certificate == ssl.PEM_cert_to_DER_cert(chain.decode())
            async with Channel("127.0.0.1", port, ssl=client_context(authority)) as channel:
                with pytest.raises(ConnectionError, match="certificate"):
                    await DynamicSubclassServiceStub(channel).call(CallRequest())
            async with Channel("127.0.0.1", port) as channel:
                with pytest.raises(ConnectionError, match="TLS"):
                    await DynamicSubclassServiceStub(channel).call(CallRequest())
        finally:
            server.stop(None).wait()
    assert seen == [[b"client@example.org"]]


async def test_requests_say_https(authority: trustme.CA) -> None:
    server = hanging_server()
    requests = []
    server.on_request = H2Server.echo
    handle = server._handle
    server._handle = lambda event: (requests.append(event), handle(event))
    async with (
        serving_tls("memory", server, server_context(authority)) as address,
        Channel(
            address.host, address.port, ssl=client_context(authority), network=address.network
        ) as channel,
        channel.request("/a/b", Cardinality.UNARY_UNARY, CallRequest, CallRequest) as stream,
    ):
        await stream.send_message(CallRequest(method_name="x"))
        assert await stream.recv_message() == CallRequest(method_name="x")
        assert stream.peer.cert()["subject"]
    headers = next(dict(event.headers) for event in requests if hasattr(event, "headers"))
    assert headers[":scheme"] == "https"
    assert headers[":authority"] == f"node:{address.port}"


async def test_a_certificate_must_be_trusted_and_have_the_hosts_name(authority: trustme.CA) -> None:
    async with serving_tls("memory", closing, server_context(authority)) as address:
        text = await refusal(authority, address, context=client_context(trustme.CA()))
        assert text.startswith("the server's certificate is not to be trusted: no authority that is trusted ")
        assert text.endswith(" (unable to get local issuer certificate)")
    async with serving_tls("memory", closing, server_context(authority, "other.example")) as address:
        text = await refusal(authority, address)
        assert "not to be trusted: it is for another name (Hostname mismatch" in text
        assert "'node'" in text


async def test_a_certificate_may_have_another_name_where_that_is_said(authority: trustme.CA) -> None:
    server = H2Server()
    network_context = client_context(authority)
    async with (
        serving_tls("memory", server, server_context(authority, "other.example")) as address,
        trio.open_nursery() as nursery,
    ):
        network = TLSNetwork(network_context, address.network, server_hostname="other.example")
        connection = await open_connection(nursery, network, address.host, address.port)
        assert await call(connection, b"x" * 500_000) == b"x" * 500_000
        await connection.aclose()


@pytest.mark.parametrize(
    ("host", "server_hostname", "told"),
    [
        ("node.example", None, "node.example"),
        ("node.example.", None, "node.example"),
        ("elsewhere", "node.example.", "node.example"),
        ("n\xf6de.example.", None, "xn--nde-sna.example"),
        ("fe80::1%eth0", None, None),  # which is no name: SNI has none of it (RFC 6066, section 3)
        ("elsewhere", "fe80::1%eth0", None),
    ],
)
async def test_a_final_dot_and_a_zone_are_in_no_certificate_and_not_sent(
    authority: trustme.CA, host: str, server_hostname: str | None, told: str | None
) -> None:
    named = []
    context = server_context(authority, "node.example", "xn--nde-sna.example", "fe80::1")
    context.sni_callback = lambda stream, name, context: named.append(name)
    server = answering_server()

    async def serve(stream: trio.abc.Stream) -> None:
        await server(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [network.listen(host, 50051)])
        async with Channel(
            host, ssl=client_context(authority), server_hostname=server_hostname, network=network
        ) as channel:
            assert await DynamicSubclassServiceStub(channel).call(CallRequest()) == ANSWER
        nursery.cancel_scope.cancel()
    assert named == [told]
    hosts = {"fe80::1%eth0": "[fe80::1]", "elsewhere": "elsewhere"}
    assert server.requests[1][":authority"] == f"{hosts.get(host, told)}:50051"


@pytest.mark.parametrize(
    ("alpn", "choice"), [((), "no protocol"), (("http/1.1",), "no protocol|does not speak HTTP/2")]
)
async def test_a_server_that_does_not_choose_http2_is_refused(
    authority: trustme.CA, alpn: tuple[str, ...], choice: str
) -> None:
    async with serving_tls("memory", closing, server_context(authority, alpn=alpn)) as address:
        text = await refusal(authority, address)
    assert any(part in text for part in choice.split("|"))


async def test_what_is_not_grpc_may_go_without_a_choice(authority: trustme.CA) -> None:
    async def echo(stream: trio.abc.Stream) -> None:
        async with stream:
            await stream.send_all(await stream.receive_some())

    async with serving_tls("memory", echo, server_context(authority, alpn=())) as address:
        network = TLSNetwork(client_context(authority), address.network, protocol=None)
        async with await network.connect(address.host, address.port) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"


@pytest.mark.parametrize("name", [".example", "\ud800"])
async def test_a_name_that_no_certificate_can_have_is_refused_and_the_stream_closed(
    authority: trustme.CA, name: str
) -> None:
    ended = trio.Event()

    async def serve(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
        ended.set()

    async with serving("memory", serve) as address:
        text = await refusal(authority, address, server_hostname=name)
        assert text.startswith("no certificate could have the name '")
        assert text.isprintable()
        await ended.wait()


@both_kinds
@pytest.mark.parametrize("hello", [h2_server().data_to_send(), b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_tls_to_a_plaintext_port_is_named_as_such(
    authority: trustme.CA, kind: str, hello: bytes
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        async with stream:
            await stream.send_all(hello)
            await stream.receive_some()

    async with serving(kind, serve) as address:
        assert "its port is plaintext" in await refusal(authority, address)


@both_kinds
async def test_a_server_that_hangs_up_in_the_handshake_may_be_plaintext(
    authority: trustme.CA, kind: str
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        async with stream:
            await stream.receive_some()

    async with serving(kind, serve) as address:
        text = await refusal(authority, address)
    assert text == "the server hung up in the TLS handshake (a plaintext port does that, too)"


def refuse_in_handshake(listening: socket.socket, context: ssl.SSLContext) -> None:
    """Refuse one client with a TLS alert, which the standard library's sockets send and Trio's don't."""
    accepted, _ = listening.accept()
    connection = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
    with pytest.raises(ssl.SSLError):
        connection.do_handshake()
    with socket.socket(fileno=connection.detach()) as plain:
        plain.shutdown(socket.SHUT_WR)
        while plain.recv(65536):  # a socket closed with bytes unread would reset, and the alert be lost
            pass


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_refuses_our_certificate_or_wants_one_says_so(
    authority: trustme.CA, version: ssl.TLSVersion, shown: bool
) -> None:
    context = server_context(authority)
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    mine = client_context(authority)
    if shown:
        trustme.CA().issue_cert("client@example.org").configure_cert(mine)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = Address(TCPNetwork(), *listening.getsockname())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, refuse_in_handshake, listening, context)
            text = await refusal(authority, address, context=mine)
    if shown:
        assert text == "the server refused our certificate, or wants one (tlsv1 alert unknown ca)"
    elif version is ssl.TLSVersion.TLSv1_3:
        assert text == "the server refused our certificate, or wants one (tlsv13 alert certificate required)"
    else:
        assert "the server refused the TLS handshake" in text


async def test_a_server_that_hangs_up_after_the_handshake_may_want_a_certificate(
    authority: trustme.CA,
) -> None:
    async with serving_tls("memory", closing, server_context(authority)) as address:
        text = await refusal(authority, address)
    assert "before its HTTP/2 SETTINGS (a server that refuses our certificate does that, too)" in text


@both_kinds
async def test_a_goaway_for_breaking_the_protocol_reaches_the_server(
    authority: trustme.CA, kind: str
) -> None:
    server = H2Server()
    async with (
        serving_tls(kind, server, server_context(authority)) as address,
        trio.open_nursery() as nursery,
    ):
        network = TLSNetwork(client_context(authority), address.network)
        connection = await open_connection(nursery, network, address.host, address.port)
        await server.flush(frame(frames.FrameType.PUSH_PROMISE, 4, 1, bytes(5)))
        await connection.watch()
        await server.ended.wait()
    assert server.goaways == [frames.ErrorCode.PROTOCOL_ERROR]


@both_kinds
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_closing_says_goodbye_in_tls_behind_the_goaway(
    authority: trustme.CA, kind: str, version: ssl.TLSVersion
) -> None:
    heard, ended = bytearray(), trio.Event()
    context = server_context(authority)
    context.maximum_version = version

    async def serve(stream: trio.abc.Stream) -> None:
        secured = trio.SSLStream(stream, context, server_side=True)  # whose reading fails without a goodbye
        await secured.send_all(h2_server().data_to_send())
        while data := await secured.receive_some():
            heard.extend(data)
        ended.set()
        await trio.aclose_forcefully(secured)

    async with serving(kind, serve) as address, trio.open_nursery() as nursery:
        network = TLSNetwork(client_context(authority), address.network)
        connection = await open_connection(nursery, network, address.host, address.port)
        await connection.aclose()
        await ended.wait()
    assert heard.endswith(frames.goaway_frame(0, frames.ErrorCode.NO_ERROR))


async def test_a_handshake_that_takes_too_long_is_given_up(
    autojump_clock: Any, authority: trustme.CA
) -> None:
    ended = trio.Event()

    async def serve(stream: trio.abc.Stream) -> None:
        while await stream.receive_some():
            pass
        ended.set()

    async with serving("memory", serve) as address, trio.open_nursery() as nursery:
        network = TLSNetwork(client_context(authority), address.network)
        with pytest.raises(TimeoutError, match="no connection within 5 s"):
            await open_connection(nursery, network, address.host, address.port, timeout=5)
        await ended.wait()
