"""What a local orchestrator announces is what one could say; all else is refused, and nothing is sent."""

from __future__ import annotations

import re
from typing import Any

import pytest
from helpers.local_feed import crunch_and_feed

ENTRY = {"deployment_id": "d", "model_id": "one", "state": "RUNNING", "ip": "10.1.1.1", "port": 7}

POSSIBLE: dict[str, dict[str, Any]] = {
    "all keys": {**ENTRY, "infos": {"model_name": "One", "more": [1, None]}, "model_name": "One"},
    "the oldest": {
        "model_id": "one",
        "state": "RUNNING",
        "ip": "host.example",
        "port": "7",
        "model_name": "One",
    },
    "no address": {"model_id": "one", "state": "STOPPED"},
    "empty address": {**ENTRY, "state": "RECOVERING", "ip": "", "port": 0},
    "null address": {**ENTRY, "state": "STOPPED", "ip": None, "port": None, "infos": None},
}

IMPOSSIBLE: dict[str, tuple[Any, str]] = {
    "no mapping": ("one", "must be a mapping with the keys of OrchestratorEntry, got 'one'"),
    "no model": ({"state": "STOPPED"}, "the entry of 'no model': has no model_id"),
    "no state": ({"model_id": "one"}, "the entry of 'one': has no state"),
    "model": ({**ENTRY, "model_id": 7}, "model_id must be text that is not empty, got 7"),
    "deployment": ({**ENTRY, "deployment_id": 7}, "deployment_id must be text, or None, got 7"),
    "state": (
        {**ENTRY, "state": "running"},
        "state must be one of RUNNING, STOPPED, RECOVERING, got 'running'",
    ),
    "typing error": ({**ENTRY, "model_nmae": "x"}, "the key 'model_nmae'; did you mean 'model_name'?"),
    "unknown key": ({**ENTRY, "zone": "x"}, "the key 'zone'; the keys are model_id, deployment_id, state"),
    "no ip": (
        {**ENTRY, "ip": ""},
        "ip must be an address or a host name for a deployment that is RUNNING, got ''",
    ),
    "ip": ({**ENTRY, "state": "STOPPED", "ip": 7}, "ip must be an address or a host name, or None, got 7"),
    "no port": (
        {**ENTRY, "port": None},
        "port must be a number from 1 to 65535 for a deployment that is RUNNING",
    ),
    "port": ({**ENTRY, "port": "http"}, "port must be a number from 1 to 65535 for"),
    "large port": ({**ENTRY, "port": 65536}, "got 65536"),
    "true port": ({**ENTRY, "state": "STOPPED", "port": False}, "or None, got False"),
    "infos": ({**ENTRY, "infos": ["x"]}, "infos must be a mapping, got ['x']"),
    "no JSON": ({**ENTRY, "infos": {"x": b""}}, "can't be sent as JSON: Object of type bytes"),
}


@pytest.mark.parametrize("entry", POSSIBLE.values(), ids=POSSIBLE)
async def test_what_an_orchestrator_could_say_is_sent_as_it_is(entry: Any) -> None:
    async with crunch_and_feed() as (crunch, feed):
        await feed.event()
        crunch.orchestrator.announce(entry)
        assert await feed.event() == ("update", [entry])


@pytest.mark.parametrize(("entry", "why"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
async def test_anything_else_is_refused_with_what_would_do(entry: Any, why: str) -> None:
    async with crunch_and_feed() as (crunch, feed):
        await feed.event()
        with pytest.raises((TypeError, ValueError), match=re.escape(why)):
            crunch.orchestrator.announce(ENTRY, entry)  # type: ignore[arg-type]
        assert crunch.orchestrator.entries == []
        crunch.orchestrator.announce({**ENTRY, "model_id": "next"})  # type: ignore[arg-type]
        assert await feed.states() == [("update", "next", "RUNNING")]


async def test_a_models_entry_is_checked_with_its_changes() -> None:
    async with crunch_and_feed("one") as (crunch, _):
        with pytest.raises(ValueError, match="no orchestrator sends the key 'host'"):
            crunch.announce("one", host="elsewhere")
        with pytest.raises(ValueError, match="state must be one of"):
            crunch.announce("one", "CRASHED")
