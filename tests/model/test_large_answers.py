"""Answers that are bounded by what they become, and what is done with them in a thread."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.coordinating import SERVICE, Model, coordinating
from trio.testing import MockClock

from trio_model_runner import ClusterConfig, DataType, Encoded, InvalidAnswer, Status
from trio_model_runner.config import Limits
from trio_model_runner.model.round_spec import RoundSpec


def spec(returns: Any = None, **limits: int) -> RoundSpec:
    config = ClusterConfig("crunch", host="127.0.0.1", limits=Limits(**limits))
    return RoundSpec.make(config, "predict", SERVICE.read_call, 0.0, returns=returns)


def test_the_values_in_json_are_limited_by_the_settings() -> None:
    encoded = Encoded(DataType.JSON, b"[1,2,3]")
    assert spec().max_json_values == Limits().max_json_values == 500_000
    assert spec(max_json_values=7).decoded(encoded).value == [1, 2, 3]
    refused = spec(max_json_values=6).decoded(encoded)
    assert isinstance(refused.error, InvalidAnswer)
    assert refused.detail == "JSON of more than 6 values (max_json_values)"


async def test_an_answer_of_too_many_values_is_that_model_s_failure(autojump_clock: MockClock) -> None:
    class Large(Model):
        def predict(self, value: Any = 1.5) -> Any:
            return [[]] * 20

    limits = Limits(max_json_values=100)
    async with coordinating({"a": Large(), "b": Model()}, limits=limits) as (_, cluster):
        results = {model.model_id: result for model, result in (await cluster.call("predict")).items()}
    assert results["b"].status is Status.SUCCESS
    assert results["a"].status is Status.FAILED
    assert results["a"].detail == "JSON of more than 100 values (max_json_values)"


@pytest.mark.parametrize(("returns", "large"), [(None, False), (list[int], True), (list, True), (len, False)])
def test_it_depends_on_the_type_that_is_asked_for_what_takes_long(returns: Any, *, large: bool) -> None:
    encoded = Encoded(DataType.JSON, b"[" + b"1," * 500 + b"1]")
    assert spec(returns).takes_long_to_decode(encoded) is large
