"""How a channel's connections come and go, and what becomes of calls: made, lost, replaced, closed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import grpclib.client
import pytest
import trio
from helpers.channel_scenarios import connections_of
from helpers.channel_servers import (
    ANSWER,
    SERVICE,
    answering,
    answering_server,
    h2_channel,
    hanging_server,
    server_that,
)
from helpers.h2_server import Address, H2Server, frame, serving, use_up_stream_ids
from trio.testing import wait_all_tasks_blocked

import trio_model_runner.rpc
from trio_model_runner.channel import Channel
from trio_model_runner.proto.dynamic_subclass import CallRequest, DynamicSubclassServiceStub
from trio_model_runner.rpc.connection import Connection
from trio_model_runner.rpc.receiver import CallInterrupted

if TYPE_CHECKING:
    pass


async def test_nobody_listening_is_an_os_error():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    async with Channel("127.0.0.1", port) as channel:
        with pytest.raises(OSError, match="Connection refused"):
            await DynamicSubclassServiceStub(channel).call(CallRequest())


async def test_concurrent_first_calls_share_one_connection_and_on_connect_comes_first():
    happened: list[str] = []
    prepared = trio.Event()

    async def on_connect(connection: Connection) -> None:
        happened.append("on_connect begins")
        await prepared.wait()
        happened.append("on_connect ends")

    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        happened.append("call")
        answering(server, stream_id, body)

    server = server_that(respond)
    async with h2_channel(server, on_connect=on_connect) as (_, stub), trio.open_nursery() as nursery:
        given_up = trio.CancelScope()

        async def give_up() -> None:
            with given_up:
                await stub.call(CallRequest())

        nursery.start_soon(give_up)
        for _ in range(3):
            nursery.start_soon(stub.call, CallRequest())
        await wait_all_tasks_blocked()
        given_up.cancel()
        await wait_all_tasks_blocked()
        prepared.set()
    assert happened == ["on_connect begins", "on_connect ends", "call", "call", "call"]


async def test_what_on_connect_raises_goes_to_the_calls_that_wait_and_the_next_one_tries_again():
    problems = [LookupError("not yet"), None]

    async def on_connect(connection: Connection) -> None:
        await trio.lowlevel.checkpoint()
        problem = problems.pop(0)
        if problem is not None:
            raise problem

    first, second = answering_server(), answering_server()
    async with h2_channel(first, second, on_connect=on_connect) as (_, stub):
        with pytest.raises(LookupError, match="not yet"):
            await stub.call(CallRequest())
        assert await stub.call(CallRequest()) == ANSWER
        await first.ended.wait()
    assert first.goaways
    assert not first.bodies


@pytest.mark.parametrize("kind", ["memory", "tcp"])
async def test_a_lost_connection_interrupts_its_calls_and_the_next_call_makes_a_new_one(kind):
    connections = []

    async def on_connect(connection: Connection) -> None:
        connections.append(connection)
        await trio.lowlevel.checkpoint()

    first, second = hanging_server(), answering_server()
    async with h2_channel(first, second, kind=kind, on_connect=on_connect) as (_, stub):
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(CallInterrupted) as caught:
                    await stub.call(CallRequest())
                assert caught.value.connection_lost
                assert not caught.value.unprocessed

            nursery.start_soon(call)
            await first.wait(lambda: 1 in first.bodies)
            await first.stream.aclose()
        assert await stub.call(CallRequest()) == ANSWER
    assert len(connections) == 2


async def test_a_killed_server_interrupts_its_calls():
    program = (
        "import grpc, time\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "server = grpc.server(ThreadPoolExecutor(1))\n"
        "def call(request, context):\n"
        "    print('called', flush=True)\n"
        "    time.sleep(600)\n"
        "handler = grpc.unary_unary_rpc_method_handler(call)\n"
        f"handlers = grpc.method_handlers_generic_handler({SERVICE!r}, {{'Call': handler}})\n"
        "server.add_generic_rpc_handlers((handlers,))\n"
        "print(server.add_insecure_port('127.0.0.1:0'), flush=True)\n"
        "server.start()\n"
        "server.wait_for_termination()\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220 - starting it takes a moment, and nothing else runs yet
        [sys.executable, "-c", program], stdout=subprocess.PIPE
    ) as process:
        try:
            port = int(await trio.to_thread.run_sync(process.stdout.readline))
            async with Channel("127.0.0.1", port) as channel, trio.open_nursery() as nursery:
                stub = DynamicSubclassServiceStub(channel)

                async def call() -> None:
                    with pytest.raises(CallInterrupted) as caught:
                        await stub.call(CallRequest())
                    assert caught.value.connection_lost

                nursery.start_soon(call)
                assert await trio.to_thread.run_sync(process.stdout.readline) == b"called\n"
                process.kill()
        finally:
            process.kill()


async def test_a_call_that_was_reset_is_not_sent_again():
    server = server_that(lambda server, stream_id, body: server.h2.reset_stream(stream_id, 2))
    async with h2_channel(server) as (_, stub):
        with pytest.raises(CallInterrupted, match="INTERNAL_ERROR"):
            await stub.call(CallRequest())
        assert len(server.bodies) == 1


async def test_a_connection_that_says_goaway_ends_after_its_last_call():
    first, second = hanging_server(), answering_server()
    async with h2_channel(first, second) as (_, stub), trio.open_nursery() as nursery:
        answers = []

        async def call() -> None:
            answers.append(await stub.call(CallRequest()))

        nursery.start_soon(call)
        await first.wait(lambda: 1 in first.bodies)
        await wait_all_tasks_blocked()
        await first.flush(frame(7, 0, 0, b"\x00\x00\x00\x01" + bytes(4)))
        await wait_all_tasks_blocked()
        assert await stub.call(CallRequest()) == ANSWER
        assert not answers
        answering(first, 1, b"")
        await first.flush()
        await first.ended.wait()
        await wait_all_tasks_blocked()
        assert answers == [ANSWER]
        assert await stub.call(CallRequest()) == ANSWER
    assert len(second.bodies) == 2


async def test_a_connection_whose_stream_ids_are_used_up_is_replaced_and_closed():
    first, second = answering_server(), answering_server()
    async with h2_channel(first, second) as (channel, stub):
        use_up_stream_ids(await channel.connect())
        for _ in range(2):
            assert await stub.call(CallRequest()) == ANSWER
        await first.ended.wait()
        assert connections_of(channel) == {await channel.connect()}
    assert [len(first.bodies), len(second.bodies)] == [1, 1]
    assert first.goaways == [0]


async def test_connections_that_die_at_once_are_not_tried_for_ever():
    async def die(connection: Connection) -> None:
        connection.abort("it died")
        await trio.lowlevel.checkpoint()

    async with h2_channel(*(hanging_server() for _ in range(3)), on_connect=die) as (_, stub):
        with pytest.raises(ConnectionError, match="it died"):
            await stub.call(CallRequest())


async def test_leaving_the_block_says_goaway_and_ends_calls_elsewhere():
    server = hanging_server()
    errors = []
    async with trio.open_nursery() as nursery:

        async def call(stub: DynamicSubclassServiceStub) -> None:
            with pytest.raises(CallInterrupted, match="closed") as caught:
                await stub.call(CallRequest())
            errors.append(caught.value)

        async with h2_channel(server) as (channel, stub):
            nursery.start_soon(call, stub)
            await server.wait(lambda: 1 in server.bodies)
            await channel.aclose()
            await server.ended.wait()
            with pytest.raises(trio.ClosedResourceError):
                await stub.call(CallRequest())
            await channel.aclose()
            channel.close()
    assert len(errors) == 1
    assert server.sent_resets == {1: 8}
    assert server.goaways == [0]


@pytest.mark.parametrize(
    "exception", [ValueError("mine"), KeyboardInterrupt(), ExceptionGroup("g", [OSError()])]
)
async def test_what_the_body_raises_leaves_the_block_as_it_is(exception):
    server = answering_server()

    async def body(address: Address) -> None:
        async with Channel(address.host, address.port, network=address.network) as channel:
            await DynamicSubclassServiceStub(channel).call(CallRequest())
            raise exception

    async with serving("memory", server) as address:
        with pytest.raises(type(exception)) as caught:
            await body(address)
        await server.ended.wait()
    assert caught.value is exception
    assert server.goaways == [0]


async def test_cancelling_the_body_still_says_goodbye():
    server = hanging_server()
    async with serving("memory", server) as address:
        with trio.CancelScope() as scope:
            async with Channel(address.host, address.port, network=address.network) as channel:
                stub = DynamicSubclassServiceStub(channel)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stub.call, CallRequest())
                    await server.wait(lambda: 1 in server.bodies)
                    scope.cancel()
        assert scope.cancelled_caught
        await server.ended.wait()
    assert server.sent_resets == {1: 8}
    assert server.goaways == [0]


async def test_a_crashed_task_cancels_the_body_and_leaves_the_block(monkeypatch):
    async def crash(connection: Connection, *args: float) -> None:
        await trio.lowlevel.checkpoint()
        raise AssertionError("a bug")

    monkeypatch.setattr(Connection, "watch", crash)
    server = hanging_server()
    async with serving("memory", server) as address:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - leaving the block is what raises
            async with Channel(address.host, address.port, network=address.network) as channel:
                await channel.connect()
                await trio.sleep_forever()
        await server.ended.wait()
    assert [str(error) for error in caught.value.exceptions] == ["a bug"]


async def test_close_is_abrupt():
    server = hanging_server()
    async with h2_channel(server) as (channel, stub), trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(CallInterrupted, match="the channel was closed"):
                await stub.call(CallRequest())

        nursery.start_soon(call)
        await server.wait(lambda: 1 in server.bodies)
        channel.close()
        await server.ended.wait()
    assert not server.goaways


async def test_closing_ends_calls_that_wait_for_a_connection(autojump_clock):
    async def never_speak(stream: trio.abc.Stream) -> None:
        async with stream:
            await trio.sleep_forever()

    async with serving("memory", never_speak) as address, trio.open_nursery() as nursery:
        async with Channel(address.host, address.port, network=address.network) as channel:

            async def call() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await DynamicSubclassServiceStub(channel).call(CallRequest())

            nursery.start_soon(call)
            await wait_all_tasks_blocked()
            begun = trio.current_time()
        assert trio.current_time() == begun


async def test_closing_takes_no_longer_than_grace_where_the_server_does_not_read(autojump_clock):
    async def stop_reading(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        await trio.sleep_forever()

    async with serving("tcp", stop_reading) as address:
        async with Channel(address.host, address.port, network=address.network, grace=3) as channel:
            await channel.connect()
            begun = trio.current_time()
        assert trio.current_time() <= begun + 3


async def test_a_channel_outside_its_block_is_refused():
    channel = Channel("localhost", 1)
    with pytest.raises(RuntimeError, match="async with"):
        await DynamicSubclassServiceStub(channel).call(CallRequest())
    async with channel:
        pass
    with pytest.raises(RuntimeError, match="once"):
        async with channel:
            pass
    with pytest.raises(trio.ClosedResourceError):
        await DynamicSubclassServiceStub(channel).call(CallRequest())


def test_a_channel_is_one_of_grpclibs_and_needs_no_loop_to_be_forgotten():
    channel = Channel("::1", 50051)
    assert isinstance(channel, grpclib.client.Channel)
    assert repr(channel) == "Channel('::1', 50051)"
    del channel


def test_the_connection_is_imported_without_asyncio():
    program = (
        "import sys, trio_model_runner.rpc.connection; "
        "assert not {'asyncio', 'grpclib.client'} & set(sys.modules); "
        "from trio_model_runner.channel import Channel; "
        "assert 'grpclib.client' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_programs_that_know_it_by_its_former_name_still_find_it() -> None:
    assert trio_model_runner.rpc.Channel is Channel
    with pytest.raises(AttributeError, match="Chanel"):
        trio_model_runner.rpc.Chanel  # noqa: B018
