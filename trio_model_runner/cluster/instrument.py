"""What listens to a cluster: the hooks that it may have, and what they are told.

The core does not know who listens: an instrument is given to `Cluster`, and `hooks` tells it what happens.
This file has the words that both share. It must not know any instrument, nor how one is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from ..values.failure_codes import FailureCode
    from ..values.prediction_round import PredictionRound
    from ..values.results import Model
    from .changes import Change

__all__ = ["Instrument", "ObservedCluster", "Report", "RoundStart", "Snapshot"]


@attrs.frozen
class RoundStart:
    """A round that begins.

    Attributes:
        id: the round's id; its `PredictionRound` will have the same.
        method: the method that is called.
        started_at: when, POSIX seconds.
        timeout: seconds that it may take; `math.inf` for no limit.
        models: the models that are called.
    """

    id: str
    method: str
    started_at: float
    timeout: float
    models: tuple[Model, ...] = attrs.field(repr=lambda models: f"<{len(models)}>")


@attrs.frozen
class Report:
    """A report about a model, which stops it.

    Attributes:
        model_id: whose.
        deployment_id: which deployment's; None where the orchestrator is too old to say.
        code: what is reported.
        reason: the text that the model's author reads.
        method: the method that it is about; None for a connection, and once it is sent.
        failures: of that method, since its last success.
        timeouts: the same.
        witness: the id of a model that succeeded with the same; None without one, and once it is sent.
    """

    model_id: str
    deployment_id: str | None
    code: FailureCode
    reason: str | None
    method: str | None = None
    failures: int = 0
    timeouts: int = 0
    witness: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict that `json.dumps` takes, with these keys."""
        return {**attrs.asdict(self), "code": self.code.value}


class Snapshot(Protocol):
    """What an instrument needs to know of a `ClusterSnapshot`."""

    @property
    def models(self) -> Any:
        """How many announced models are in each state, by its value."""

    @property
    def orchestrator_connected(self) -> bool:
        """Whether the orchestrator is connected."""

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict that `json.dumps` takes."""


class TakeSnapshot(Protocol):
    """`Cluster.snapshot`."""

    def __call__(self, *, models: bool = ...) -> Snapshot:
        """The present state; with a line for each model, if that is asked for."""


@attrs.frozen
class ObservedCluster:
    """The cluster that an instrument listens to, as far as it can be looked at.

    Attributes:
        crunch_id: the competition.
        rpc_method: what is called on the nodes, such as "dynamic_subclass.DynamicSubclassService/Call"; empty
            for a cluster that calls nothing.
        snapshot: `Cluster.snapshot`.
    """

    crunch_id: str
    rpc_method: str
    snapshot: TakeSnapshot


class Instrument(Protocol):
    """The hooks of what listens to a cluster. This is also a base class, whose hooks do nothing.

        class Printing(Instrument):
            def round_ended(self, token, round):
                print(round)

        async with Cluster(config, service, instruments=[Printing()]) as cluster:
            ...

    Hooks are plain functions, called in the event loop. While one runs, everything else waits: one that takes
    more than 50 ms is warned of in the log. What a hook raises is logged, once for each instrument and hook,
    and costs nobody anything; KeyboardInterrupt and SystemExit leave through the cluster's block, as they
    would from any of its tasks. At runtime, any object with one of these methods will do.

    What a hook is given is not a copy: the round, its results and their values are those that the coordinator
    gets, and that other instruments get. So a hook must not change them. Rounds, results and changes refuse
    it, but a value that is a dict, a list or a frame can't: whatever is done to it, all others see.
    """

    # Each hook returns in so many words: type checkers take a method without a body for abstract here, and
    # refuse to make an instrument that leaves it out.

    def running(self, cluster: ObservedCluster) -> AbstractAsyncContextManager[object]:
        """Live beside a cluster: an async context manager that lasts as long as the cluster's block.

        It is entered before anything else happens, and left when nothing will happen any more, so it may have
        a nursery inside. Entering may take 5 s. Leaving is shielded from cancellation, and must be done
        within the cluster's ``shutdown_grace``. What it raises is logged, and the instrument hears of
        nothing more; only a `ConfigError` on entering leaves the cluster's block.
        """
        return nullcontext()

    def round_started(self, start: RoundStart) -> object:
        """A round begins. What this returns comes back as the `token` of this round."""
        return None

    def metadata(self, token: Any) -> Mapping[str, str] | None:
        """Metadata for all requests of the round whose token this is. It is asked once, before any is sent.

        Nodes are strangers: they read what is in it. All instruments together may send 4,096 bytes, of which
        each field takes 32 beside its name and its value.
        """
        return None

    def round_ended(self, token: Any, round: PredictionRound[Any] | None) -> None:  # noqa: A002
        """A round has ended: with these results, or None if it was cancelled, or refused by the encoding."""
        return

    def call_ended(self, call: PredictionRound[Any]) -> None:
        """A call of one model has ended, by `ModelRunner.call` or `predict`; `on_join` makes such calls.

        It comes as a round that has one result. Calls that are cancelled are not told, nor are resets.
        """
        return

    def model_changed(self, change: Change) -> None:
        """Something has happened to a model. The kind is never RESYNC."""
        return

    def orchestrator_changed(self, connected: bool, error: str | None) -> None:
        """The orchestrator is connected, or has gone: then `error` says why."""
        return

    def report_pending(self, report: Report) -> None:
        """A report is due. It waits until it is certain enough."""
        return

    def report_held(self, report: Report) -> None:
        """A report is held: it is not sent, since the model is not alone with its trouble."""
        return

    def report_withdrawn(self, report: Report, why: str) -> None:
        """A report that was pending or held will not be sent."""
        return

    def report_sent(self, report: Report) -> None:
        """A report was sent to the orchestrator: one of these, or the coordinator's own."""
        return
