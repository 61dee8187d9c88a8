"""All that the driver and its shards say to each other. `wire` makes bytes of it.

Models are named by the driver's numbers: one for each deployment that it ever started. Times travel as
seconds that are left, or that have passed, since the clocks of two machines have nothing in common. A shard
reads its messages in order, and the driver those of each shard.

There is no I/O here, and no meaning beyond what the attributes say.
"""

from __future__ import annotations

import enum
from array import array
from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs

from ..model.lifecycle import JoinReason
from ..model.policy import Outcome
from ..values.encoded import Encoded
from ..values.results import ModelState

__all__ = [
    "VERSION",
    "ArgumentsGiven",
    "ArgumentsWanted",
    "AskMembers",
    "AskStandings",
    "Command",
    "Ended",
    "FromDriver",
    "FromShard",
    "Hello",
    "JoinEnded",
    "JoinWanted",
    "Judged",
    "JudgedKind",
    "LeaseGranted",
    "Leave",
    "Logged",
    "MembersAsked",
    "Renewal",
    "Results",
    "RoundBegin",
    "RoundCut",
    "Row",
    "ShardReady",
    "StandingCorrected",
    "StandingTimes",
    "Standings",
    "Start",
    "State",
    "Verb",
    "WireArguments",
]

VERSION = 1
"""Driver and shard must have the same. It is in the first message of each.

It changes with what `dask` and `dask_actor` say to each other, too: a worker is asked for it before all else.
"""


@attrs.frozen
class WireArguments:
    """The values of a call, encoded.

    Attributes:
        positional: in order.
        keyword: by name, in order.
        shape: `Arguments.shape` as text: models with the same are each other's witnesses.
    """

    positional: tuple[Encoded, ...] = ()
    keyword: Mapping[str, Encoded] = attrs.field(factory=dict)
    shape: str = ""


# From the driver.


@attrs.frozen
class Hello:
    """The first message: what the shard needs to know of the program.

    Attributes:
        version: see `VERSION`.
        index: the shard's number.
        config: the settings, as plain values; never with keys or tokens, but with the path to them.
        service: the service that the nodes speak, as plain values; None only observes.
        has_on_join: there is an on_join, so a model that is set up must be caught up.
        lease: seconds that a lease lasts from the time at which the shard sent its renewal.
        renew_every: seconds between renewals.
        leave_after: seconds without a lease after which the shard closes its connections and ends.
    """

    version: int
    index: int
    config: Mapping[str, Any]
    service: Mapping[str, Any] | None
    has_on_join: bool = False
    lease: float = 2.0
    renew_every: float = 0.4
    leave_after: float = 30.0


@attrs.frozen
class Start:
    """Bring up a deployment.

    Attributes:
        number: its number from now on.
        epoch: how many shards have had it before, plus one.
        model_id: the model.
        deployment_id: the deployment; None where the orchestrator is too old to say.
        host: where its node listens.
        port: where its node listens.
        infos: what else the orchestrator says of it, as strict JSON.
        reason: why it joins.
        recovering: it waits until it is announced again.
        known: it has been caught up before, on another shard: only a new instance must join.
    """

    number: int
    epoch: int
    model_id: str
    deployment_id: str | None
    host: str
    port: int
    infos: Mapping[str, Any]
    reason: JoinReason
    recovering: bool = False
    known: bool = False


class Verb(enum.StrEnum):
    """What a shard's actor is told; see the methods of `ModelActor` with these names."""

    UPDATE = "update"
    RECOVER = "recover"
    REVIVE = "revive"
    MOVE = "move"
    RETIRE = "retire"
    STOP = "stop"
    LET_GO = "let_go"
    TRY_LATER = "try_later"
    TRY_NOW = "try_now"


@attrs.frozen
class Command:
    """Tell an actor something.

    Attributes:
        number: whom.
        verb: what.
        text: the reason, for STOP and LET_GO.
        host: for MOVE.
        port: for MOVE.
        infos: for UPDATE.
    """

    number: int
    verb: Verb
    text: str = ""
    host: str = ""
    port: int = 0
    infos: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class JoinEnded:
    """`on_join` has ended.

    Attributes:
        join: which; see `JoinWanted`.
        error: what it raised, in words; None if it ended well.
    """

    join: int
    error: str | None = None


