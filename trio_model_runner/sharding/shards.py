"""All shards of one cluster, as the driver has them: launched, watched, given models, and left.

It makes the actors of the cluster's models (see `cluster.actors.Actors`), and knows which shard has which. A
shard is lost when the way to it is gone, when something in it has raised, or when its lease has run out. Then
its open calls are over, and its models go to the shards that are left: at once if its process is known to be
gone, else when its lease has run out for certain. None of them goes back. When no shard is left, the cluster
ends.
"""

from __future__ import annotations

import itertools
import logging
import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import enable_ki_protection

from ..groups import one_by_itself
from ..signal import Signal
from .columns import Table
from .engine import ShardLost
from .lease import OwnGaps, WatchedLease
from .messages import VERSION, AskMembers, AskStandings, Hello, Leave
from .placement import place
from .remote_actor import RemoteActor
from .shard_link import ShardLink, raise_lost
from .shard_listener import OpenRound, ShardListener
from .wire import encode

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from ..frame_readers.readers import FrameReaders
    from ..model.lifecycle import JoinReason
    from ..model.policy import Judge
    from ..model.supervisor import Supervisor
    from ..orchestrator import Entry
    from .engine import Engine

__all__ = ["Shards"]

logger = logging.getLogger("trio_model_runner.sharding")

_LEASE: Final = 2.0
_RENEW_EVERY: Final = 0.4  # a renewal may take 1.5 s, and the lease does not end
_LEAVE_AFTER: Final = 30.0
_LAUNCH_WITHIN: Final = 60.0  # seconds, until a shard has answered
_LOOK_EVERY: Final = 0.5  # seconds
_LEAVING: Final = 2.0  # seconds that leaving may take beyond `shutdown_grace`
_ANSWER_WITHIN: Final = 1.0  # seconds, for how its models stand
_ALL_LOST: Final = "all shards are lost, and with them all models; the last: "


