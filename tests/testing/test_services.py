"""Services, lives and faults of local nodes over real sockets, called with grpcio as the other side."""

from __future__ import annotations

import functools
import threading
from typing import Any

import grpc
import pytest
import trio
from betterproto.lib.google.protobuf import Empty
from grpclib.const import Status
from helpers.grpcio_client import CALL, SERVICE, Channel, encode_as_nodes_do, open_nodes, variant

from trio_model_runner.proto import DataType as FirstDataType
from trio_model_runner.proto import InferRequest as FirstInferRequest
from trio_model_runner.proto import InferResponse as FirstInferResponse
from trio_model_runner.proto.dynamic_subclass import (
    CallRequest,
    RestResponse,
    SetupRequest,
)
from trio_model_runner.proto.grpc.health.v1 import HealthCheckRequest, HealthCheckResponse
from trio_model_runner.proto.train_infer import InferRequest, InferResponse
from trio_model_runner.testing import CallRecord, Faults, LocalNode, Service
from trio_model_runner.values.data import encode


class Model:
    def __init__(self) -> None:
        self.count = 0

    def tick(self) -> None:
        self.count += 1

    def predict(self) -> int:
        return self.count

    async def slow(self) -> None:
        await trio.sleep_forever()


@pytest.fixture
async def serve():
    async with open_nodes() as serve:
        yield serve


async def test_a_reset_keeps_methods_of_the_old_instance(serve):
    node, channel = await serve(Model)
    await channel.setup()
    await channel.call("tick")
    rest = f"{SERVICE}/Rest"
    answer = await channel.request(rest, Empty(), RestResponse)
    assert answer.status.message == "Instance successfully reset"
    answer = await channel.request(rest, Empty(), RestResponse)
    assert answer.status.message == "No instance exists to reset"
    await channel.setup()
    await channel.call("tick")
    assert await channel.value("predict") == 0  # called for the first time: on the new instance
    assert node.instance.count == 0


@pytest.mark.parametrize("service", [Service.TRAIN_INFER, Service.TRAIN_INFER_STREAM])
async def test_the_infer_services_infer_with_infer_or_predict(serve, service):
    class Doubler:
        def __init__(self) -> None:
            self.count = 0

        def predict(self, value: int) -> int:
            if value < 0:
                raise ValueError("lost on the way")
            self.count += 1
            return 2 * value + self.count

    node, channel = await serve(Doubler, services=[service])
    infer = functools.partial(channel.request, f"/{service}/Infer", answer_type=InferResponse)
    early = await channel.rpc_error(f"/{service}/Infer", InferRequest(variant(5)))
    assert early[0] == "UNKNOWN"
    await channel.request(f"/{service}/Setup", Empty(), Empty)
    await channel.request(f"/{service}/Setup", Empty(), Empty)
    answers = [await infer(InferRequest(variant(5))) for _ in range(2)]
    assert [int.from_bytes(answer.prediction.value, "little") for answer in answers] == [11, 12]
    failed = await channel.rpc_error(f"/{service}/Infer", InferRequest(variant(-1)))
    assert failed == ("INTERNAL", "")
    await channel.request(f"/{service}/Reinitialize", Empty(), Empty)
    answer = await infer(InferRequest(variant(5)))
    assert int.from_bytes(answer.prediction.value, "little") == 11
    assert node.calls[0] == CallRecord("predict", (5,))


async def test_the_first_release_numbers_its_types_differently_and_streams(serve):
    class Echo:
        def infer(self, value: Any) -> Any:
            return value

    node, channel = await serve(Echo, services=[Service.MODEL_RUNNER])
    await channel.request("/ModelRunner/Setup", Empty(), Empty)
    for value, number in [(1.5, 0), (3, 1), ("text", 2), ({"a": 1}, 5)]:
        request = FirstInferRequest(FirstDataType(number), encode(value).data)
        answer = await channel.request("/ModelRunner/Infer", request, FirstInferResponse)
        assert (int(answer.type), answer.prediction) == (number, encode_as_nodes_do(value))
        assert node.calls[-1].args == (value,)

    def stream() -> list[Any]:
        requests = [FirstInferRequest(FirstDataType(2), text.encode()) for text in ("a", "b")]
        infer_stream = channel.channel.stream_stream(
            "/ModelRunner/InferStream", bytes, FirstInferResponse.FromString
        )
        return list(infer_stream(iter(requests), timeout=20))

    answers = await trio.to_thread.run_sync(stream)
    assert [answer.prediction for answer in answers] == [b"a", b"b"]


