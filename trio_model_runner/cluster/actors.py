"""What the parts of a cluster need of the actors of its models, and of whoever makes these actors.

In a `Cluster`, the actors are `ModelActor`s of this process. In a `ShardedCluster` they stand for actors of
other processes, and the parts of the cluster don't know the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack

import trio

from ..model.actor import ModelActor
from .membership import Member

if TYPE_CHECKING:
    from ..model.conduct import Conduct
    from ..model.handle import ModelRunner
    from ..model.lifecycle import JoinReason
    from ..model.node_resources import NodeResources
    from ..model.round_spec import CallOptions
    from ..model.supervisor import Supervisor
    from ..orchestrator import Entry
    from ..values.data import Arguments
    from ..values.results import ModelState, PredictResult

__all__ = ["A", "Actor", "Actors", "Calls", "OrdinaryActors"]


class Actor(Member, Protocol):
    """What the parts of a cluster need of the object that runs a deployment; see `ModelActor`.

    Attributes:
        runner: the handle that coordinators hold.
        conduct: what counts for and against it.
        replaced: another deployment has taken its place.
        error: why it is not ready, or None.
    """

    runner: ModelRunner
    conduct: Conduct
    replaced: bool
    error: BaseException | None

    @property
    def state(self) -> ModelState:
        """Where it is in its life."""

    @property
    def connected_at(self) -> float | None:
        """When its connection was made, on Trio's clock, seconds; None without one."""

    async def live(self) -> None:
        """Run it to its end. This is shielded: only `stop` and `retire` end it."""

    def stop(self, reason: str = ...) -> None:
        """Let go of it at once; its calls are cut off."""

    def let_go(self, reason: str) -> None:
        """It was reported: let go of it until it is announced again."""

    def try_later(self) -> None:
        """A report about it is held: if it was given up, try it again, with waits that grow."""

    def try_now(self) -> None:
        """If it was given up, make the next attempt at once."""

    async def wait_usable(self, *, joining: bool) -> object:
        """Wait until it carries calls; raises `ModelUnavailableError` if that will not be."""


A = TypeVar("A", bound=Actor)
C = TypeVar("C", bound=Actor, contravariant=True)


class Calls(Protocol[C]):
    """What a fleet needs of the object that makes calls."""

    async def call_model(
        self, actor: C, method: str | None, arguments: Arguments, **options: Unpack[CallOptions]
    ) -> PredictResult[Any]:
        """Make one call on one model, as a round of its own."""

    async def reset_model(self, actor: C, timeout: float | None) -> PredictResult[None]:
        """Have one model forget what it has learnt."""


class Actors(Protocol[A]):
    """Makes the actors of a cluster."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run what the actors need, until cancelled. They are made after this has started."""

    def leave_by(self, time: float) -> None:
        """End what `run` does when it is cancelled by this time on Trio's clock, seconds, in any case."""

    def make(self, supervisor: Supervisor, entry: Entry, reason: JoinReason) -> A:
        """Make the actor of a deployment; see `Membership`. Whoever is given it has it live."""

    async def ping_all(self, actors: Iterable[A], timeout: float) -> None:
        """Ask models for a sign of life. Those that give none within `timeout` seconds are lost."""

    async def bring_up_to_date(self) -> None:
        """Have the judge told all that is known of the models by now, also what is known elsewhere."""

    def shards(self) -> tuple[Mapping[str, Any], ...]:
        """The processes where actors are, if that is not this one: see `ClusterSnapshot.shards`."""


class OrdinaryActors:
    """Makes actors that run in this process.

    Args:
        resources: what they share.
    """

    def __init__(self, resources: NodeResources) -> None:
        self._resources = resources

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """See `Actors.run`."""
        self._resources.open()
        task_status.started()
        await self._resources.run()

    def leave_by(self, time: float) -> None:
        """See `Actors.leave_by`: `run` ends at once."""

    def make(self, supervisor: Supervisor, entry: Entry, reason: JoinReason) -> ModelActor:
        """See `Actors.make`."""
        return ModelActor(
            supervisor,
            self._resources,
            model_id=entry.model_id,
            deployment_id=entry.deployment_id,
            host=entry.host,
            port=entry.port,
            infos=entry.infos,
            reason=reason,
        )

    async def ping_all(self, actors: Iterable[ModelActor], timeout: float) -> None:
        """See `Actors.ping_all`."""
        async with trio.open_nursery() as nursery:
            for actor in actors:
                nursery.start_soon(actor.answers_ping, timeout)

    async def bring_up_to_date(self) -> None:
        """See `Actors.bring_up_to_date`: actors tell the judge everything at once."""

    def shards(self) -> tuple[Mapping[str, Any], ...]:
        """See `Actors.shards`."""
        return ()