@attrs.frozen
class RoundBegin:
    """Make a call on some models.

    Attributes:
        round: the driver's number of the round.
        method: the method.
        seconds: how long the shard may take; `math.inf` for no limit.
        timeout: how long the coordinator's whole round may take, seconds, for texts.
        members: whom, each once, as an array of numbers ("I").
        arguments: the same for all; None: they are asked for, model by model.
        metadata: header fields that go with all requests.
        optional: see `Cluster.call`.
        sit_out: see `Cluster.call`.
        decode: see `Cluster.call`.
        judged: the driver decides whether an answer counts as a success, since it converts it.
        joining: it is a call of one model, which may be joining.
        reset: it is a reset of one model; there is no method.
    """

    round: int
    method: str
    seconds: float
    timeout: float
    members: array[int]
    arguments: WireArguments | None = None
    metadata: tuple[tuple[bytes, bytes], ...] = ()
    optional: bool = False
    sit_out: bool = True
    decode: bool = True
    judged: bool = False
    joining: bool = False
    reset: bool = False


@attrs.frozen
class RoundCut:
    """End a round sooner: it was drained or cancelled, or its block was left.

    Attributes:
        round: which.
        seconds: how long it may still take; 0.0 for at once.
        reason: why, in words.
        wanted: the results are still wanted.
    """

    round: int
    seconds: float
    reason: str
    wanted: bool = True


@attrs.frozen
class ArgumentsGiven:
    """What was asked for by `ArgumentsWanted`.

    Attributes:
        round: the round.
        number: the model.
        arguments: the arguments; None if there are none.
        mistake: why there are none, in words.
        raised: the coordinator's function raised; else what it returned can't be sent.
    """

    round: int
    number: int
    arguments: WireArguments | None = None
    mistake: str = ""
    raised: bool = False


@attrs.frozen
class AskMembers:
    """Ask all models for a sign of life. Those that give none are lost.

    Attributes:
        question: its number; see `MembersAsked`.
        timeout: seconds.
    """

    question: int
    timeout: float


@attrs.frozen
class AskStandings:
    """Say when each model was called, and succeeded.

    Attributes:
        question: its number; see `Standings`.
    """

    question: int


@attrs.frozen
class StandingCorrected:
    """The driver counts other timeouts than the shard can see.

    Attributes:
        number: whose.
        method: of which method.
        timeouts: how many.
    """

    number: int
    method: str
    timeouts: int


@attrs.frozen
class LeaseGranted:
    """A renewal has arrived.

    Attributes:
        sequence: which; see `Renewal`.
    """

    sequence: int


@attrs.frozen
class Leave:
    """The block was left: say goodbye to all, and end, within ``shutdown_grace``."""


# From a shard.


@attrs.frozen
class ShardReady:
    """The answer to `Hello`.

    Attributes:
        version: see `VERSION`.
        host: the name of the machine.
        pid: the process.
    """

    version: int
    host: str
    pid: int


@attrs.frozen
class State:
    """How an actor is; said whenever that changes.

    Attributes:
        number: which.
        epoch: the epoch of its `Start`.
        heard: how many `Command`s the shard has read for it in this epoch. What was said before the driver's
            last word on its state is out of date.
        state: where it is in its life.
        ready: whether it carries calls.
        error: why it is not ready, in words; None if there is no reason.
        error_kind: the name of the error's type; see `told_errors`.
        condition: `ModelActor.condition`.
        ours: its error is the coordinator's code's, or this machine's.
    """

    number: int
    epoch: int
    state: ModelState
    ready: bool
    heard: int = 0
    error: str | None = None
    error_kind: str = ""
    condition: str = ""
    ours: bool = False


@attrs.frozen
class JoinWanted:
    """A model is set up, and must be caught up.

    Attributes:
        join: its number, among the shard's.
        number: the model.
        reason: why it joins.
        fresh: its instance is new.
    """

    join: int
    number: int
    reason: JoinReason
    fresh: bool


@attrs.frozen
class Row:
    """One result that needs more than a status and a value.

    Attributes:
        position: of its member in `Results.members`.
        detail: `PredictResult.detail`.
        error: the text of `PredictResult.error`; None if there is none.
        error_kind: the name of its type; see `told_errors`.
        outcome: what it means, for a round that the driver judges.
        mistake: it failed by the coordinator's own fault.
    """

    position: int
    detail: str = ""
    error: str | None = None
    error_kind: str = ""
    outcome: Outcome | None = None
    mistake: bool = False


