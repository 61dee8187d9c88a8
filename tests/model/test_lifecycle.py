"""The table of a life has no dead end and no step out of place, and is "ready" only with a connection.

All of it is walked: once exhaustively, since it is finite, and once by random lives in which steps end as
they can end (`helpers.lives`), and words from outside come at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from helpers.lives import ANSWERS, STATES_OF
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_model_runner import ModelState
from trio_model_runner.model.lifecycle import CONNECTED, TABLE, WORDS, Event, Lifecycle, Step

OWN = [event for event in Event if event not in WORDS]
CONNECTIONS = frozenset({Event.CONNECTED, Event.UNPROVED})
REPLACEMENTS = frozenset({Event.MUST_JOIN, Event.SET_UP})
BEGINNING = (ModelState.ANNOUNCED, Step.BEGIN)
WAY_UP = (
    Event.BEGUN,
    Event.WAITED,
    Event.CONNECTED,
    Event.PROVED,
    Event.SET_UP,
    Event.JOINED,
    Event.ANNOUNCED_AGAIN,
)
"""What happens to a deployment when all is well."""

RESTING = (Step.SERVE, Step.OBSERVE, Step.END)


@attrs.frozen
class Place:
    """Where a deployment is, and whether there is a connection, which is not for the table to say."""

    state: ModelState = ModelState.ANNOUNCED
    step: Step = Step.BEGIN
    connected: bool = False

    def __str__(self) -> str:
        return f"{self.state.value}, {self.step.name}{' connected' if self.connected else ''}"

    def after(self, event: Event) -> Place:
        """Where an event leads; a connection is let go of with the states."""
        life = life_at(self.state, self.step)
        life.happened(event)
        connected = (self.connected or makes_a_connection(self.step, event)) and life.state in CONNECTED
        return Place(life.state, life.step, connected)

    def nexts(self) -> Iterator[Place]:
        for event in ANSWERS[self.step] | WORDS:
            if event in TABLE[self.state]:
                yield self.after(event)


def makes_a_connection(step: Step, event: Event) -> bool:
    """Whether there is a connection after an event, or the step that ended with it has brought one."""
    return event in CONNECTIONS or (step is Step.REPLACE and event in REPLACEMENTS)


def life_at(state: ModelState, step: Step = Step.WAIT) -> Lifecycle:
    life = Lifecycle()
    life.state, life.step = state, step
    return life


def reachable(start: Place) -> set[Place]:
    found, new = {start}, [start]
    while new:
        for place in new.pop().nexts():
            if place not in found:
                found.add(place)
                new.append(place)
    return found


PLACES = sorted(reachable(Place()), key=str)


def test_a_life_begins_with_its_announcement() -> None:
    life = Lifecycle()
    assert (life.state, life.step) == BEGINNING


def test_every_state_and_every_step_is_reached() -> None:
    assert {place.state for place in PLACES} == set(ModelState) == set(TABLE)
    assert {place.step for place in PLACES} == set(Step)


def test_every_entry_of_the_table_can_happen() -> None:
    possible = {(place.state, event) for place in PLACES for event in ANSWERS[place.step] | WORDS}
    assert {(state, event) for state, entries in TABLE.items() for event in entries} - possible == set()


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_whatever_a_step_ends_with_leads_somewhere(place: Place) -> None:
    assert [event for event in ANSWERS[place.step] if event not in TABLE[place.state]] == []


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_no_step_is_out_of_place(place: Place) -> None:
    assert place.state in STATES_OF[place.step]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_there_is_a_connection_in_the_connected_states_and_in_no_others(place: Place) -> None:
    assert place.connected == (place.state in CONNECTED)


def test_ready_is_a_connected_state_and_is_entered_with_a_connection() -> None:
    entered_from = {
        state
        for state, entries in TABLE.items()
        for target, _ in entries.values()
        if target is ModelState.READY and state is not ModelState.READY
    }
    assert ModelState.READY in CONNECTED
    assert entered_from == {ModelState.SETTING_UP, ModelState.JOINING, ModelState.REPLACING}
    assert entered_from - CONNECTED == {ModelState.REPLACING}  # whose step brings a connection that is set up


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_place_but_the_end_has_a_way_out_and_a_way_to_the_end(place: Place) -> None:
    if place.state is ModelState.GONE:
        assert reachable(place) == {place}
        return
    assert place.after(Event.STOPPED) == Place(ModelState.GONE, Step.END)
    assert {other.state for other in place.nexts()} - {place.state, ModelState.GONE} or (
        place.state is ModelState.RETIRING  # which has nothing before it but the end
    )


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_from_every_place_it_becomes_ready_if_all_is_well(place: Place) -> None:
    ends = {ModelState.RETIRING: Step.END, ModelState.GONE: Step.END, ModelState.REACHABLE: Step.OBSERVE}
    assert end_if_all_is_well(place) == ends.get(place.state, Step.SERVE)


def end_if_all_is_well(place: Place) -> Step:
    """Where a life comes to rest if every step succeeds, and the orchestrator announces it once more."""
    for _ in range(len(PLACES)):
        if place.step in RESTING:
            break
        well = [event for event in WAY_UP if event in ANSWERS[place.step]]
        place = place.after(well[0] if well else _last_resort(place))
    return place.step


def _last_resort(place: Place) -> Event:
    return Event.DRAINED if place.step is Step.DRAIN else Event.ANNOUNCED_AGAIN


@pytest.mark.parametrize("state", ModelState)
@pytest.mark.parametrize("word", sorted(WORDS, key=str))
def test_a_word_can_come_in_any_state(state: ModelState, word: Event) -> None:
    life = life_at(state, Step.WAIT)
    heeded = life.heeds(word)
    assert life.happened(word) is heeded is (word in TABLE[state])
    if not heeded:
        assert (life.state, life.step) == (state, Step.WAIT)


@pytest.mark.parametrize(
    ("state", "event"), [(state, event) for state in ModelState for event in OWN if event not in TABLE[state]]
)
def test_what_can_not_happen_raises_and_changes_nothing(state: ModelState, event: Event) -> None:
    life = life_at(state, Step.WAIT)
    with pytest.raises(RuntimeError, match=f"{event.name} can't happen .* {state.value}"):
        life.happened(event)
    assert (life.state, life.step) == (state, Step.WAIT)


def test_the_table_can_not_be_changed() -> None:
    table: Any = TABLE
    with pytest.raises(TypeError):
        table[ModelState.GONE] = {}


class Life(RuleBasedStateMachine):
    """A random life, with a connection beside it that is made and let go of as an actor does it."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Lifecycle()
        self.connected = False

    @initialize(begins=st.booleans())
    def begin(self, begins: bool) -> None:
        if begins:
            self._happened(Event.BEGUN)

    @rule(word=st.sampled_from(sorted(WORDS, key=str)))
    def hear(self, word: Event) -> None:
        before = (self.life.state, self.life.step)
        if not self._happened(word):
            assert (self.life.state, self.life.step) == before

    @rule(data=st.data())
    def take_the_step(self, data: st.DataObject) -> None:
        if answers := sorted(ANSWERS[self.life.step], key=str):
            assert self._happened(data.draw(st.sampled_from(answers)))

    @invariant()
    def the_step_is_the_states(self) -> None:
        assert self.life.state in STATES_OF[self.life.step]

    @invariant()
    def ready_means_connected(self) -> None:
        assert self.connected == (self.life.state in CONNECTED)
        needing_one = (Step.SERVE, Step.OBSERVE, Step.DRAIN, Step.JOIN, Step.SET_UP)
        assert self.connected or self.life.step not in needing_one

    def teardown(self) -> None:
        place = Place(self.life.state, self.life.step, self.connected)
        assert end_if_all_is_well(place) in RESTING
        assert (place.state is ModelState.GONE) or self._happened(Event.STOPPED)

    def _happened(self, event: Event) -> bool:
        step = self.life.step
        if not self.life.happened(event):
            return False
        made = makes_a_connection(step, event)
        self.connected = (self.connected or made) and self.life.state in CONNECTED
        return True


TestLife = Life.TestCase
