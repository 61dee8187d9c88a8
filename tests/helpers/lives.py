"""What whoever runs a deployment can answer to each step of its life, for tests that follow one.

`lifecycle.TABLE` says what an event leads to, and not which events a step can end with. That is said here,
and held against the real actor in `model/test_actor.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trio_model_runner import ModelState
from trio_model_runner.model.lifecycle import Event, Step

__all__ = ["ANSWERS", "STATES_OF"]

_NO_USE: Final = frozenset({Event.CONNECTION_ENDED, Event.GIVEN_UP, Event.GIVEN_UP_FOR_NOW})

ANSWERS: Final[Mapping[Step, frozenset[Event]]] = {
    Step.BEGIN: frozenset({Event.BEGUN}),
    Step.CONNECT: _NO_USE | {Event.UNPROVED, Event.CONNECTED},
    Step.BACK_OFF: frozenset({Event.WAITED}),
    Step.PROVE: _NO_USE | {Event.PROVED, Event.REACHED},
    Step.SET_UP: _NO_USE | {Event.MUST_JOIN, Event.SET_UP},
    Step.JOIN: _NO_USE | {Event.JOINED},
    Step.SERVE: _NO_USE | {Event.RETIRED_IN_PEACE},
    Step.OBSERVE: _NO_USE,
    Step.REPLACE: _NO_USE | {Event.MUST_JOIN, Event.SET_UP},
    Step.DRAIN: frozenset({Event.DRAINED}),
    Step.WAIT: frozenset(),
    Step.WAIT_TO_RETRY: frozenset({Event.WAITED}),
    Step.END: frozenset(),
}
"""The events that each step can end with; none for those that only a word from outside ends."""

STATES_OF: Final[Mapping[Step, frozenset[ModelState]]] = {
    Step.BEGIN: frozenset({ModelState.ANNOUNCED}),
    Step.CONNECT: frozenset({ModelState.CONNECTING}),
    Step.BACK_OFF: frozenset({ModelState.CONNECTING, ModelState.LOST}),
    Step.PROVE: frozenset({ModelState.PROVING}),
    Step.SET_UP: frozenset({ModelState.SETTING_UP}),
    Step.JOIN: frozenset({ModelState.JOINING}),
    Step.SERVE: frozenset({ModelState.READY}),
    Step.OBSERVE: frozenset({ModelState.REACHABLE}),
    Step.REPLACE: frozenset({ModelState.REPLACING}),
    Step.DRAIN: frozenset({ModelState.RETIRING}),
    Step.WAIT: frozenset({ModelState.RECOVERING, ModelState.FAILED}),
    Step.WAIT_TO_RETRY: frozenset({ModelState.FAILED}),
    Step.END: frozenset({ModelState.GONE}),
}
"""The states in which each step is taken."""