async def test_watching_health_says_serving_at_once(serve):
    _, channel = await serve(Model)
    watch = channel.channel.unary_stream(
        "/grpc.health.v1.Health/Watch", bytes, HealthCheckResponse.FromString
    )
    stream = watch(HealthCheckRequest(), timeout=20)
    assert (await trio.to_thread.run_sync(next, stream)).status == 1
    stream.cancel()


async def test_plain_methods_may_block_in_threads(serve):
    class Blocking:
        def __init__(self) -> None:
            self.go_on = threading.Event()

        def predict(self) -> str:
            assert self.go_on.wait(20)
            return "from a thread"

        async def free(self) -> str:
            self.go_on.set()
            return "from the loop"

    model = Blocking()
    node, channel = await serve(model, threads=True)
    await channel.setup()
    values = []

    async def predict() -> None:
        values.append(await channel.value("predict"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(predict)
        await node.wait_for_calls(1)
        assert (await channel.rpc_error(CALL, CallRequest("free")))[1] == "Server busy"
        model.go_on.set()
    assert values == ["from a thread"]
    assert await channel.value("free") == "from the loop"


async def test_a_method_that_blocks_its_thread_does_not_hold_up_the_end(nursery):
    class Blocking:
        def __init__(self) -> None:
            self.go_on = threading.Event()
            self.gave_up = False

        def predict(self) -> None:
            self.gave_up = not self.go_on.wait(20)

    model = Blocking()
    node = LocalNode(model, threads=True)
    channel = Channel(node)
    async with trio.open_nursery() as node_nursery:
        await node_nursery.start(node.run)
        await channel.setup()
        nursery.start_soon(channel.rpc_error, CALL, CallRequest("predict"))
        await node.wait_for_calls(1)
        node_nursery.cancel_scope.cancel()
    assert not model.gave_up
    model.go_on.set()
    channel.channel.close()


async def test_a_killed_node_refuses_and_comes_back_at_its_address_without_an_instance(serve):
    node, channel = await serve(Model)
    await channel.setup()
    errors = []

    async def slow() -> None:
        errors.append(await channel.rpc_error(CALL, CallRequest("slow")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow)
        await node.wait_for_calls(1)
        node.kill()
    assert errors[0][0] == "UNAVAILABLE"
    assert node.instance is None
    with pytest.raises(OSError, match=r"refused|connect"):
        await trio.open_tcp_stream(node.host, node.port)
    node.restart()
    with pytest.raises(RuntimeError, match="killed"):
        node.restart()
    again = Channel(node)
    assert await again.failure("predict") == ("FAILED_PRECONDITION", "Setup has not been called yet")
    again.channel.close()


async def test_a_stopped_node_says_goodbye_and_lets_go_of_its_port(serve):
    node, channel = await serve(Model)
    await channel.setup()
    await node.stop()
    assert node.connections == 0
    _, again = await serve(Model, port=node.port)
    assert await again.setup() == ("SUCCESS", "Instance created successfully")


async def test_scripted_failures_meet_the_calls_they_are_meant_for(serve):
    node, channel = await serve(Model)
    await channel.setup()
    node.next_faults(Faults(grpc_error=(Status.INTERNAL, "100% ünlucky")), times=2)
    node.next_faults(Faults(call_status=("MODEL_FAILED", "scripted")))
    node.next_faults(Faults(raw_answer=b"\x0a\x04\x0a\x02\xff\xff"))
    for _ in range(2):
        assert await channel.rpc_error(CALL, CallRequest("tick")) == ("INTERNAL", "100% ünlucky")
    assert await channel.failure("tick") == ("MODEL_FAILED", "scripted")
    assert node.call_count == 0
    with pytest.raises(grpc.RpcError, match="deserializing"):
        await channel.call("tick")
    assert await channel.value("predict") == 1


async def test_a_dropped_connection_has_still_run_the_method(serve):
    node, channel = await serve(Model)
    await channel.setup()
    node.next_faults(Faults(drop_after_request=True))
    assert (await channel.rpc_error(CALL, CallRequest("tick")))[0] == "UNAVAILABLE"
    await node.wait_for_calls(1)
    assert node.instance.count == 1
    again = Channel(node)  # on a connection of its own: grpcio notices late that the first one is gone
    assert await again.value("predict") == 1
    again.channel.close()


async def test_a_setup_can_be_made_to_fail_or_hang(serve):
    node, channel = await serve(Model)
    node.faults.setup_status = ("SETUP_FAILED", "scripted")
    assert await channel.setup() == ("SETUP_FAILED", "scripted")
    node.faults.setup_status = None
    node.faults.hang_setup = True
    path = f"{SERVICE}/Setup"
    assert (await channel.rpc_error(path, SetupRequest("a.B"), seconds=2.0))[0] == "DEADLINE_EXCEEDED"
    assert (await channel.rpc_error(path, SetupRequest("a.B")))[1] == "Server busy"
