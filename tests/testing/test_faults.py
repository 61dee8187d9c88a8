"""Local nodes in memory, on a clock that jumps, with h2 as the client that sees every frame."""

from __future__ import annotations

from typing import Any

import h2.connection
import h2.exceptions
import pytest
import trio
from grpclib.const import Status
from helpers.h2_client import SERVICE, Client, connect
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trio_model_runner.network import MemoryNetwork
from trio_model_runner.proto.dynamic_subclass import SetupRequest
from trio_model_runner.testing import Faults, GRPCServer, LocalNode

HEALTH = "/grpc.health.v1.Health/Check"


class Model:
    def __init__(self) -> None:
        self.count = 0

    def tick(self) -> int:
        self.count += 1
        return self.count

    def echo(self, value: Any) -> Any:
        return value

    async def slow(self, seconds: float) -> str:
        await trio.sleep(seconds)
        self.count += 1
        return f"after {seconds} s"


@pytest.fixture
def network():
    return MemoryNetwork()


@pytest.fixture
async def node(nursery, network):
    node = LocalNode(Model, network=network, host="a-node")
    await nursery.start(node.run)
    return node


async def test_a_slow_method_takes_no_time_on_a_clock_that_jumps(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    started = trio.current_time()
    assert (await client.call("slow", 3600)).value == "after 3600 s"
    assert trio.current_time() - started == 3600


async def test_server_busy_is_trailers_only(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    slow = await client.send_call("slow", 10)
    busy = await client.call("tick")
    assert busy.status == ("RESOURCE_EXHAUSTED", "Server busy")
    assert (busy.trailers, busy.body) == ({}, b"")
    assert (await client.wait(slow)).value == "after 10 s"
    assert (await client.call("tick")).value == 2


async def test_a_reset_call_leaves_the_node_busy_until_the_method_ends(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    slow = await client.send_call("slow", 10)
    await node.wait_for_calls(1)
    await client.reset(slow)
    assert (await client.call("tick")).status == ("RESOURCE_EXHAUSTED", "Server busy")
    await trio.sleep(11)
    assert (await client.call("tick")).value == 2


async def test_a_lost_connection_leaves_the_method_running(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    await client.send_call("slow", 10)
    await node.wait_for_calls(1)
    await client.stream.aclose()
    client = await connect(node, network)
    assert (await client.call("tick")).status == ("RESOURCE_EXHAUSTED", "Server busy")
    assert node.connections == 1
    await trio.sleep(11)
    assert (await client.call("tick")).value == 2


async def test_the_deadline_that_a_client_names_ends_its_call_a_little_late(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    started = trio.current_time()
    answer = await client.call("slow", 10, grpc_timeout="2500m")
    assert answer.status == ("DEADLINE_EXCEEDED", "Deadline Exceeded")
    assert 2.5 < trio.current_time() - started < 2.6
    assert node.busy


@pytest.mark.parametrize("timeout", ["soon", "", "5", "5x", "9H"])
async def test_a_deadline_that_cannot_be_read_is_none(autojump_clock, network, node, timeout):
    client = await connect(node, network)
    await client.setup()
    assert (await client.call("slow", 100, grpc_timeout=timeout)).value == "after 100 s"


async def test_settings_are_those_of_deployed_nodes(autojump_clock, network, node):
    client = await connect(node, network)
    await client.receive()
    assert client.settings[4].new_value == 4 * 1024 * 1024
    assert client.settings[6].new_value == 16384


async def test_large_messages_pass_through_small_windows(nursery, autojump_clock):
    async def echo(call):
        await call.send(await call.receive())

    server = GRPCServer({"/echo": echo}, window_bytes=65535)
    listener = (network := MemoryNetwork()).listen()

    async def serve():
        async with await listener.accept() as stream:
            await server.serve(stream)

    nursery.start_soon(serve)
    client = Client(await network.connect("localhost", listener.port))
    message = bytes(range(256)) * 4096
    answer = await client.request("/echo", message)
    assert answer.body[5:] == message
    assert client.window_updates > 10
    await client.stream.aclose()


async def test_pings_are_answered_until_there_are_too_many(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    for _ in range(3):
        await client.ping()
    assert (await client.call("tick")).value == 1  # what the node sends for a call starts the count anew
    for _ in range(3):
        await client.ping()
    while client.pongs < 6:
        await client.receive()
    await client.ping()
    await client.wait_closed()
    assert client.goaway.error_code == 11
    assert client.goaway.additional_data == b"too_many_pings"


async def test_one_ping_more_is_borne_while_a_call_is_open(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    await client.send_call("slow", 10)
    await node.wait_for_calls(1)
    for _ in range(4):
        await client.ping()
    while client.pongs < 4:
        await client.receive()
    await client.ping()
    await client.wait_closed()
    assert client.goaway.error_code == 11


async def test_pings_far_apart_are_always_borne(autojump_clock, network, node):
    client = await connect(node, network)
    await client.send(f"{SERVICE}/Call", b"")
    for count in range(10):
        await trio.sleep(7201)
        await client.ping()
        while client.pongs <= count:
            assert await client.receive()


async def test_goaway_lets_open_calls_end_and_then_closes(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    slow = await client.send_call("slow", 10)
    await node.wait_for_calls(1)
    node.goaway(debug_data=b"moving out")
    while client.goaway is None:
        await client.receive()
    assert client.goaway.last_stream_id == slow
    assert client.goaway.additional_data == b"moving out"
    assert node.connections == 1
    await trio.sleep(20)
    assert node.connections == 0
    assert (await (await connect(node, network)).call("tick")).value == 2


async def test_goaway_may_disown_calls_that_have_come(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    slow = await client.send_call("slow", 10)
    await node.wait_for_calls(1)
    node.goaway(last_stream_id=slow - 2, error_code=2)
    await client.wait_closed()
    assert (client.goaway.last_stream_id, client.goaway.error_code) == (slow - 2, 2)
    assert not client.answers[slow].ended


async def test_a_killed_node_breaks_connections_and_forgets(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    await client.send_call("slow", 10)
    await node.wait_for_calls(1)
    node.kill()
    await client.wait_closed()
    with pytest.raises(OSError, match="refused"):
        await connect(node, network)
    assert not node.busy
    node.restart()
    client = await connect(node, network)
    assert await client.setup() == "Instance created successfully"
    assert (await client.call("tick")).value == 1
    await trio.sleep(20)
    assert node.instance.count == 1  # what the last life was doing has ended with it


async def test_a_paused_node_answers_nothing_until_it_goes_on(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    node.pause()
    call = await client.send_call("tick")
    newcomer = await connect(node, network)
    with trio.move_on_after(60) as scope:
        await client.receive()
    assert scope.cancelled_caught
    with trio.move_on_after(60) as scope:
        await newcomer.receive()
    assert scope.cancelled_caught
    assert node.call_count == 0
    node.resume()
    assert (await client.wait(call)).value == 1
    assert (await newcomer.call("tick")).value == 2


async def test_a_silent_node_accepts_and_says_nothing(autojump_clock, network, node):
    node.faults.silent = True
    client = await connect(node, network)
    with trio.move_on_after(60) as scope:
        await client.receive()
    assert scope.cancelled_caught
    assert node.connections == 1
    await client.stream.aclose()
    await wait_all_tasks_blocked()
    assert node.connections == 0


async def test_a_node_may_speak_another_protocol(autojump_clock, network, node):
    node.faults.garbage = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    client = await connect(node, network)
    assert await client.stream.receive_some() == b"HTTP/1.1 400 Bad Request\r\n\r\n"
    node.faults.garbage = None
    client = await connect(node, network)
    await client.setup()
    node.send_raw(b"\0\0\x01\x04\0\0\0\0\0?")  # SETTINGS of one byte
    with pytest.raises(h2.exceptions.ProtocolError):
        await client.wait_closed()


async def test_refused_connections_leave_open_ones_alone(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    node.refuse_connections()
    with pytest.raises(OSError, match="refused"):
        await connect(node, network)
    assert (await client.call("tick")).value == 1
    node.accept_connections()
    assert (await (await connect(node, network)).call("tick")).value == 2


async def test_broken_connections_leave_the_instance_alone(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    node.break_connections()
    await client.wait_closed()
    assert await (await connect(node, network)).setup() == "Instance already exists"


async def test_busy_and_grpc_errors_run_nothing(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    node.faults.busy = True
    assert (await client.call("tick")).status == ("RESOURCE_EXHAUSTED", "Server busy")
    node.faults = Faults(grpc_error=(Status.PERMISSION_DENIED, "not you"))
    assert (await client.call("tick")).status == ("PERMISSION_DENIED", "not you")
    node.faults = Faults()
    assert (await client.call("tick")).value == 1


async def test_a_delayed_answer_keeps_the_node_busy(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    node.next_faults(Faults(delay=5))
    started = trio.current_time()
    call = await client.send_call("tick")
    await node.wait_for_calls(1)
    assert (await client.call("tick")).status == ("RESOURCE_EXHAUSTED", "Server busy")
    assert (await client.wait(call)).value == 1
    assert trio.current_time() - started == 5


async def test_an_answer_may_be_made_up_to_the_last_byte(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    node.next_faults(Faults(raw_answer=b"nonsense"))
    node.next_faults(Faults(raw_body=b"\0\0\0\0\x09short"))
    assert (await client.call("tick")).body == b"\0\0\0\0\x08nonsense"
    assert (await client.call("tick")).body == b"\0\0\0\0\x09short"
    assert node.instance.count == 2


async def test_a_dropped_connection_has_still_run_the_method(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    node.next_faults(Faults(drop_after_request=True))
    await client.send_call("slow", 10)
    await client.wait_closed()
    await trio.sleep(11)
    assert node.instance.count == 1


async def test_setup_may_be_slow_or_fail_with_a_grpc_status(autojump_clock, network, node):
    client = await connect(node, network)
    node.faults.setup_error = (Status.UNAVAILABLE, "warming up")
    answer = await client.request(f"{SERVICE}/Setup", SetupRequest("any.Name"))
    assert answer.status == ("UNAVAILABLE", "warming up")
    node.faults = Faults(setup_delay=30)
    started = trio.current_time()
    assert await client.setup() == "Instance created successfully"
    assert trio.current_time() - started == 30


async def test_health_may_fail_or_hang(autojump_clock, network, node):
    client = await connect(node, network)
    node.faults.health_status = Status.UNAVAILABLE
    assert (await client.request(HEALTH, b"")).status == ("UNAVAILABLE", "")
    node.faults.hang_health = True
    answer = await client.request(HEALTH, b"", grpc_timeout="10S")
    assert answer.status[0] == "DEADLINE_EXCEEDED"


class OwnError(BaseException):
    pass


@pytest.mark.parametrize(
    "error", [SystemExit(3), OwnError(), GeneratorExit(), BaseExceptionGroup("several", [OwnError()])]
)
async def test_a_model_that_exits_never_answers_and_the_node_goes_on(autojump_clock, network, node, error):
    def leave() -> None:
        raise error

    client = await connect(node, network)
    await client.setup()
    node.instance.leave = leave
    answer = await client.call("leave", grpc_timeout="10S")
    assert answer.status[0] == "DEADLINE_EXCEEDED"
    assert (await client.call("tick")).value == 1


async def test_an_interrupt_in_a_model_is_the_programs(autojump_clock):
    def leave() -> None:
        raise KeyboardInterrupt

    async def use_a_model_that_leaves() -> None:
        async with trio.open_nursery() as nursery:
            node = await nursery.start(LocalNode(Model, network=network).run)
            client = await connect(node, network)
            await client.setup()
            node.instance.leave = leave
            await client.call("leave")

    network = MemoryNetwork()
    with pytest.raises(BaseExceptionGroup) as caught:
        await use_a_model_that_leaves()
    assert caught.group_contains(KeyboardInterrupt)


async def test_a_request_that_breaks_off_is_refused(autojump_clock, network, node):
    client = await connect(node, network)
    stream_id = client.h2.get_next_available_stream_id()
    path = f"{SERVICE}/Call"
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "node"}
    client.h2.send_headers(stream_id, list(headers.items()))
    client.h2.send_data(stream_id, b"\0\0\0\0\x09half")
    client.h2.end_stream(stream_id)
    await client.flush()
    answer = await client.wait(stream_id)
    assert answer.status[0] == "UNIMPLEMENTED"


@given(data=st.binary(max_size=300), preface=st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_whatever_bring_a_node_down(data, preface):
    async def main() -> None:
        network = MemoryNetwork()
        node = LocalNode(Model, network=network)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            rude = await network.connect(node.host, node.port)
            greeting = h2.connection.H2Connection()
            greeting.initiate_connection()
            await rude.send_all((greeting.data_to_send() if preface else b"") + data)
            await wait_all_tasks_blocked()
            client = await connect(node, network)
            assert await client.setup() == "Instance created successfully"
            nursery.cancel_scope.cancel()

    trio.run(main)


def error(text: str) -> tuple[Status, str]:
    return Status.INTERNAL, text


async def test_faults_are_limited_to_methods(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    node.faults = Faults(methods={"echo"}, grpc_error=error("no echo"), setup_status=("SETUP_FAILED", "no"))
    assert await client.setup() == "no"  # what is about other requests goes on
    assert (await client.call("tick")).value == 1
    assert (await client.call("echo", 5)).status == ("INTERNAL", "no echo")
    node.faults.methods = {"other"}
    assert (await client.call("echo", 5)).value == 5
    node.faults.methods = None
    assert (await client.call("tick")).status == ("INTERNAL", "no echo")


async def test_the_next_calls_of_some_methods_have_faults_and_others_go_on(autojump_clock, network, node):
    client = await connect(node, network)
    await client.setup()
    node.next_faults(Faults(methods=["echo"], grpc_error=error("no echo")))
    node.next_faults(Faults(grpc_error=error("anything")))
    node.next_faults(Faults(methods=["tick"], grpc_error=error("no tick")))
    assert (await client.call("tick")).status == ("INTERNAL", "anything")
    assert (await client.call("echo", 5)).status == ("INTERNAL", "no echo")
    assert (await client.call("echo", 5)).value == 5
    assert (await client.call("tick")).status == ("INTERNAL", "no tick")
    assert (await client.call("tick")).value == 1