class Shards:
    """The shards of one cluster.

    Args:
        config: the settings.
        service: the service, in plain values.
        settings: the settings, in plain values.
        count: how many shards there are.
        engine: launches them.
        has_on_join: there is an on_join.
        frame_readers: read data frames in answers; None if threads do.

    Attributes:
        judge: the judge of all models. It must be set before this runs.
        rounds: the rounds under way, by number.
        frame_readers: the same.
    """

    judge: Judge

    def __init__(
        self,
        config: ClusterConfig,
        *,
        settings: Mapping[str, Any],
        service: Mapping[str, Any] | None,
        count: int,
        engine: Engine,
        has_on_join: bool,
        frame_readers: FrameReaders | None,
    ) -> None:
        self.rounds: dict[int, OpenRound] = {}
        self.frame_readers = frame_readers
        self._config = config
        self._settings = settings
        self._service = service
        self._engine = engine
        self._has_on_join = has_on_join
        self._links = [ShardLink(index) for index in range(count)]
        self._listeners: dict[ShardLink, ShardListener] = {}
        self._numbers = itertools.count(1)
        self._questions = itertools.count(1)
        self._unanswered: dict[int, set[ShardLink]] = {}
        self._changed = Signal()
        self._last_lost: str | None = None
        self._leaving = False
        self._table = Table(())
        self._split: list[tuple[ShardLink, array[int]]] | None = None

    # For the cluster: see `cluster.actors.Actors`.

    @enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Launch the shards, and keep them until this is cancelled. Then they are left, within a bound.

        Raises:
            ShardLost: one of them could not be launched; or all of them are lost.
        """
        with one_by_itself():
            async with self._engine.running(), trio.open_nursery() as nursery:
                try:
                    if self.frame_readers is not None:
                        nursery.start_soon(self.frame_readers.run)
                    await self._launch_all(nursery)
                    task_status.started()
                    await self._changed.wait_until(self._all_lost)
                    raise ShardLost(f"{_ALL_LOST}{self._last_lost}")
                finally:
                    self._leave()
                    nursery.cancel_scope.cancel()  # those that say goodbye are shielded

    def leave_by(self, time: float) -> None:
        """See `Actors.leave_by`: shards that have not ended by then are ended, within half a second."""
        for link in self._links:
            link.leave_by(time)

    def make(self, supervisor: Supervisor, entry: Entry, reason: JoinReason) -> RemoteActor:
        """Make the actor of a deployment."""
        return RemoteActor(
            supervisor,
            entry,
            reason,
            number=next(self._numbers),
            longest_text=self._config.limits.max_detail_length,
            find_way=self._place,
            lose_way=self._forget,
        )

    async def ping_all(self, actors: Iterable[RemoteActor], timeout: float) -> None:
        """Ask all models for a sign of life, each by its shard."""
        del actors
        await self._ask(lambda question: AskMembers(question, timeout), timeout + _ANSWER_WITHIN)

    async def bring_up_to_date(self) -> None:
        """Have shards say how their models stand, which they do not say of those that only succeed."""
        await self._ask(AskStandings, _ANSWER_WITHIN)

    def shards(self) -> tuple[Mapping[str, Any], ...]:
        """See `ClusterSnapshot.shards`."""
        return tuple(map(self._row, self._links))

    # For rounds.

    def table(self, members: Sequence[RemoteActor]) -> Table:
        """The members of a round; the same object as long as they are the same."""
        if self._table.actors != members:
            self._table, self._split = Table(members), None
        return self._table

    def split(self, table: Table) -> list[tuple[ShardLink, array[int]]]:
        """The numbers of the members that each shard has; those that no shard has are left out."""
        if self._split is not None and table is self._table:
            return self._split
        numbers: dict[ShardLink, array[int]] = {}
        for actor in table.actors:
            link = actor.way
            if isinstance(link, ShardLink) and link.usable:
                if link not in numbers:
                    numbers[link] = array("I")
                numbers[link].append(actor.number)
        split = list(numbers.items())
        if table is self._table:
            self._split = split
        return split

    def is_silent(self, link: ShardLink) -> bool:
        """Whether the renewals of a shard stay away, so that nobody can know what has become of it."""
        lease = self._lease(link)
        return lease is None or lease.is_silent(trio.current_time())

    # The lives of shards.

    async def _launch_all(self, nursery: trio.Nursery) -> None:
        with trio.move_on_after(_LAUNCH_WITHIN) as scope:
            try:
                async with trio.open_nursery() as launching:
                    for link in self._links:
                        launching.start_soon(self._launch, link, nursery)
            except BaseExceptionGroup as group:
                raise_lost(group)
                raise
        if scope.cancelled_caught:
            raise ShardLost(f"not all shards have answered within {_LAUNCH_WITHIN:g} s")

    @enable_ki_protection
    async def _launch(self, link: ShardLink, nursery: trio.Nursery) -> None:
        hello = Hello(
            version=VERSION,
            index=link.index,
            config=self._settings,
            service=self._service,
            has_on_join=self._has_on_join,
            lease=_LEASE,
            renew_every=_RENEW_EVERY,
            leave_after=_LEAVE_AFTER,
        )
        link.shard = await self._engine.launch(link.index, encode(hello))
        nursery.start_soon(self._keep, link)
        await self._changed.wait_until(lambda: link.up or link.lost is not None)
        if link.lost is not None:
            raise ShardLost(f"shard {link.index} could not be launched: {link.lost}")

    @enable_ki_protection
    async def _keep(self, link: ShardLink) -> None:
        """Carry messages to and from a shard, until it is lost or left."""
        with trio.CancelScope(shield=True):
            why = "it has ended by itself"
            try:
                with link.leaving:
                    await link.run(self._listener(link).take, lambda: self._watch(link))
            except ShardLost as error:
                why = str(error).removeprefix(f"shard {link.index}").lstrip(": ")
            except BaseException:
                await link.aclose()
                raise
            if self._leaving:
                link.close_queue()
                await link.aclose(hurry=link.leaving.cancelled_caught)  # it has had its time
                return
            self._lose(link, why)
            with one_by_itself():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(link.aclose)
                    await self._wait_silent(link)
                    if not self._leaving:
                        self._move_models(link)

    def _leave(self) -> None:
        self._leaving = True
        deadline = trio.current_time() + self._config.shutdown_grace + _LEAVING
        for link in self._links:
            link.say(Leave())
            link.begin_leaving(deadline)
            link.silence.cancel()
        self._changed.send()

    @enable_ki_protection
    async def _watch(self, link: ShardLink) -> None:
        """Look at a shard's lease, until it has run out."""
        while True:
            await self._changed.wait_until(lambda: self._lease(link) is not None)
            lease, gaps = self._lease(link), OwnGaps(trio.current_time())
            assert lease is not None
            while not self._leaving:
                now = trio.current_time()
                if gaps.was_away(now):
                    lease.note_renewal(now)
                if now >= lease.expires_at:
                    raise ShardLost(f"it has given no sign of life for {_LEASE + 1:g} s")
                wake = min(lease.expires_at, now + _LOOK_EVERY)
                gaps.expect(wake)
                await trio.sleep_until(wake)
            await trio.sleep_forever()

    def _all_lost(self) -> bool:
        return all(link.lost is not None for link in self._links)

    def _lose(self, link: ShardLink, why: str) -> None:
        link.lost = self._last_lost = why
        self._split = None
        link.close_queue()
        error = ShardLost(f"shard {link.index} was lost: {why}")
        if link.up and not self._leaving:
            logger.error("%s; its models: %d", error, len(link.actors))
        for waiting in self._unanswered.values():
            waiting.discard(link)
        for each in list(self.rounds.values()):
            each.lose_shard(link, error)
        for actor in list(link.actors.values()):
            actor.lose_shard(error)
        self._changed.send()

    async def _wait_silent(self, link: ShardLink) -> None:
        """Wait until a lost shard calls no models any more."""
        lease = self._lease(link)
        with link.silence:
            link.silence.deadline = -math.inf if lease is None else lease.expires_at
            await link.shard.exited.wait()

    def _move_models(self, link: ShardLink) -> None:
        actors, link.actors = link.actors, {}
        for actor in actors.values():
            self._place(actor)

    # Which shard has which model.

    def _place(self, actor: RemoteActor) -> None:
        usable = {link.index: link for link in self._links if link.usable}
        if not usable:
            return  # all are lost, so the cluster ends
        link = usable[place(actor.runner.model_id, usable)]
        link.actors[actor.number] = actor
        self._split = None
        actor.assign(link)

    def _forget(self, actor: RemoteActor) -> None:
        for link in self._links:
            link.actors.pop(actor.number, None)
        actor.way = None
        self._split = None

    # What shards say.

    def _listener(self, link: ShardLink) -> ShardListener:
        listener = self._listeners.get(link)
        if listener is None:
            listener = self._listeners[link] = ShardListener(
                link, self.judge, self.rounds, lease=_LEASE, answered=self._note_answer
            )
        return listener

    def _lease(self, link: ShardLink) -> WatchedLease | None:
        listener = self._listeners.get(link)
        return None if listener is None else listener.lease

    def _note_answer(self, link: ShardLink, question: int | None) -> None:
        if question in self._unanswered:
            self._unanswered[question].discard(link)
        self._changed.send()

    async def _ask(self, make: Callable[[int], AskMembers | AskStandings], timeout: float) -> None:
        """Ask all shards, and wait for all answers, within `timeout` seconds."""
        question = next(self._questions)
        asked = self._unanswered[question] = {link for link in self._links if link.usable}
        for link in asked:
            link.say(make(question))
        try:
            with trio.move_on_after(timeout):
                await self._changed.wait_until(lambda: not asked)
        finally:
            del self._unanswered[question]

    def _row(self, link: ShardLink) -> Mapping[str, Any]:
        lease, left = self._lease(link), None
        state = "lost" if link.lost is not None else "up" if link.up else "launching"
        if lease is not None and link.lost is None:
            left = max(0.0, lease.expires_at - trio.current_time())
            if lease.is_silent(trio.current_time()):
                state = "silent"
        return {
            "index": link.index,
            "state": state,
            "models": len(link.actors),
            "lease": left,
            "round_trip": link.round_trip,
        }
