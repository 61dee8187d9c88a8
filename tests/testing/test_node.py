"""Local nodes over real sockets, called with grpcio as the other side."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import trio
from betterproto.lib.google.protobuf import Empty
from helpers.grpcio_client import CALL, MIB, SERVICE, open_nodes, variant

from trio_model_runner.proto.commons import Argument
from trio_model_runner.proto.dynamic_subclass import (
    CallRequest,
    CallResponse,
    RestResponse,
)
from trio_model_runner.proto.grpc.health.v1 import HealthCheckRequest, HealthCheckResponse
from trio_model_runner.testing import CallRecord
from trio_model_runner.values.data import DataType, Encoded


class Model:
    attribute = 5

    def __init__(self, start: int = 0, step: int = 1) -> None:
        self.count = start
        self.step = step
        self.go_on = trio.Event()
        self.finished = trio.Event()

    def tick(self, *_: Any) -> None:
        self.count += self.step

    def predict(self) -> int:
        return self.count

    def echo(self, value: Any) -> Any:
        return value

    def describe(self, first: Any, second: Any = None, *, third: Any = None) -> list[Any]:
        return [first, second, third]

    def collect(self, **kwargs: Any) -> dict[str, Any]:
        return kwargs

    def fail(self) -> None:
        raise ValueError("no feathers")

    def make_tuple(self) -> tuple[int, int]:
        return (1, 2)

    def make_large(self, size: int) -> str:
        return "x" * size

    def make_odd_json(self) -> dict[Any, Any]:
        return {1: float("nan")}

    def truth(self) -> bool:
        return True

    async def slow(self) -> str:
        await self.go_on.wait()
        self.finished.set()
        return "at last"


@pytest.fixture
async def serve():
    async with open_nodes() as serve:
        yield serve


async def test_setup_makes_an_instance_once_and_says_so(serve):
    node, channel = await serve(Model)
    assert await channel.setup(" base.Class ", 5, step=2) == ("SUCCESS", "Instance created successfully")
    instance = node.instance
    assert (instance.count, instance.step) == (5, 2)
    assert await channel.setup("other.Class", 9) == ("SUCCESS", "Instance already exists")
    assert node.instance is instance
    assert [(setup.class_name, setup.args, dict(setup.kwargs)) for setup in node.setups] == [
        ("base.Class", (5,), {"step": 2})
    ]


async def test_what_is_not_a_factory_is_the_instance_itself(serve):
    model = Model()
    node, channel = await serve(model)
    await channel.setup("any.Name", "ignored")
    assert node.instance is model
    await channel.request(f"{SERVICE}/Rest", Empty(), RestResponse)
    assert node.instance is None
    assert await channel.setup() == ("SUCCESS", "Instance created successfully")
    assert node.instance is model


async def test_a_function_without_parameters_makes_an_instance_whatever_setup_says(serve):
    node, channel = await serve(lambda: Model(7))
    await channel.setup("any.Name", 1, 2, 3)
    assert node.instance.count == 7


async def test_setup_tells_a_typo_from_a_failure(serve):
    def missing() -> None:
        raise ImportError("No module named 'brid'")

    def broken() -> None:
        raise RuntimeError("no weights")

    _, channel = await serve(missing)
    assert await channel.setup() == ("BAD_IMPLEMENTATION", "No module named 'brid'")
    _, channel = await serve(broken)
    assert await channel.setup() == ("SETUP_FAILED", "no weights")
    assert await channel.setup("  ") == ("INVALID_ARGUMENT", "class_name cannot be empty")
    arrow = Encoded(DataType.ARROW, b"")
    assert await channel.setup("any.Name", arrow) == ("SETUP_FAILED", "Unsupported data type: 5")


async def test_a_call_before_setup_and_one_without_a_name_are_refused(serve):
    _, channel = await serve(Model)
    assert await channel.failure("predict") == ("FAILED_PRECONDITION", "Setup has not been called yet")
    await channel.setup()
    assert await channel.failure("") == ("INVALID_ARGUMENT", "methodName cannot be empty")


async def test_a_method_that_is_not_there_is_told_from_one_that_raises(serve):
    node, channel = await serve(Model)
    await channel.setup()
    unknown = await channel.failure("fly")
    assert unknown == ("BAD_IMPLEMENTATION", 'Method "fly" not found in class "Model"')
    assert await channel.failure("fail") == ("MODEL_FAILED", "The model raised an exception: no feathers")
    code, message = await channel.failure("echo")
    assert (code, message.startswith("The model raised an exception: ")) == ("MODEL_FAILED", True)
    request = CallRequest("attribute")
    text = "Exception calling application: 5 is not a callable object"
    assert await channel.rpc_error(CALL, request) == ("UNKNOWN", text)
    assert [record.method for record in node.calls] == ["fail", "echo"]


@pytest.mark.parametrize("value", [1.5, -7, 2**63 - 1, "käse", {"a": [1, None]}, [], float("inf")])
async def test_values_come_back_as_they_were_sent(serve, value):
    _, channel = await serve(Model)
    await channel.setup()
    assert await channel.value("echo", value) == value


async def test_a_frame_arrives_as_pandas_and_goes_back_as_parquet(serve):
    import pandas

    node, channel = await serve(Model)
    await channel.setup()
    frame = pandas.DataFrame({"a": [1, 2]})
    answer = await channel.call("echo", frame)
    assert int(answer.method_response.type) == DataType.PARQUET
    assert isinstance(node.calls[0].args[0], pandas.DataFrame)


async def test_none_is_answered_with_no_response_and_arrives_from_json(serve):
    _, channel = await serve(Model)
    await channel.setup()
    answer = await channel.call("echo", None)
    assert answer.status.code == "SUCCESS"
    assert bytes(answer) == bytes(CallResponse(status=answer.status))


@pytest.mark.parametrize("data_type", [DataType.NONE, DataType.ARROW])
async def test_arguments_that_nodes_cannot_decode_fail(serve, data_type):
    node, channel = await serve(Model)
    await channel.setup()
    text = f"The model raised an exception: Unsupported data type: {int(data_type)}"
    assert await channel.failure("echo", Encoded(data_type, b"")) == ("MODEL_FAILED", text)
    assert not node.calls


async def test_results_are_encoded_with_the_nodes_own_habits(serve):
    _, channel = await serve(Model)
    await channel.setup()
    truth = (await channel.call("truth")).method_response
    assert (int(truth.type), truth.value) == (DataType.INT, (1).to_bytes(8, "little"))
    code, message = await channel.failure("make_tuple")
    text = "The model raised an exception: Unsupported data type: <class 'tuple'>"
    assert (code, message) == ("MODEL_FAILED", text)
    odd = (await channel.call("make_odd_json")).method_response.value
    assert odd == b'{"1": NaN}'


async def test_positional_arguments_are_sorted_by_their_positions(serve):
    _, channel = await serve(Model)
    await channel.setup()
    request = CallRequest("describe", [Argument(3, variant("b")), Argument(1, variant("a"))])
    answer = await channel.request(CALL, request, CallResponse)
    assert json.loads(answer.method_response.value) == ["a", "b", None]


async def test_keywords_that_a_method_does_not_take_are_dropped_but_recorded(serve):
    node, channel = await serve(Model)
    await channel.setup()
    assert await channel.value("describe", 1, third=3, fourth=4) == [1, None, 3]
    assert await channel.value("describe", 1, 2, second=9) == [1, 2, None]
    assert await channel.value("collect", a=1) == {}
    assert node.calls[0] == CallRecord("describe", (1,), {"third": 3, "fourth": 4})


async def test_metadata_goes_both_ways(serve):
    node, channel = await serve(Model)
    node.initial_metadata.append(("x-proof", "signed"))
    await channel.setup()
    method = channel.channel.unary_unary(CALL, bytes, CallResponse.FromString)
    run = functools.partial(method.with_call, CallRequest("predict"), metadata=[("x-who", "coordinator")])
    _, call = await trio.to_thread.run_sync(run)
    assert ("x-proof", "signed") in call.initial_metadata()
    assert node.calls[0].metadata["x-who"] == "coordinator"


async def test_a_second_call_finds_the_node_busy_and_health_does_not(serve):
    node, channel = await serve(Model)
    await channel.setup()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.value, "slow")
        await node.wait_for_calls(1)
        busy = await channel.rpc_error(CALL, CallRequest("predict"))
        assert busy == ("RESOURCE_EXHAUSTED", "Server busy")
        assert node.busy
        path = "/grpc.health.v1.Health/Check"
        assert (await channel.request(path, HealthCheckRequest(), HealthCheckResponse)).status == 1
        node.instance.go_on.set()
    assert await channel.value("predict") == 0
    assert [record.method for record in node.calls] == ["slow", "predict"]


async def test_a_method_runs_on_when_its_caller_has_given_up(serve):
    node, channel = await serve(Model)
    await channel.setup()
    method = channel.channel.unary_unary(CALL, bytes, CallResponse.FromString)
    future = method.future(CallRequest("slow"))
    await node.wait_for_calls(1)
    future.cancel()
    assert (await channel.rpc_error(CALL, CallRequest("predict")))[1] == "Server busy"
    node.instance.go_on.set()
    await node.instance.finished.wait()
    assert await channel.value("predict") == 0


async def test_a_call_past_its_deadline_ends_while_the_method_runs_on(serve):
    node, channel = await serve(Model)
    await channel.setup()
    code, _ = await channel.rpc_error(CALL, CallRequest("slow"), seconds=0.2)
    assert code == "DEADLINE_EXCEEDED"
    assert node.busy


async def test_large_messages_pass_both_ways(serve):
    _, channel = await serve(Model)
    await channel.setup()
    text = "0123456789" * MIB
    assert await channel.value("echo", text) == text


async def test_messages_over_the_limit_are_refused_either_way(serve):
    node, channel = await serve(Model, max_message_bytes=1000)
    await channel.setup()
    code, text = await channel.rpc_error(CALL, CallRequest("echo", [Argument(1, variant("x" * 1000))]))
    assert code == "RESOURCE_EXHAUSTED"
    assert text.startswith("SERVER: Received message larger than max (")
    assert not node.calls
    code, text = await channel.rpc_error(CALL, CallRequest("make_large", [Argument(1, variant(1000))]))
    assert code == "RESOURCE_EXHAUSTED"
    assert text.startswith("SERVER: Sent message larger than max (")
    assert node.call_count == 1


@pytest.mark.parametrize("size", [16_000, 100_000])
async def test_metadata_over_the_limit_is_refused_and_other_calls_go_on(serve, size):
    node, channel = await serve(Model)
    await channel.setup()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.value, "slow")
        await node.wait_for_calls(1)
        code, text = await channel.rpc_error(CALL, CallRequest("predict"), metadata=[("x-big", "x" * size)])
        assert code == "RESOURCE_EXHAUSTED"
        assert text.startswith("received metadata size exceeds hard limit (")
        assert text.endswith(" vs. 16384)")
        node.instance.go_on.set()
    assert [record.method for record in node.calls] == ["slow"]
    method = channel.channel.unary_unary(CALL, bytes, CallResponse.FromString)
    run = functools.partial(method, CallRequest("predict"), metadata=[("x-big", "x" * 15_000)])
    assert (await trio.to_thread.run_sync(run)).status.code == "SUCCESS"


async def test_other_services_and_bytes_that_are_no_message_are_refused(serve):
    _, channel = await serve(Model)
    path = "/train_infer.TrainInferService/Infer"
    assert await channel.rpc_error(path, Empty()) == ("UNIMPLEMENTED", "Method not found!")
    garbage = await channel.rpc_error(CALL, b"\x0a\x02\xff\xff")
    assert garbage == ("INTERNAL", "Exception deserializing request!")
    unknown = await channel.rpc_error("/grpc.health.v1.Health/Check", HealthCheckRequest("birds"))
    assert unknown[0] == "NOT_FOUND"
