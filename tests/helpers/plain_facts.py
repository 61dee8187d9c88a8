"""What happens to models, as plain facts, from which `PlainJudge` judges. Times are seconds."""

from __future__ import annotations

import attrs

from trio_model_runner.model.policy import Outcome

__all__ = [
    "Admitted",
    "AttemptFailed",
    "BegunAnew",
    "Closed",
    "Dismissed",
    "Ended",
    "Fact",
    "GaveUp",
    "LaterCall",
    "Lost",
    "MembersAsked",
    "Reported",
    "SeenBusy",
    "SetUp",
    "Through",
    "WayKnown",
]


@attrs.frozen
class Fact:
    """Something that happened at a time to the model with a name."""

    at: float
    name: str


@attrs.frozen
class Admitted(Fact):
    """It is a member from now on."""

    model_id: str
    host: str


@attrs.frozen
class Dismissed(Fact):
    """It is no member any more."""


@attrs.frozen
class BegunAnew(Fact):
    """Its deployment begins anew."""


@attrs.frozen
class Ended(Fact):
    """A call on it has ended. Setups that were not answered with an instance are calls, too."""

    method: str
    shape: int
    round: int
    outcome: Outcome
    began: float
    call: int


@attrs.frozen
class Closed(Fact):
    """A round is over. It has no model, so the name is empty."""

    round: int


@attrs.frozen
class WayKnown(Fact):
    """After a call was cut off, the node gave a sign of life in time, or it did not."""

    call: int
    good: bool


@attrs.frozen
class LaterCall(Fact):
    """While a call that was cut off still ran, another one was made."""

    call: int
    deadline: float


@attrs.frozen
class SeenBusy(Fact):
    """The node was still at a call that was cut off."""

    call: int


@attrs.frozen
class Through(Fact):
    """The node is through with the call that was cut off."""


@attrs.frozen
class SetUp(Fact):
    """It is connected, and has an instance."""

    created: bool


@attrs.frozen
class Lost(Fact):
    """Its connection has ended."""

    stood: float
    peaceful: bool


@attrs.frozen
class AttemptFailed(Fact):
    """An attempt to connect has failed."""

    began: float


@attrs.frozen
class GaveUp(Fact):
    """It can't be brought up."""

    outcome: Outcome


@attrs.frozen
class MembersAsked(Fact):
    """All members were asked a PING, for the sake of a report about this model's connection."""


@attrs.frozen
class Reported(Fact):
    """A report about it was sent."""
