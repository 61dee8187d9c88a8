"""The life of a deployment: all states, all events, and what each event leads to. All of it is in this table.

A deployment is announced and then goes from CONNECTING to READY, once for every connection that it gets,
since a new connection may lead to another process. The orchestrator, the coordinator and the model's own
calls can change its course at any moment; what the orchestrator says is an event like any other.

The naive way is a loop of awaits with flags that the rest of the program sets. Then a word that comes in the
middle of an await is noticed later, or not at all, and the state says "ready" while nobody is connected. Here
a state is never set by hand: an event is looked up in `TABLE`, under the present state, and gives the next
state and the **step** that whoever runs the model takes now. A step that is under way is given up for the
next one.

There is no I/O, no clock and no connection here. `actor` takes the steps.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..values.results import ModelState

__all__ = ["CONNECTED", "TABLE", "WORDS", "Event", "JoinReason", "Lifecycle", "Step"]


class JoinReason(enum.StrEnum):
    """Why a model joins: it is new, a new deployment of a model that was there, or was set up again."""

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
        HELD: a report about it was held, so it may be no fault of its own that it was given up.
        DISTRUSTED: an answer did not prove that it is the model's.
        INSTANCE_LOST: its node has no instance to call: it was restarted, or reset.
        BEGUN: whoever runs it has begun.
        CONNECTED: there is a connection, and nothing to prove.
        UNPROVED: there is a connection, and its node must prove that it is the model's.
        PROVED: it did.
        MUST_JOIN: it is set up, and the coordinator must catch it up.
        SET_UP: it is set up, and has its history.
        JOINED: the coordinator has caught it up.
        CONNECTION_ENDED: the connection is gone, or could not be made; another attempt is due.
        WAITED: the wait is over.
        GIVEN_UP: it can't be brought up, and trying again would not help.
        GIVEN_UP_FOR_NOW: it can't be brought up, and trying again later may help.
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
    INSTANCE_LOST = enum.auto()
    BEGUN = enum.auto()
    CONNECTED = enum.auto()
    UNPROVED = enum.auto()
    PROVED = enum.auto()
    MUST_JOIN = enum.auto()
    SET_UP = enum.auto()
    JOINED = enum.auto()
    CONNECTION_ENDED = enum.auto()
    WAITED = enum.auto()
    GIVEN_UP = enum.auto()
    GIVEN_UP_FOR_NOW = enum.auto()
    DRAINED = enum.auto()


class Step(enum.Enum):
    """What whoever runs a deployment does now.

    Attributes:
        BEGIN: begin.
        CONNECT: make a connection.
        BACK_OFF: wait before the next attempt to connect.
        PROVE: have the node prove that it is the model's.
        SET_UP: have the node make an instance.
        JOIN: let the coordinator catch it up.
        SERVE: carry calls, until the connection takes no more.
        DRAIN: carry the calls that there are, and no new ones.
        WAIT: wait for a word from outside.
        WAIT_TO_RETRY: the same, but try again after a while.
        END: be gone.
    """

    BEGIN = enum.auto()
    CONNECT = enum.auto()
    BACK_OFF = enum.auto()
    PROVE = enum.auto()
    SET_UP = enum.auto()
    JOIN = enum.auto()
    SERVE = enum.auto()
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
        Event.INSTANCE_LOST,
    }
)
"""Events from outside. They can come in any state; where the table has no entry, they change nothing."""

CONNECTED: Final = frozenset(
    {
        ModelState.PROVING,
        ModelState.SETTING_UP,
        ModelState.JOINING,
        ModelState.READY,
        ModelState.RETIRING,
    }
)
"""The states in which there is a connection. In all others there is none."""

Transition = tuple[ModelState, Step]

_WORDS_TO_THE_LIVING: Final[dict[Event, Transition]] = {
    Event.CRASHED: (ModelState.RECOVERING, Step.WAIT),
    Event.MOVED: (ModelState.CONNECTING, Step.CONNECT),
    Event.REPLACED: (ModelState.GONE, Step.END),
    Event.STOPPED: (ModelState.GONE, Step.END),
    Event.REPORTED: (ModelState.FAILED, Step.WAIT),
    Event.DISTRUSTED: (ModelState.FAILED, Step.WAIT),
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
            Event.PROVED: (ModelState.SETTING_UP, Step.SET_UP),
        },
        ModelState.SETTING_UP: {
            **_BRINGING_UP,
            Event.MUST_JOIN: (ModelState.JOINING, Step.JOIN),
            Event.SET_UP: (ModelState.READY, Step.SERVE),
        },
        ModelState.JOINING: {
            **_BRINGING_UP,
            Event.JOINED: (ModelState.READY, Step.SERVE),
        },
        ModelState.READY: {
            **_WORDS_TO_THE_LIVING,
            Event.REPLACED: (ModelState.RETIRING, Step.DRAIN),
            Event.INSTANCE_LOST: (ModelState.CONNECTING, Step.CONNECT),
            Event.CONNECTION_ENDED: (ModelState.LOST, Step.BACK_OFF),
            Event.GIVEN_UP: (ModelState.FAILED, Step.WAIT),
            Event.GIVEN_UP_FOR_NOW: (ModelState.FAILED, Step.WAIT_TO_RETRY),
        },
        ModelState.LOST: {
            **_WORDS_TO_THE_LIVING,
            Event.WAITED: (ModelState.CONNECTING, Step.CONNECT),
        },
        ModelState.RECOVERING: {
            Event.MOVED: (ModelState.CONNECTING, Step.CONNECT),
            Event.REPLACED: (ModelState.GONE, Step.END),
            Event.STOPPED: (ModelState.GONE, Step.END),
            Event.REPORTED: (ModelState.FAILED, Step.WAIT),
            Event.ANNOUNCED_AGAIN: (ModelState.CONNECTING, Step.CONNECT),
        },
        ModelState.FAILED: {
            Event.CRASHED: (ModelState.RECOVERING, Step.WAIT),
            Event.MOVED: (ModelState.CONNECTING, Step.CONNECT),
            Event.REPLACED: (ModelState.GONE, Step.END),
            Event.STOPPED: (ModelState.GONE, Step.END),
            Event.REPORTED: (ModelState.FAILED, Step.WAIT),
            Event.ANNOUNCED_AGAIN: (ModelState.CONNECTING, Step.CONNECT),
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
        step: what whoever runs the deployment does now.
    """

    __slots__ = ("state", "step")

    def __init__(self) -> None:
        self.state = ModelState.ANNOUNCED
        self.step = Step.BEGIN

    def heeds(self, event: Event) -> bool:
        """Whether an event leads anywhere now."""
        return event in TABLE[self.state]

    def happened(self, event: Event) -> bool:
        """Go where an event leads.

        Returns:
            Whether it leads anywhere: if so, the step that is under way is given up for the next one.

        Raises:
            RuntimeError: this can't happen in this state. Words (`WORDS`) can always come.
        """
        transition = TABLE[self.state].get(event)
        if transition is None:
            if event in WORDS:
                return False
            raise RuntimeError(f"{event.name} can't happen to a deployment that is {self.state.value}")
        self.state, self.step = transition
        return True
