"""What a coordinator holds of a model: the names of the contract, and nothing that can be set."""

from __future__ import annotations

import inspect
import json
import math
import pydoc
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpclib.client
import pytest
from helpers.coordinating import Model as HostedModel
from helpers.coordinating import coordinating, until
from trio.testing import MockClock
from typing_extensions import get_protocol_members

from trio_model_runner import Arguments, ModelRunner, ModelState, Status
from trio_model_runner.values.results import Model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_model_runner.model.handle import Operator

DESCRIPTION = {"model_id", "deployment_id", "name", "cruncher_id", "cruncher_name", "host", "port"}
METHODS = {"call", "predict", "reset", "to_dict"}
CONTRACT = DESCRIPTION | METHODS | {"infos", "state", "error", "channel"}


def public(names: list[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


async def test_its_public_names_are_the_contracts_and_no_others() -> None:
    async with coordinating({"a": HostedModel()}) as (_, cluster):
        assert public(dir(cluster.models["a"])) == CONTRACT
        assert public(dir(ModelRunner)) == CONTRACT


async def test_each_name_has_what_it_says() -> None:
    async with coordinating({"a": HostedModel()}) as (crunch, cluster):
        model, node = cluster.models["a"], crunch.node("a")
        assert (model.model_id, model.name) == ("a", "a")
        assert (model.cruncher_id, model.cruncher_name) == ("cruncher-of-a", "Author of a")
        assert model.deployment_id == crunch.deployments[0].deployment_id
        assert (model.host, model.port) == (node.host, node.port)
        assert (model.state, model.error) == (ModelState.READY, None)
        assert dict(model.infos) == dict(crunch.deployments[0].infos)
        assert isinstance(model.channel, grpclib.client.Channel)
        assert {name for name in CONTRACT if callable(getattr(model, name))} == METHODS


async def test_no_attribute_can_be_set() -> None:
    async with coordinating({"a": HostedModel()}) as (_, cluster):
        model: Any = cluster.models["a"]
        for name in CONTRACT - METHODS:
            with pytest.raises(AttributeError):
                setattr(model, name, "another")
            with pytest.raises(AttributeError):
                delattr(model, name)


async def test_nothing_can_be_put_on_it() -> None:
    async with coordinating({"a": HostedModel()}) as (_, cluster):
        model: Any = cluster.models["a"]
        for name in [*METHODS, "stat"]:
            with pytest.raises(AttributeError):
                setattr(model, name, None)


async def test_to_dict_is_strict_json() -> None:
    async with coordinating({"a": HostedModel()}) as (crunch, cluster):
        await crunch.add("b", HostedModel(), infos={"weight": math.nan, "model_name": ["a", "list"]})
        await cluster.wait_for_models(2)
        for model in cluster.models.values():
            row = model.to_dict()
            assert json.loads(json.dumps(row, allow_nan=False)) == row
            description = {name: getattr(model, name) for name in DESCRIPTION}
            assert row == description | {"state": "ready", "error": None}
            assert {type(value) for value in row.values()} == {str, int, type(None)}


async def test_to_dict_says_why_it_is_not_ready(autojump_clock: MockClock) -> None:
    async with coordinating({"a": HostedModel()}) as (crunch, cluster):
        model = cluster.models["a"]
        await crunch.crash("a")
        await until(cluster, lambda: model.state is ModelState.RECOVERING)
        row = json.loads(json.dumps(model.to_dict(), allow_nan=False))
        assert (row["state"], row["error"]) == ("recovering", "it crashed, and is being restarted")


async def test_names_are_fit_to_be_shown() -> None:
    infos = {"model_name": "x\x1b[31m" * 1000, "cruncher_id": 7, "cruncher_name": None}
    async with coordinating({"b": HostedModel()}) as (crunch, cluster):
        await crunch.add("a", HostedModel(), infos=infos)
        await cluster.wait_for_models(2)
        model = cluster.models["a"]
        assert "\x1b" not in model.name
        assert 0 < len(model.name) <= cluster.config.limits.max_detail_length
        assert (model.cruncher_id, model.cruncher_name) == ("7", "")


async def test_a_model_that_is_gone_still_answers(autojump_clock: MockClock) -> None:
    async with coordinating({"a": HostedModel()}) as (crunch, cluster):
        model = cluster.models["a"]
        known = {name: getattr(model, name) for name in DESCRIPTION | {"infos"}}
        await crunch.remove("a")
        await until(cluster, lambda: model.state is ModelState.GONE)
        await check_gone(model, known)
        for result in (await model.call("predict"), await model.predict(1), await model.reset()):
            assert (result.status, result.model) == (Status.ABSENT, model)
    await check_gone(model, known)


async def check_gone(model: ModelRunner, known: Mapping[str, Any]) -> None:
    assert {name: getattr(model, name) for name in known} == known
    assert model.state is ModelState.GONE
    assert model.to_dict()["state"] == "gone"
    assert "gone" in repr(model)
    assert isinstance(model.channel, grpclib.client.Channel)


async def test_equality_is_identity(autojump_clock: MockClock) -> None:
    async with coordinating({"a": HostedModel, "b": HostedModel}) as (crunch, cluster):
        old, other = cluster.models["a"], cluster.models["b"]
        assert old == cluster.models["a"] is cluster.announced["a"]
        assert old != other
        await crunch.redeploy("a", HostedModel)
        await until(cluster, lambda: cluster.models["a"] is not old)
        new = cluster.models["a"]
        assert old != new
        assert len({old, new, other}) == 3


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (
            ModelRunner.call,
            {"method": str, "arguments": Arguments(), "timeout": None, "optional": False}
            | {"sit_out": True, "returns": None, "decode": True},
        ),
        (ModelRunner.predict, {"values": tuple, "timeout": None, "returns": None, "decode": True}),
        (ModelRunner.reset, {"timeout": None}),
        (ModelRunner.to_dict, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_help_shows_each_parameter_with_its_default(method: Any, parameters: dict[str, Any]) -> None:
    signature = inspect.signature(method)
    assert [*signature.parameters] == ["self", *parameters]
    for name, default in parameters.items():
        parameter = signature.parameters[name]
        assert parameter.annotation is not parameter.empty
        if isinstance(default, type):  # there is none
            assert parameter.default is parameter.empty
        elif not isinstance(default, Arguments):
            assert parameter.default == default
        assert (parameter.kind is parameter.KEYWORD_ONLY) == (name not in ("method", "arguments", "values"))
    shown = pydoc.plain(pydoc.render_doc(ModelRunner))  # from Python 3.13 on, a line for each parameter
    assert re.search(rf"{method.__name__}\([\s|]*self", shown)
    assert inspect.getdoc(method)


def test_it_has_all_that_a_model_has() -> None:
    """Type checkers say so too, where a result's model is a `ModelRunner`; here is what they can't see."""
    assert get_protocol_members(Model) == CONTRACT
    for name in CONTRACT & METHODS - {"to_dict"}:
        assert inspect.iscoroutinefunction(getattr(ModelRunner, name))


def test_a_handle_needs_no_more_than_an_operator() -> None:
    operator: Operator = SimpleNamespace(  # type: ignore[assignment]
        infos={"model_name": "mine"}, host="h", port=5, error=OSError("down"), state=ModelState.LOST
    )
    model: Model = ModelRunner(operator, model_id="m", deployment_id=None, longest_text=100)
    assert model.to_dict() == {
        "model_id": "m",
        "deployment_id": None,
        "name": "mine",
        "cruncher_id": "",
        "cruncher_name": "",
        "host": "h",
        "port": 5,
        "state": "lost",
        "error": "down",
    }
    assert repr(model) == "<ModelRunner 'm' lost at h:5>"
