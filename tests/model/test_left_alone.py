"""Calls on `model.channel` that a program never leaves: they keep no place among the model's calls."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio
from grpclib.const import Cardinality
from helpers.coordinating import Model, coordinating
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import ModelRunner, Status
from trio_model_runner.channel.stream import Stream
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse

CALL = "/dynamic_subclass.DynamicSubclassService/Call"


async def begin(model: ModelRunner, method: str) -> Stream[CallRequest, CallResponse]:
    stream: Stream[CallRequest, CallResponse] = model.channel.request(  # type: ignore[assignment]
        CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse, timeout=5.0
    )
    await stream.send_message(CallRequest(method), end=True)
    return stream


async def test_a_call_whose_answer_has_come_keeps_no_place(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        model = cluster.models["a"]
        stream = await begin(model, "predict")
        answer = await stream.recv_message()
        assert answer is not None
        assert answer.status.code == "SUCCESS"
        assert (await model.call("predict", timeout=1.0)).status is Status.SUCCESS


async def test_a_call_that_was_forgotten_keeps_no_place(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        model = cluster.models["a"]
        stream = await begin(model, "hang")
        await crunch.node("a").wait_for_calls(1)
        assert "behind another call" in (await model.call("predict", timeout=1.0)).detail
        del stream
        gc.collect()
        await wait_all_tasks_blocked()
        waited = await model.call("predict", timeout=1.0)  # the model can't be stopped
        assert (waited.status, waited.sent) == (Status.TIMEOUT, False)
        assert "behind another call" not in waited.detail
        skipped = await model.call("predict", timeout=1.0)
        assert skipped.status is Status.SKIPPED
        assert f"still busy with {CALL[1:]}" in skipped.detail


async def test_a_call_whose_connection_ended_keeps_no_place(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        model = cluster.models["a"]
        stream = await begin(model, "hang")
        await crunch.node("a").wait_for_calls(1)
        crunch.node("a").kill()
        await trio.sleep(1)
        crunch.node("a").restart()
        await cluster.wait_for_models(1)
        assert (await model.call("predict", timeout=5.0)).status is Status.SUCCESS
        del stream


@pytest.mark.parametrize("name", ["", "/", "predict", "/a b", "/\n/x", "/\xfc/x", "/" + "x" * 5000])
async def test_what_is_no_path_is_refused_before_anything_is_sent(name: str) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        channel = cluster.models["a"].channel
        with pytest.raises(ValueError, match=r"^name: must look like"):
            channel.request(name, Cardinality.UNARY_UNARY, CallRequest, CallResponse)
        with pytest.raises(TypeError, match=r"^name: must be a str"):
            channel.request(5, Cardinality.UNARY_UNARY, CallRequest, CallResponse)  # type: ignore[arg-type]
        assert crunch.node("a").call_count == 0


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("cardinality", {"cardinality": "unary"}),
        ("request_type", {"request_type": None}),
        ("reply_type", {"reply_type": 3}),
        ("timeout", {"timeout": "3"}),
        ("timeout", {"timeout": True}),
        ("metadata", {"metadata": 3}),
        ("metadata", {"metadata": "ab"}),
    ],
)
async def test_what_a_call_can_not_be_made_of_is_refused_by_name(name: str, wrong: dict[str, Any]) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        right: dict[str, Any] = {
            "cardinality": Cardinality.UNARY_UNARY,
            "request_type": CallRequest,
            "reply_type": CallResponse,
        }
        with pytest.raises(TypeError, match=f"^{name}: must be "):
            cluster.models["a"].channel.request(CALL, **(right | wrong))
        assert crunch.node("a").call_count == 0
