"""Any text from an orchestrator is an event or nothing; what is wrong in it is logged."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import attrs
import pytest
from helpers.websocket_server import (
    entry,
)
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.orchestrator import (
    Entry,
    Init,
    MessageParser,
    RunState,
    Update,
)


def message(event: str, *entries: Any) -> str:
    return json.dumps({"event": event, "data": entries})


def parse_entry(**fields: Any) -> Entry | None:
    parsed = MessageParser().parse(message("update", {"model_id": "1"} | fields))
    assert isinstance(parsed, Update)
    return parsed.entries[0] if parsed.entries else None


RUNNING = {"state": "RUNNING", "ip": "10.0.0.1", "port": 1}


def test_an_init_lists_entries_in_order() -> None:
    parsed = MessageParser().parse(message("init", entry("2", deployment_id="a"), entry("1"), entry("2")))
    assert isinstance(parsed, Init)
    assert [item.model_id for item in parsed.entries] == ["2", "1", "2"]
    assert parsed.entries[1] == Entry(
        model_id="1",
        deployment_id="deployment-of-1",
        state=RunState.RUNNING,
        host="127.0.0.1",
        port=50051,
        infos={"model_name": "model-1", "cruncher_id": "7", "cruncher_name": "ada"},
    )


def test_names_come_from_the_infos() -> None:
    parsed = MessageParser().parse(message("update", entry("1")))
    assert isinstance(parsed, Update)
    (item,) = parsed.entries
    assert item.infos == {"model_name": "model-1", "cruncher_id": "7", "cruncher_name": "ada"}


def test_the_oldest_orchestrators_leave_out_a_lot() -> None:
    item = parse_entry(**RUNNING, model_name="old")
    assert item is not None
    assert item.deployment_id is None
    assert item.infos == {"model_name": "old"}


def test_the_infos_name_wins_over_the_old_one() -> None:
    item = parse_entry(**RUNNING, model_name="old", infos={"model_name": "new"})
    assert item is not None
    assert item.infos == {"model_name": "new"}


@pytest.mark.parametrize("port", [50051, "50051"])
def test_a_port_may_be_text(port: Any) -> None:
    item = parse_entry(state="RUNNING", ip="node.example", port=port)
    assert item is not None
    assert (item.host, item.port) == ("node.example", 50051)


@pytest.mark.parametrize("state", ["STOPPED", "RECOVERING"])
@pytest.mark.parametrize(
    "address", [{}, {"ip": "", "port": 0}, {"ip": None, "port": None}, {"ip": [], "port": "x"}]
)
def test_a_model_that_is_down_needs_no_address(state: str, address: dict[str, Any]) -> None:
    item = parse_entry(state=state, **address)
    assert item is not None
    assert (item.state, item.host, item.port) == (RunState(state), "", 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"model_id": ""},
        {"model_id": None},
        {"model_id": 7},
        {"state": "running"},
        {"state": None},
        {"state": ["RUNNING"]},
        {"deployment_id": 7},
        {"ip": ""},
        {"ip": None},
        {"ip": 127001},
        {"ip": "a..b"},
        {"ip": "a b"},
        {"ip": "\x00"},
        {"port": True},
        {"port": 0},
        {"port": 65536},
        {"port": -1},
        {"port": 1.0},
        {"port": "0x10"},
        {"port": ""},
        {"port": "\u0661"},
        {"port": "9" * 5000},
        {"port": math.nan},
        {"port": None},
    ],
)
def test_a_bad_entry_is_skipped_and_logged_once(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    parser = MessageParser()
    text = message("init", entry("before"), entry("bad") | fields, entry("after"))
    for _ in range(3):
        parsed = parser.parse(text)
        assert isinstance(parsed, Init)
        assert [item.model_id for item in parsed.entries] == ["before", "after"]
    assert len(caplog.records) == 1
    assert caplog.records[0].name == "trio_model_runner.orchestrator"


def test_infos_that_are_no_object_cost_only_the_infos(caplog: pytest.LogCaptureFixture) -> None:
    item = parse_entry(**RUNNING, infos=["a"], model_name="old")
    assert item is not None
    assert item.infos == {"model_name": "old"}
    assert len(caplog.records) == 1


def test_infos_are_read_only_all_the_way_down() -> None:
    item = parse_entry(**RUNNING, infos={"a": {"b": [{"c": 1}]}})
    assert item is not None
    with pytest.raises(TypeError):
        item.infos["x"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        item.infos["a"]["x"] = 1
    with pytest.raises(TypeError):
        item.infos["a"]["b"][0]["c"] = 2
    assert hash(item) == hash(attrs.evolve(item))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "7",
        "[]",
        '"init"',
        "{}",
        '{"event": "init"}',
        '{"event": "init", "data": null}',
        '{"event": "init", "data": {}}',
        '{"event": "other", "data": []}',
        '{"event": ["init"], "data": []}',
        b"\xff\xfe\x00",
        "[" * 1_000_000,
        '{"event": "init", "data": ' + "9" * 10_000 + "}",
    ],
)
def test_a_bad_message_is_nothing_and_logged_once(
    text: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    parser = MessageParser()
    assert parser.parse(text) is None
    assert parser.parse(text) is None
    assert len(caplog.records) == 1
    assert parser.refusal is None


def test_an_entry_nested_too_deep_costs_no_other() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    parsed = MessageParser().parse(message("init", entry("1"), entry("2", infos={"deep": deep})))
    assert isinstance(parsed, Init)
    assert parsed.entries[0].model_id == "1"


def test_an_error_message_is_remembered(caplog: pytest.LogCaptureFixture) -> None:
    parser = MessageParser()
    assert parser.parse('{"error": "no crunch \\u001b[31mid"}') is None
    assert parser.refusal == r"'no crunch \x1b[31mid'"
    assert caplog.records[0].levelno == logging.ERROR


def test_unknown_keys_are_fine(caplog: pytest.LogCaptureFixture) -> None:
    text = json.dumps({"event": "init", "data": [entry("1", zone="eu")], "version": 2})
    parsed = MessageParser().parse(text)
    assert isinstance(parsed, Init)
    assert len(parsed.entries) == 1
    assert not caplog.records


def test_what_is_logged_is_short_and_escaped(caplog: pytest.LogCaptureFixture) -> None:
    MessageParser().parse(message("init", entry("\x1b]0;" + "x" * 100_000, state="\u202e\n" * 1000)))
    (record,) = caplog.records
    assert len(record.getMessage()) < 2000
    assert record.getMessage().isprintable()


def test_a_flood_of_complaints_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    parser = MessageParser()
    for start in range(0, 5000, 1000):
        parser.parse(message("init", *(entry(str(start + i), state="ODD") for i in range(1000))))
    assert len(caplog.records) == 5 * 21
    # Only what it remembers shows that it would not fill the process over weeks.
    assert len(parser._complaints) <= 1000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
near_entries = st.fixed_dictionaries(
    {},
    optional={
        key: json_values | st.sampled_from(["RUNNING", "STOPPED", "10.0.0.1", "1", 1])
        for key in ("model_id", "deployment_id", "state", "ip", "port", "infos", "model_name")
    },
)


@given(st.text() | st.binary())
def test_any_text_is_parsed(text: str | bytes) -> None:
    MessageParser().parse(text)


@given(json_values | st.fixed_dictionaries({"event": json_values | st.just("init"), "data": json_values}))
def test_any_json_is_parsed(value: Any) -> None:
    MessageParser().parse(json.dumps(value))


@given(st.lists(json_values | near_entries), st.lists(json_values | near_entries))
def test_good_entries_survive_between_any_others(before: list[Any], after: list[Any]) -> None:
    good = entry("the good one")
    parsed = MessageParser().parse(message("init", *before, good, *after))
    assert isinstance(parsed, Init)
    assert [item.port for item in parsed.entries if item.model_id == "the good one"] == [50051]
    for item in parsed.entries:
        assert item.model_id
        assert item.state is not RunState.RUNNING or (item.host and 1 <= item.port <= 65535)
