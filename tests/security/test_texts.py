"""What strangers write is cut and made readable before it gets into results, errors, reports and logs."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import grpc
import pytest
from grpclib.exceptions import GRPCError
from helpers.coordinating import Model, coordinating, until
from helpers.secure_crunch import ALONE, Node
from helpers.secure_crunch import coordinating as coordinating_nodes
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner import ModelError, Status
from trio_model_runner.config import Limits
from trio_model_runner.text import readable

EVIL = "\x1b]0;owned\x07\x1b[2J\u202eevil\u200b\r\x00\x9b1m"
HARMLESS = "\\x1b]0;owned\\x07\\x1b[2J\\u202eevil\\u200b\\r\\x00\\x9b1m"


def is_readable(text: str) -> bool:
    return all(char.isprintable() or char in "\n\t" for char in text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain, und nicht nur ASCII: ½ 鳥 🐦", "plain, und nicht nur ASCII: ½ 鳥 🐦"),
        ("Traceback:\n\tline 1\n", "Traceback:\n\tline 1\n"),
        (EVIL, HARMLESS),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("x" * 100, "x" * 100),
        ("x" * 101, "x" * 99 + "…"),
        ("\x00" * 100, "\\x00" * 24 + "\\x0…"),
    ],
)
def test_texts_are_shown_as_they_are_as_far_as_they_can_be(text: str, shown: str) -> None:
    assert readable(text, 100) == shown


@given(st.text(st.characters()), st.integers(1, 50))
def test_any_text_becomes_readable_and_short(text: str, longest: int) -> None:
    shown = readable(text, longest)
    assert len(shown) <= longest
    assert is_readable(shown)
    assert readable(shown, longest) == shown
    shown.encode("utf-8")


class Vandal(Model):
    def fail(self) -> None:
        raise ValueError(EVIL)


class Unmakeable(Model):
    def __init__(self, *_: Any) -> None:
        raise ValueError(EVIL)


async def test_what_a_model_says_of_its_failure_is_readable(autojump_clock: Any) -> None:
    async with coordinating({"a": Vandal}, max_consecutive_failures=0, health=ALONE) as (crunch, cluster):
        result = (await cluster.call("fail")).by_id["a"]
        assert HARMLESS in result.detail
        with pytest.raises(ModelError) as raised:
            result.unwrap()
        assert is_readable("".join(traceback.format_exception(raised.value)))
        await crunch.orchestrator.wait_for_reports()
        assert HARMLESS in crunch.reports[0]["failure_reason"]
        assert is_readable(crunch.reports[0]["failure_reason"])


async def test_what_a_model_says_of_its_setup_is_readable(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinating({"a": Unmakeable}, health=ALONE) as (crunch, cluster):
        error = cluster.announced["a"].error
        assert HARMLESS in str(error)
        assert is_readable("".join(traceback.format_exception(error)))
        await crunch.orchestrator.wait_for_reports()
        assert is_readable(crunch.reports[0]["failure_reason"])
    assert all(record.getMessage().isprintable() for record in caplog.records)


async def test_texts_of_models_are_cut(autojump_clock: Any) -> None:
    settings: dict[str, Any] = {
        "limits": Limits(max_detail_length=50),
        "max_consecutive_failures": 0,
        "health": ALONE,
    }
    async with coordinating({"a": Vandal}, **settings) as (crunch, cluster):
        result = (await cluster.call("fail")).by_id["a"]
        assert len(result.detail) == 50
        await crunch.orchestrator.wait_for_reports()
        assert len(crunch.reports[0]["failure_reason"]) <= 50


async def test_the_status_of_a_node_is_readable_wherever_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    with Node(authority=None) as node:
        node.proof = lambda method: ()
        node.behave = lambda request, context: context.abort(grpc.StatusCode.INTERNAL, EVIL)
        async with coordinating_nodes(node, max_consecutive_failures=0) as scene:
            result = (await scene.cluster.call("predict")).by_id["7"]
            assert result.status is Status.FAILED
            assert HARMLESS in result.detail
            assert isinstance(result.error, GRPCError)
            assert result.error.message == HARMLESS
            with pytest.raises(ModelError) as raised:
                result.unwrap()
            assert is_readable("".join(traceback.format_exception(raised.value)))
            assert is_readable((await scene.first_report())["failure_reason"])
            await until(scene.cluster, lambda: scene.state(node) == "failed")
            assert is_readable(str(scene.error(node)))
    assert all(
        record.getMessage().isprintable() for record in caplog.records if record.levelno >= logging.INFO
    )


async def test_names_are_readable_and_infos_are_what_was_said(autojump_clock: Any) -> None:
    async with coordinating({}) as (crunch, cluster):
        infos = {"cruncher_name": EVIL, "cruncher_id": EVIL, "other": EVIL}
        await crunch.add("a", Model, name=EVIL, infos=infos)
        await cluster.wait_for_models(1)
        model = cluster.models["a"]
        assert model.name == model.cruncher_name == model.cruncher_id == HARMLESS
        assert model.infos["model_name"] == model.infos["other"] == EVIL
        assert is_readable(repr(model))
        result = (await cluster.call("fail")).by_id["a"]
        assert is_readable(result.to_dict()["model_name"])
        with pytest.raises(ModelError) as raised:
            result.unwrap()
        assert is_readable(str(raised.value))
