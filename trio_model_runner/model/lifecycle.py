"""The life of a deployment, as a table: all states, all events, and the state that each event leads to.

A deployment is announced. Then it goes from CONNECTING to READY, and does so again on every new connection,
since a new connection may lead to another process. The orchestrator, the coordinator and the model's own
calls can cause events at any moment.

The naive way is a loop of awaits, with flags that the rest of the program sets. Then an event in the middle
of an await is noticed late or not at all, and the state is still "ready" while nothing is connected. Here the
state is never set by hand: an event is looked up in `TABLE`, under the present state. The entry has the next
state, and the **step** that the actor takes now. The step before it is cancelled.

A model that is only observed takes another way: its node is never asked for an instance, so the model is
REACHABLE, not READY.

There is no I/O, no clock and no connection here. `actor` takes the steps.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..values.results import ModelState

__all__ = [
    "CONNECTED",
    "TABLE",
    "TAKING_PART",
    "UNAVAILABLE",
    "UP",
    "WORDS",
    "Event",
    "JoinReason",
    "Lifecycle",
    "Step",
]


class JoinReason(enum.StrEnum):
    """Why a model joins: the model is new, the deployment is new, or the deployment was set up again."""

    JOINED = "joined"
    REDEPLOYED = "redeployed"
    RESTARTED = "restarted"


class Event(enum.Enum):
    """What can happen to a deployment.

    Attributes:
        ANNOUNCED_AGAIN: the orchestrator says that it runs where it did.
        CRASHED: the orchestrator says that it crashed, and is being restarted.
        MOVED: the orchestrator says that it runs at another address.
        REPLACED: another deployment has taken its place.
        STOPPED: the orchestrator stopped it, or the cluster ends.
        REPORTED: it was reported to the orchestrator.
        HELD: a report about it is held. So the reason why it was given up may lie elsewhere.
        DISTRUSTED: an answer did not prove that it comes from the model's node.
        PROOF_LAPSED: what its node proved holds no longer: it has expired, or the orchestrator has named
            another participant.
        INSTANCE_LOST: its node has no instance to call: it was restarted, or reset.
        BEGUN: the actor has begun to run.
        CONNECTED: there is a connection, and no proof is needed.
        UNPROVED: there is a connection, and its node must prove that it belongs to the model, or is only to
            answer.
        PROVED: the node proved that it belongs to the model.
        REACHED: the node answered, and the model is only observed.
        MUST_JOIN: it is set up, and the coordinator must catch it up.
        SET_UP: it is set up, and has its history.
        JOINED: the coordinator has caught it up.
        CONNECTION_ENDED: the connection is gone, or could not be made. Another attempt follows.
        RETIRED_IN_PEACE: its node has retired the connection, which is replaced at once.
        WAITED: the wait before the next attempt is over.
        GIVEN_UP: it can't be set up, and trying again would not help.
        GIVEN_UP_FOR_NOW: it can't be set up, and trying again later may help.
        DRAINED: its last call has ended.
    """

    ANNOUNCED_AGAIN = enum.auto()
    CRASHED = enum.auto()
    MOVED = enum.auto()
    REPLACED = enum.auto()
    STOPPED = enum.auto()
    REPORTED = enum.auto()
    HELD = enum.auto()
    DISTRUSTED = enum.auto()
    PROOF_LAPSED = enum.auto()
    INSTANCE_LOST = enum.auto()
    BEGUN = enum.auto()
    CONNECTED = enum.auto()
    UNPROVED = enum.auto()
    PROVED = enum.auto()
    REACHED = enum.auto()
    MUST_JOIN = enum.auto()
    SET_UP = enum.auto()
    JOINED = enum.auto()
    CONNECTION_ENDED = enum.auto()
    RETIRED_IN_PEACE = enum.auto()
    WAITED = enum.auto()
    GIVEN_UP = enum.auto()
    GIVEN_UP_FOR_NOW = enum.auto()
    DRAINED = enum.auto()


class Step(enum.Enum):
    """What the actor of a deployment does now.

    Attributes:
        BEGIN: begin to run.
        CONNECT: make a connection.
        BACK_OFF: wait before the next attempt to connect.
        PROVE: ask the node to prove that it belongs to the model.
        SET_UP: ask the node to make an instance.
        JOIN: let the coordinator catch it up.
        SERVE: carry calls, until the connection takes no more.
        OBSERVE: ask the node now and then whether it is there, until the connection ends.
        REPLACE: make the next connection, have it proved and set the model up, while calls wait for that.
        DRAIN: let the present calls end, and take no new ones.
        WAIT: wait for an event from outside.
        WAIT_TO_RETRY: wait for an event from outside, but try again after a while.
        END: end; the deployment is gone.
    """

    BEGIN = enum.auto()
    CONNECT = enum.auto()
    BACK_OFF = enum.auto()
    PROVE = enum.auto()
    SET_UP = enum.auto()
    JOIN = enum.auto()
    SERVE = enum.auto()
    OBSERVE = enum.auto()
    REPLACE = enum.auto()
    DRAIN = enum.auto()
    WAIT = enum.auto()
    WAIT_TO_RETRY = enum.auto()
    END = enum.auto()


WORDS: Final = frozenset(
    {
        Event.ANNOUNCED_AGAIN,
        Event.CRASHED,
        Event.MOVED,
        Event.REPLACED,
        Event.STOPPED,
        Event.REPORTED,
        Event.HELD,
        Event.DISTRUSTED,
        Event.PROOF_LAPSED,
        Event.INSTANCE_LOST,
    }
)
"""Events from outside. They can come in any state; if the table has no entry, they change nothing."""

CONNECTED: Final = frozenset(
    {
        ModelState.PROVING,
        ModelState.SETTING_UP,
        ModelState.JOINING,
        ModelState.READY,
        ModelState.REACHABLE,
        ModelState.RETIRING,
    }
)
"""The states in which there is a connection. In all others there is none."""

UNAVAILABLE: Final = frozenset(
    {ModelState.RECOVERING, ModelState.FAILED, ModelState.RETIRING, ModelState.GONE}
)
"""In these states there is no connection for calls, and none is being made."""

UP: Final = frozenset({ModelState.READY, ModelState.REACHABLE})
"""The states that a model is brought up to."""

TAKING_PART: Final = UP | {ModelState.REPLACING}
"""In these states a model takes part in rounds, or is reachable where the cluster only observes."""

Transition = tuple[ModelState, Step]

_WORDS_TO_ALL: Final[dict[Event, Transition]] = {
    Event.MOVED: (ModelState.CONNECTING, Step.CONNECT),
    Event.REPLACED: (ModelState.GONE, Step.END),
    Event.STOPPED: (ModelState.GONE, Step.END),
    Event.REPORTED: (ModelState.FAILED, Step.WAIT),
}

_WORDS_TO_THE_LIVING: Final[dict[Event, Transition]] = {
    **_WORDS_TO_ALL,
    Event.CRASHED: (ModelState.RECOVERING, Step.WAIT),
    Event.DISTRUSTED: (ModelState.FAILED, Step.WAIT),
}

_WORDS_TO_THE_DOWN: Final[dict[Event, Transition]] = {
    **_WORDS_TO_ALL,
    Event.ANNOUNCED_AGAIN: (ModelState.CONNECTING, Step.CONNECT),
}

_BRINGING_UP: Final[dict[Event, Transition]] = {
    **_WORDS_TO_THE_LIVING,
    Event.CONNECTION_ENDED: (ModelState.CONNECTING, Step.BACK_OFF),
    Event.GIVEN_UP: (ModelState.FAILED, Step.WAIT),
    Event.GIVEN_UP_FOR_NOW: (ModelState.FAILED, Step.WAIT_TO_RETRY),
}

TABLE: Final[Mapping[ModelState, Mapping[Event, Transition]]] = MappingProxyType(
    {
        ModelState.ANNOUNCED: {
            **_WORDS_TO_THE_LIVING,
            Event.BEGUN: (ModelState.CONNECTING, Step.CONNECT),
        },
        ModelState.CONNECTING: {
            **_BRINGING_UP,
            Event.UNPROVED: (ModelState.PROVING, Step.PROVE),
            Event.CONNECTED: (ModelState.SETTING_UP, Step.SET_UP),
            Event.WAITED: (ModelState.CONNECTING, Step.CONNECT),
        },
        ModelState.PROVING: {
            **_BRINGING_UP,
            Event.PROOF_LAPSED: (ModelState.CONNECTING, Step.CONNECT),
            Event.PROVED: (ModelState.SETTING_UP, Step.SET_UP),
            Event.REACHED: (ModelState.REACHABLE, Step.OBSERVE),
        },
        ModelState.SETTING_UP: {
            **_BRINGING_UP,
            Event.PROOF_LAPSED: (ModelState.CONNECTING, Step.CONNECT),
            Event.MUST_JOIN: (ModelState.JOINING, Step.JOIN),
            Event.SET_UP: (ModelState.READY, Step.SERVE),
        },
        ModelState.JOINING: {
            **_BRINGING_UP,
            Event.PROOF_LAPSED: (ModelState.CONNECTING, Step.CONNECT),
            Event.JOINED: (ModelState.READY, Step.SERVE),
        },
        ModelState.READY: {
            **_WORDS_TO_THE_LIVING,
            Event.PROOF_LAPSED: (ModelState.REPLACING, Step.REPLACE),
            Event.REPLACED: (ModelState.RETIRING, Step.DRAIN),
            Event.INSTANCE_LOST: (ModelState.CONNECTING, Step.CONNECT),
            Event.CONNECTION_ENDED: (ModelState.LOST, Step.BACK_OFF),
            Event.RETIRED_IN_PEACE: (ModelState.REPLACING, Step.REPLACE),
            Event.GIVEN_UP: (ModelState.FAILED, Step.WAIT),
            Event.GIVEN_UP_FOR_NOW: (ModelState.FAILED, Step.WAIT_TO_RETRY),
        },
        ModelState.REACHABLE: {
            **_WORDS_TO_THE_LIVING,
            Event.PROOF_LAPSED: (ModelState.CONNECTING, Step.CONNECT),
            Event.CONNECTION_ENDED: (ModelState.LOST, Step.BACK_OFF),
            Event.GIVEN_UP: (ModelState.FAILED, Step.WAIT),
            Event.GIVEN_UP_FOR_NOW: (ModelState.FAILED, Step.WAIT_TO_RETRY),
        },
        ModelState.REPLACING: {
            **_WORDS_TO_THE_LIVING,
            Event.PROOF_LAPSED: (ModelState.REPLACING, Step.REPLACE),
            Event.MUST_JOIN: (ModelState.JOINING, Step.JOIN),
            Event.SET_UP: (ModelState.READY, Step.SERVE),
            Event.CONNECTION_ENDED: (ModelState.LOST, Step.BACK_OFF),
            Event.GIVEN_UP: (ModelState.FAILED, Step.WAIT),
            Event.GIVEN_UP_FOR_NOW: (ModelState.FAILED, Step.WAIT_TO_RETRY),
        },
        ModelState.LOST: {
            **_WORDS_TO_THE_LIVING,
            Event.WAITED: (ModelState.CONNECTING, Step.CONNECT),
        },
        ModelState.RECOVERING: _WORDS_TO_THE_DOWN,
        ModelState.FAILED: {
            **_WORDS_TO_THE_DOWN,
            Event.CRASHED: (ModelState.RECOVERING, Step.WAIT),
            Event.HELD: (ModelState.FAILED, Step.WAIT_TO_RETRY),
            Event.WAITED: (ModelState.CONNECTING, Step.CONNECT),
        },
        ModelState.RETIRING: {
            Event.STOPPED: (ModelState.GONE, Step.END),
            Event.DISTRUSTED: (ModelState.GONE, Step.END),
            Event.DRAINED: (ModelState.GONE, Step.END),
        },
        ModelState.GONE: {},
    }
)


class Lifecycle:
    """Where a deployment is in its life.

    Attributes:
        state: the state.
        step: what the actor does now.
    """

    __slots__ = ("state", "step")

    def __init__(self) -> None:
        self.state = ModelState.ANNOUNCED
        self.step = Step.BEGIN

    def heeds(self, event: Event) -> bool:
        """Whether an event would change anything now."""
        return event in TABLE[self.state]

    def happened(self, event: Event) -> bool:
        """Change to the state that an event leads to.

        Returns:
            Whether the table has an entry for it. If so, the step under way ends and the next one begins.

        Raises:
            RuntimeError: this event can't happen in this state. Those in `WORDS` can always happen.
        """
        transition = TABLE[self.state].get(event)
        if transition is None:
            if event in WORDS:
                return False
            raise RuntimeError(f"{event.name} can't happen to a deployment that is {self.state.value}")
        self.state, self.step = transition
        return True
