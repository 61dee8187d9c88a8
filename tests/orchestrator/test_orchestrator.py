"""The feed tells events in order, reconnects for ever, and says in words what went wrong."""

from __future__ import annotations

import contextlib
import logging

import attrs
import pytest
import trio
from helpers.websocket_server import (
    EXACT,
    RefusingNetwork,
    Session,
    answer_to,
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

from trio_model_runner.config import ClusterConfig, OrchestratorConfig
from trio_model_runner.network import MemoryNetwork, Network, TCPNetwork
from trio_model_runner.orchestrator import (
    Disconnected,
    FeedEvent,
    Init,
    OrchestratorFeed,
    RunState,
    Update,
)
from trio_model_runner.orchestrator.websocket import host_header


async def test_events_come_in_order(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (feed, events):
        session = await server.session()
        assert session.path == "/bird-game"
        assert not feed.connected
        await session.send("init", entry("1"))
        await session.send("update", entry("1", state="RECOVERING"))
        await session.send("update", entry("2"))
        first, second, third = [await events.receive() for _ in range(3)]
        assert isinstance(first, Init)
        assert isinstance(second, Update)
        assert second.entries[0].state is RunState.RECOVERING
        assert isinstance(third, Update)
        assert feed.connected
        assert feed.since is not None
        assert feed.last_error is None
    assert not feed.connected


async def test_nothing_comes_before_the_init(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (_, events):
        session = await server.session()
        await session.send("update", entry("early"))
        await session.connection.send_message("nonsense")
        await session.connection.send_message(b'{"event": "init", "data": []}')
        await session.connection.send_message("nonsense")
        await session.send("update", entry("1"))
        assert await events.receive() == Init(())
        assert [item.model_id for item in (await events.receive()).entries] == ["1"]  # type: ignore[union-attr]
    assert "before the init" in caplog.text


async def test_a_large_init_arrives(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (_, events):
        await (await server.session()).send("init", *(entry(str(number)) for number in range(5000)))
        event = await events.receive()
        assert isinstance(event, Init)
        assert len(event.entries) == 5000


async def test_attempts_back_off(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    network = RefusingNetwork()
    async with feeding(configured(network)) as (feed, events):
        await trio.sleep(40)
        assert feed.last_error == "nobody there"
        assert not feed.connected
        with pytest.raises(trio.WouldBlock):
            events.receive_nowait()
    waits = [after - before for before, after in zip(network.attempts, network.attempts[1:], strict=False)]
    assert waits == [0.5, 1, 2, 4, 8, 10, 10]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


async def test_a_lost_connection_is_told_once_and_made_again(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with feeding(configured(network)) as (feed, events):
        await trio.sleep(20)  # the backoff has grown
        async with serving(network.listen(port=9091)) as server:
            session = await server.session()
            for _ in range(3):
                await session.send("init")
                assert await events.receive() == Init(())
                assert feed.connected
                await session.stream.aclose()
                lost_at = trio.current_time()
                assert await events.receive() == Disconnected("the connection was lost")
                assert not feed.connected
                assert feed.last_error == "the connection was lost"
                session = await server.session()
                assert trio.current_time() == lost_at + 0.5
        with pytest.raises(trio.WouldBlock):
            events.receive_nowait()


async def test_a_closing_server_is_quoted(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (_, events):
        session = await server.session()
        await session.send("init")
        await session.connection.aclose(1001, "restart")
        await events.receive()
        text = "the connection was closed with code 1001 (GOING_AWAY): 'restart'"
        assert await events.receive() == Disconnected(text)


async def test_a_server_that_says_why_it_closes(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (feed, _):
        session = await server.session()
        await session.connection.send_message('{"error": "no such crunch"}')
        await session.connection.aclose()
        await server.session()
        assert feed.last_error == "the orchestrator refuses us: 'no such crunch'"


async def test_pings_find_a_connection_that_only_looks_alive(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (_, events):
        session = await server.session()
        await session.send("init")
        assert await events.receive() == Init(())
        session.freeze()
        assert await events.receive() == Disconnected(
            "no answer to a ping within 30 s (orchestrator.pong_timeout)"
        )
        assert trio.current_time() == 50
        await (await server.session()).send("init")
        assert await events.receive() == Init(())


async def test_answered_pings_keep_a_quiet_connection(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (feed, events):
        await (await server.session()).send("init")
        assert await events.receive() == Init(())
        await trio.sleep(3600)
        assert feed.connected
        with pytest.raises(trio.WouldBlock):
            events.receive_nowait()


async def test_the_server_may_ping(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (_, _events):
        with trio.fail_after(1):
            await (await server.session()).connection.ping()


async def test_too_large_a_message_ends_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    config = configured(network, attrs.evolve(EXACT, max_message_bytes=1000))
    async with serving(network.listen(port=9091)) as server, feeding(config) as (_, events):
        session = await server.session()
        await session.send("init")
        await session.send("update", *map(entry, "abcdefghijklmnop"))
        assert await session.receive_close() == 1009
        assert await events.receive() == Init(())
        event = await events.receive()
        assert isinstance(event, Disconnected)
        assert "1009" in event.error
        assert "Exceeded maximum message size: 1000 bytes" in event.error
        await server.session()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (426, b"Upgrade Required\n", "HTTP status 426: 'Upgrade Required'"),
        (503, b"", "HTTP status 503"),
        (404, b"\xff\x1b[31m", r"HTTP status 404: '�\x1b[31m'"),
    ],
)
async def test_a_refused_handshake_is_quoted(
    autojump_clock: trio.testing.MockClock, status: int, body: bytes, said: str
) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (feed, events):
        server.rejection = (status, body)
        await trio.sleep(1)
        assert feed.last_error == f"the server refused the handshake with {said}"
        server.rejection = None
        await (await server.session()).send("init")
        assert await events.receive() == Init(())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "the server closed the connection during the handshake"),
        (
            b"\x15\x03\x01\x00\x02\x02F",
            "the server speaks TLS, which is switched off here: tls=True, or tls_ca_file, switches it on",
        ),
        (
            b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0",
            "the server does not speak WebSocket, but HTTP/2, as nodes do: is it a node's port?",
        ),
        (b"SSH-2.0-OpenSSH_9\r\n", "the server does not speak WebSocket: it answered 'SSH-2.0-OpenSSH_9'"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "the server refused the handshake with HTTP status 200: 'hi'",
        ),
        (
            b"HTTP/1.0 426 Upgrade Required\r\n\r\nuse a WebSocket",
            "the server does not speak WebSocket: it answered 'HTTP/1.0 426 Upgrade Required'",
        ),
        (
            (
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: of-another\r\n\r\n"
            ),
            "the server does not speak WebSocket: it answered 'HTTP/1.1 101 Switching Protocols'",
        ),
        (b"HTTP/1.1 500 Oops\r\n\r\n" + b"x" * 3_000_000, "the server does not speak WebSocket: it answered"),
    ],
)
async def test_an_answer_that_is_no_websocket_is_told(
    autojump_clock: trio.testing.MockClock, answer: bytes, said: str
) -> None:
    network = MemoryNetwork()
    listener = network.listen(port=9091)
    async with feeding(configured(network)) as (feed, _):
        for _attempt in range(2):
            async with await listener.accept() as stream:
                await read_handshake(stream)
                if answer:
                    await stream.send_all(answer)
        await listener.accept()
        assert feed.last_error is not None
        assert feed.last_error.startswith(said)


async def test_a_handshake_that_is_not_answered(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    listener = network.listen(port=9091)
    async with feeding(configured(network)) as (feed, _):
        stream = await listener.accept()
        await read_handshake(stream)
        assert await stream.receive_some() == b""
        assert trio.current_time() == 10
        await listener.accept()
        assert feed.last_error == "no answer to the handshake within 10 s (orchestrator.handshake_timeout)"


async def test_connecting_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    class HangingNetwork(Network):
        async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
            await trio.sleep_forever()

    async with feeding(configured(HangingNetwork())) as (feed, _):
        await trio.sleep(11)
        assert feed.last_error == (
            "no connection to localhost:9091 within 10 s (orchestrator.handshake_timeout)"
        )


async def test_the_request_names_the_crunch_and_the_host(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    listener = network.listen("::1", 9091)
    async with feeding(ClusterConfig("bird?game%ü", "::1", network=network)):
        stream = await listener.accept()
        request = await read_handshake(stream)
        assert request.startswith(b"GET /bird%3Fgame%25%C3%BC HTTP/1.1\r\n")
        assert b"\r\nHost: [::1]:9091\r\n" in request


def test_host_header() -> None:
    assert host_header("example.org", 80) == "example.org"
    assert host_header("example.org", 9091) == "example.org:9091"
    assert host_header("fe80::1%eth0", 9091) == "[fe80::1]:9091"
    assert host_header("example.org.", 9091) == "example.org:9091"
    assert host_header("example.org.", 80) == "example.org"


async def fuzzed(answers: list[bytes]) -> None:
    network = MemoryNetwork()
    listener = network.listen(port=9091)
    async with feeding(configured(network)):
        for answer in answers:
            stream = await listener.accept()
            request = await read_handshake(stream)
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(answer.replace(b"ACCEPT", answer_to(request)))
            await stream.aclose()


frames = st.sampled_from(
    [b"\x81\x02{}", b"\x81\x7e\x00\x7f", b"\x89\x00", b"\x88\x00", b"\x88\x02\x03\xe8", b"\x8a\x00"]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.builds(bytes.__add__, st.sampled_from([b"", b"ACCEPT"]), st.binary() | frames), max_size=3)
)
def test_no_bytes_from_a_server_end_the_feed(answers: list[bytes]) -> None:
    trio.run(fuzzed, answers, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_bug_of_ours_comes_out_as_itself(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()

    def deliver(event: FeedEvent) -> None:
        raise ZeroDivisionError("of ours")

    async with serving(network.listen(port=9091)) as server:
        feed = OrchestratorFeed(configured(network))

        async def send_init() -> None:
            await (await server.session()).send("init")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_init)
            with pytest.raises(ZeroDivisionError, match="of ours"):
                await feed.run(deliver)
        await feed.aclose()


async def test_a_feed_runs_only_once(autojump_clock: trio.testing.MockClock) -> None:
    async with feeding(configured(RefusingNetwork())) as (feed, _):
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="only once"):
            await feed.run(lambda event: None)


async def test_over_tcp() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    config = ClusterConfig("bird-game", "127.0.0.1", port, orchestrator=EXACT)
    codes: list[int] = []

    async def watch(session: Session) -> None:
        codes.append(await session.receive_close())

    async with (
        serving(listener) as server,
        trio.open_nursery() as nursery,
        feeding(config) as (feed, events),
    ):
        session = await server.session()
        await session.send("init", *(entry(str(number)) for number in range(2000)))
        event = await events.receive()
        assert isinstance(event, Init)
        assert len(event.entries) == 2000
        feed.report(report_on("7"))
        assert await session.receive() == sent_report("7")
        nursery.start_soon(watch, session)
    assert codes == [1000]


async def test_over_tcp_a_lost_connection_is_made_again() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    config = ClusterConfig(
        "c", "127.0.0.1", port, orchestrator=attrs.evolve(EXACT, reconnect_initial=0.01), network=TCPNetwork()
    )
    async with serving(listener) as server, feeding(config) as (_, events):
        session = await server.session()
        await session.send("init")
        assert await events.receive() == Init(())
        await trio.aclose_forcefully(session.stream)
        assert isinstance(await events.receive(), Disconnected)
        await (await server.session()).send("init")
        assert await events.receive() == Init(())


async def test_over_tcp_a_server_that_accepts_and_never_answers() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    orchestrator = OrchestratorConfig(handshake_timeout=0.05, reconnect_initial=0.01)
    config = ClusterConfig("c", "127.0.0.1", port, orchestrator=orchestrator)
    async with listener, feeding(config) as (feed, _):
        async with await listener.accept() as first:
            await read_handshake(first)
            assert await first.receive_some() == b""
        async with await listener.accept():
            assert (
                feed.last_error == "no answer to the handshake within 0.05 s (orchestrator.handshake_timeout)"
            )


async def test_over_tcp_a_refused_connection_is_told() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with feeding(ClusterConfig("c", "localhost", port)) as (feed, _):
        while feed.last_error is None:  # noqa: ASYNC110 - nothing sets an event
            await trio.sleep(0.01)
        assert "refused" in feed.last_error
        assert str(port) in feed.last_error
