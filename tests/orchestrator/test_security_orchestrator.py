"""The orchestrator over TLS, and one that means no good."""

from __future__ import annotations

import contextlib
import json
import logging
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from helpers.websocket_server import (
    EXACT,
    configured,
    entry,
    feeding,
    read_handshake,
    report_on,
    sent_report,
    serving,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner import Cluster, OrchestratorUnavailable, TrainInferService
from trio_model_runner.config import ClusterConfig, OrchestratorConfig
from trio_model_runner.network import MemoryNetwork, Network, TCPNetwork
from trio_model_runner.orchestrator import Init, MessageParser, Update
from trio_model_runner.orchestrator.infos import freeze
from trio_model_runner.orchestrator.websocket import host_header

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

AUTHORITY = trustme.CA()


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return path


def server_context(*names: str, authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
    return context


def encrypted(listener: trio.abc.Listener[Any], context: ssl.SSLContext) -> trio.SSLListener[Any]:
    return trio.SSLListener(listener, context, https_compatible=True)


async def listen(kind: str) -> tuple[Network, trio.abc.Listener[Any], int]:
    """Listen on localhost, in memory or on a socket; gives the network, the listener and its port."""
    if kind == "memory":
        network = MemoryNetwork()
        memory = network.listen()
        return network, memory, memory.port
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    return TCPNetwork(), listener, listener.socket.getsockname()[1]


def config_for(network: Network, port: int, host: str = "localhost", **fields: Any) -> ClusterConfig:
    return ClusterConfig("bird-game", host, port, network=network, orchestrator=EXACT, **fields)


@pytest.mark.parametrize("kind", ["memory", "tcp"])
async def test_events_and_reports_go_over_tls(kind: str, ca_file: Path) -> None:
    network, listener, port = await listen(kind)
    config = config_for(network, port, tls_ca_file=ca_file)
    async with (
        serving(encrypted(listener, server_context())) as server,
        feeding(config) as (feed, events),
    ):
        session = await server.session()
        assert isinstance(session.stream, trio.SSLStream)
        assert session.path == "/bird-game"
        await session.send("init", *(entry(str(number)) for number in range(1000)))
        event = await events.receive()
        assert isinstance(event, Init)
        assert len(event.entries) == 1000
        feed.report(report_on("1"))
        assert await session.receive() == sent_report("1")
        await session.stream.aclose()
        await events.receive()
        await (await server.session()).send("init")
        assert await events.receive() == Init(())


async def test_a_context_of_ones_own_serves_too() -> None:
    network, listener, port = await listen("memory")
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    async with (
        serving(encrypted(listener, server_context())) as server,
        feeding(config_for(network, port, tls=context)) as (_, events),
    ):
        await (await server.session()).send("init")
        assert await events.receive() == Init(())


@contextlib.asynccontextmanager
async def shaking_hands(listener: trio.abc.Listener[Any]) -> AsyncIterator[None]:
    """A server that lets handshakes fail, and closes whatever comes of them."""

    async def serve(stream: trio.abc.Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.receive_some()
        await trio.aclose_forcefully(stream)

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield
        nursery.cancel_scope.cancel()


async def unavailable(config: ClusterConfig) -> str:
    """Why a cluster that is entered says that there is no orchestrator."""
    with pytest.raises(OrchestratorUnavailable) as raised:
        async with Cluster(config, TrainInferService()):
            raise AssertionError
    return str(raised.value)


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (server_context("other.example"), "Hostname mismatch"),
        (server_context(authority=trustme.CA()), "not to be trusted"),
    ],
)
async def test_an_orchestrator_must_have_its_name_from_the_authority(
    ca_file: Path, autojump_clock: trio.testing.MockClock, context: ssl.SSLContext, said: str
) -> None:
    network, listener, port = await listen("memory")
    async with shaking_hands(encrypted(listener, context)):
        text = await unavailable(config_for(network, port, tls_ca_file=ca_file, orchestrator_timeout=3))
    assert "the server's certificate is not to be trusted" in text
    assert said in text


async def test_the_systems_authorities_do_not_include_somebodys_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network, listener, port = await listen("memory")
    async with shaking_hands(encrypted(listener, server_context())):
        text = await unavailable(config_for(network, port, tls=True, orchestrator_timeout=3))
    assert "the server's certificate is not to be trusted" in text


async def test_tls_to_an_orchestrator_that_speaks_plaintext_is_told(
    ca_file: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    network, listener, port = await listen("memory")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        text = await unavailable(config_for(network, port, tls_ca_file=ca_file, orchestrator_timeout=3))
        nursery.cancel_scope.cancel()
    assert "the server does not speak TLS: its port is plaintext" in text


async def test_a_final_dot_is_in_no_certificate_and_not_sent(ca_file: Path) -> None:
    named = []
    context = server_context("orchestrator.example")
    context.sni_callback = lambda stream, name, context: named.append(name)
    network = MemoryNetwork()
    listener = encrypted(network.listen("orchestrator.example.", 9091), context)
    config = config_for(network, 9091, "orchestrator.example.", tls_ca_file=ca_file)
    async with feeding(config), await listener.accept() as stream:
        request = await read_handshake(stream)
    assert named == ["orchestrator.example"]
    assert b"\r\nHost: orchestrator.example:9091\r\n" in request


async def test_plaintext_to_an_orchestrator_that_wants_tls_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network, listener, port = await listen("memory")
    async with shaking_hands(encrypted(listener, server_context())):
        text = await unavailable(config_for(network, port, orchestrator_timeout=3))
    assert "TLS" in text


async def test_a_handshake_that_hangs_is_given_up_in_time(
    ca_file: Path, autojump_clock: trio.testing.MockClock
) -> None:
    network, listener, port = await listen("memory")
    text = await unavailable(config_for(network, port, tls_ca_file=ca_file, orchestrator_timeout=12))
    assert f"no connection to localhost:{port} within 10 s" in text
    await listener.aclose()


def test_each_scheme_has_a_port_that_goes_unsaid() -> None:
    assert host_header("example.org", 443, default_port=443) == "example.org"
    assert host_header("example.org", 80, default_port=443) == "example.org:80"
    assert host_header("example.org", 443) == "example.org:443"


def parsed(parser: MessageParser, *entries: Any) -> Any:
    return parser.parse(json.dumps({"event": "update", "data": entries}))


def test_a_message_has_two_entries_a_model_at_most(caplog: pytest.LogCaptureFixture) -> None:
    parser = MessageParser(max_models=5)
    for count, taken in ((10, 10), (11, 10), (1000, 10)):
        event = parsed(parser, *(entry(str(number)) for number in range(count)))
        assert [each.model_id for each in event.entries] == [str(number) for number in range(taken)]
    assert [record.getMessage() for record in caplog.records] == [
        "the orchestrator: a message has 11 entries; the first 10 are read",
        "the orchestrator: a message has 1000 entries; the first 10 are read",
    ]


async def test_the_configured_number_of_models_counts(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    config = configured(network, OrchestratorConfig(max_models=1))
    async with serving(network.listen(port=9091)) as server, feeding(config) as (_, events):
        await (await server.session()).send("init", *(entry(str(number)) for number in range(5)))
        event = await events.receive()
        assert isinstance(event, Init)
        assert len(event.entries) == 2


@pytest.mark.parametrize("field", ["model_id", "deployment_id"])
@pytest.mark.parametrize("value", ["x" * 257, "\x1b[31m", "a\nb", "\u202e", "\x00", "\ud800", "\x7f"])
def test_ids_are_short_and_printable(field: str, value: str, caplog: pytest.LogCaptureFixture) -> None:
    event = parsed(MessageParser(), entry("1") | {field: value}, entry("2"))
    assert [each.model_id for each in event.entries] == ["2"]
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 300


def test_ids_may_be_longer_than_any_that_is_used() -> None:
    event = parsed(MessageParser(), entry("\u00e9" * 256, deployment_id="x y" * 85))
    assert len(event.entries) == 1


def nested(levels: int) -> dict[str, Any]:
    value: Any = {}
    for _ in range(levels):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize(
    ("infos", "said"),
    [
        ({"a": "x" * 17_000}, "more than 16384 characters"),
        ({"x" * 17_000: 1}, "more than 16384 characters"),
        ({str(number): "x" * 100 for number in range(200)}, "more than 16384 characters"),
        ({"a": 10**4000, "b": [10**4000] * 20}, "more than 16384 characters"),
        ({"a": [0] * 300}, "more than 256 values"),
        ({str(number): 0 for number in range(300)}, "more than 256 values"),
        (nested(10), "nested more than 16 levels deep"),
        (nested(150), "nested more than 16 levels deep"),
    ],
)
def test_infos_that_are_too_much_cost_only_the_infos(
    infos: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    parser = MessageParser()
    for _ in range(2):
        event = parsed(parser, entry("1", infos=infos), entry("2"))
        assert isinstance(event, Update)
        assert [dict(each.infos) for each in event.entries] == [{}, entry("2")["infos"]]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("the orchestrator: model '1': its infos are dropped: ")
    assert said in record.getMessage()


def test_infos_of_todays_size_and_much_more_are_kept() -> None:
    infos = {str(number): "x" * 50 for number in range(200)} | {"deep": nested(7)}
    event = parsed(MessageParser(), entry("1", infos=json.loads(json.dumps(infos))))
    assert dict(event.entries[0].infos).keys() == infos.keys()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=80,
)


def thawed(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(map(thawed, value))
    return {key: thawed(item) for key, item in value.items()} if hasattr(value, "items") else value


@settings(deadline=None)
@given(st.dictionaries(st.text(), json_values))
def test_infos_are_kept_as_they_are_or_not_at_all(infos: dict[str, Any]) -> None:
    copied = json.loads(json.dumps(infos))
    with contextlib.suppress(ValueError):
        frozen: Mapping[str, Any] = freeze(copied)
        assert thawed(frozen) == infos