@attrs.frozen
class Results:
    """Some results of a round, in columns.

    Attributes:
        round: the round.
        members: the models, as an array of numbers ("I").
        statuses: a byte each: the place of the status in `Status`.
        sent: a byte each: 1 if the request may have reached the model.
        elapsed: an array of seconds ("d").
        data_types: a byte each: the answer's `DataType`; 0xFF where there is none.
        ends: where each answer ends in `data`, an array ("Q").
        data: all answers, one after the other.
        rows: those that need more.
        witnesses: numbers of models that have succeeded, by the shape of their arguments: the first two of
            each, said once, with the first results that follow.
        last: no more results of this round will come.
    """

    round: int
    members: array[int]
    statuses: bytes
    sent: bytes
    elapsed: array[float]
    data_types: bytes
    ends: array[int]
    data: bytes | memoryview
    rows: tuple[Row, ...] = ()
    witnesses: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict)
    last: bool = False


@attrs.frozen
class ArgumentsWanted:
    """What are the arguments for this model? The answer is an `ArgumentsGiven`."""

    round: int
    number: int


class JudgedKind(enum.StrEnum):
    """What `Conduct` tells the judge; see the methods of `Judge` with these names."""

    NOTE = "note"
    NOTE_SETUP = "note_setup"
    NOTE_WAY = "note_way"
    NOTE_STILL_BUSY = "note_still_busy"
    NOTE_THROUGH = "note_through"
    NOTE_LOSS = "note_loss"
    NOTE_FAILED_ATTEMPT = "note_failed_attempt"
    NOTE_GIVING_UP = "note_giving_up"


@attrs.frozen
class Judged:
    """Something that counts for or against a model. What is not needed has its default.

    Attributes:
        kind: what.
        number: whose.
        round: the driver's number of the round; None for what belongs to no round.
        shape: of the arguments.
        method: of a call that belongs to no round; "" for a Setup.
        outcome: what happened.
        began: seconds ago.
        detail: in words.
        overrun: the shard's number of the overrun; None if there is none.
        overrun_method: what overran; "" if it is not ours.
        overrun_sent: seconds ago.
        overrun_since: seconds ago.
        overrun_timeout: seconds.
        overrun_counts_from: seconds ago; -inf if nothing counts.
        windows: how many windows have ended.
        stood: seconds.
        flags: `created`, `good`, `peaceful`, `silent`, by name.
        timeouts: how many timeouts the shard counts now for the model and the method.
    """

    kind: JudgedKind
    number: int
    round: int | None = None
    shape: str = ""
    method: str = ""
    outcome: Outcome | None = None
    began: float = 0.0
    detail: str = ""
    overrun: int | None = None
    overrun_method: str = ""
    overrun_sent: float = 0.0
    overrun_since: float = 0.0
    overrun_timeout: float = 0.0
    overrun_counts_from: float = 0.0
    windows: int = 0
    stood: float = 0.0
    flags: tuple[str, ...] = ()
    timeouts: int = 0


@attrs.frozen
class MembersAsked:
    """All models of this shard were asked for a sign of life."""

    question: int


@attrs.frozen
class StandingTimes:
    """When a model was called with a method, and what came of it; seconds ago, `math.inf` for never."""

    number: int
    method: str
    called: float
    asked: float
    succeeded: float


@attrs.frozen
class Standings:
    """The answer to `AskStandings`."""

    question: int
    standings: tuple[StandingTimes, ...] = ()


@attrs.frozen
class Renewal:
    """The shard lives. Its lease lasts from the time at which it sent this, once that is granted.

    Attributes:
        sequence: its number.
        round_trip: seconds from the last renewal until the grant came; 0.0 before the first.
    """

    sequence: int
    round_trip: float = 0.0


@attrs.frozen
class Logged:
    """A record of the shard's log."""

    level: int
    logger: str
    text: str


@attrs.frozen
class Ended:
    """The shard ends: after `Leave`, or since something in it raised.

    Attributes:
        error: what raised, with its traceback, as text; None after `Leave`.
    """

    error: str | None = None


FromDriver: TypeAlias = (
    Hello
    | Start
    | Command
    | JoinEnded
    | RoundBegin
    | RoundCut
    | ArgumentsGiven
    | AskMembers
    | AskStandings
    | StandingCorrected
    | LeaseGranted
    | Leave
)

FromShard: TypeAlias = (
    ShardReady
    | State
    | JoinWanted
    | Results
    | ArgumentsWanted
    | Judged
    | MembersAsked
    | Standings
    | Renewal
    | Logged
    | Ended
)
