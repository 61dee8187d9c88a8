"""One round over shards: what each shard is asked, and the one result that each member has in the end.

The members and their places in the queues are taken before the first checkpoint, as in any round. Each shard
that has some of them gets one message, and makes an ordinary round of it. What comes back is concluded in the
round's own task: values that `returns=` must take, data frames, functions for ``arguments=``.

A shard is given less time than there is, so that what it has arrives before the deadline. For the last of it
the round waits a moment longer, since a busy machine delays what came in time. What has not arrived by then
counts nothing against a model: its shard was late, or lost.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from ..cluster.rounds import Round
from ..groups import one_by_itself
from ..model.round_spec import FunctionRaised
from ..rpc.reader import let_readers_catch_up
from ..text import named_error
from ..values.results import Status
from .columns import ColumnRound, rows_of
from .messages import ArgumentsGiven, ArgumentsWanted, Results, RoundBegin, RoundCut
from .remote_actor import RemoteActor
from .round_values import RoundValues
from .wire import RoundEncoder, encode
from .wire_values import arguments_to_wire

if TYPE_CHECKING:
    from ..model.policy import RoundEvidence
    from ..model.round_spec import Requests, RoundSpec
    from ..values.prediction_round import PredictionRound
    from ..values.results import PredictResult
    from .engine import ShardLost
    from .shard_link import ShardLink
    from .shards import Shards

__all__ = ["ShardedRound"]

_MARGIN: Final = 0.010
"""Seconds that a shard stops sooner, beside the way back; a tenth of the round's time, if that is less."""

_GRACE: Final = 0.020
"""Seconds after the deadline for what shards have said before it, or are just saying."""

_LONGEST_GRACE: Final = 0.1
"""The same, if this process was busy at the deadline: then shards may have been, on the same cores."""

_LATE: Final = "its shard did not answer in time"
_LEFT: Final = "nobody waits for its results any more"


class _Part:
    """One shard's part of a round; in the queue of its link, it is a `shard_link.Place`.

    Attributes:
        link: the way to the shard.
        waiting: the numbers of members that have no result yet.
        sent: the request was sent, or may have been.
        left: nobody waits for results any more.
        over: no more results will come.
    """

    def __init__(self, owner: ShardedRound, link: ShardLink, numbers: array[int]) -> None:
        self.link = link
        self.waiting = set(numbers)
        self.sent = False
        self.left = False
        self.over = False
        self._owner = owner
        self._numbers = numbers

    @property
    def ready(self) -> bool:
        """See `Place.ready`."""
        return self.left or self._owner.may_begin

    def make(self) -> Iterable[bytes]:
        """See `Place.make`."""
        if self.left:
            return ()
        self.sent = True
        return self._owner.messages_for(self.link, self._numbers)

    def only_new(self, batch: Results) -> Results:
        """What in a batch is about members that have no result yet: the first that comes counts."""
        if self.waiting.issuperset(batch.members):
            return batch
        chosen = [at for at, number in enumerate(batch.members) if number in self.waiting]
        return rows_of(batch, chosen)


class ShardedRound(Round[RemoteActor]):
    """A round of models whose actors are in shards.

    Args:
        shards: the shards.
        *arguments: see `Round`, as all other settings.
        on_result: told each result, as it comes.
        may_be_joining: a model that `on_join` is catching up is called, too.
        reset: this is no call of a method, but a request to forget what was learnt.
        **settings: the others.

    Attributes:
        may_begin: the arguments are there.
    """

    def __init__(
        self,
        shards: Shards,
        round_id: str,
        spec: RoundSpec,
        requests: Requests,
        members: Sequence[RemoteActor],
        missing: Sequence[str] = (),
        *,
        on_result: Callable[[PredictResult[Any]], None] | None = None,
        may_be_joining: bool = False,
        reset: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(round_id, spec, requests, members, missing, **settings)
        self.may_begin = False
        self._number = int(round_id)
        self._shards = shards
        self._joining = may_be_joining
        self._reset = reset
        self._encoder: RoundEncoder | None = None
        self._table = shards.table(members)
        self._shapes: dict[str, RoundEvidence] = {}
        self._evidence: dict[int, RoundEvidence] = {}
        readers = shards.frame_readers
        self._values = RoundValues(self._table, spec, requests, readers, self._evidence_for, on_result)
        self._news = self._values.news
        self._arrived: deque[tuple[_Part, Results | ShardLost]] = deque()
        self._questions: deque[tuple[ShardLink, ArgumentsWanted]] = deque()
        self._parts = {link: _Part(self, link, numbers) for link, numbers in shards.split(self._table)}
        asked = sum(len(part.waiting) for part in self._parts.values())
        self._absent = [] if asked == len(members) else [each for each in members if not self._is_asked(each)]
        shards.rounds[self._number] = self
        for part in self._parts.values():
            part.link.take_place(part)

    def _is_asked(self, actor: RemoteActor) -> bool:
        return any(actor.number in part.waiting for part in self._parts.values())

    # What shards are told.

    def messages_for(self, link: ShardLink, numbers: array[int]) -> Iterable[bytes]:
        """The messages with which a shard's part begins, now."""
        if self._encoder is None:
            self._encoder = self._make_encoder()
        yield self._encoder.for_shard(numbers, self._seconds_for(link, self._spec.deadline))
        if self._cut_by:
            yield encode(self._cut_for(link))

    def _make_encoder(self) -> RoundEncoder:
        """Encode what all shards are told."""
        spec, arguments = self._spec, self._requests.arguments
        begin = RoundBegin(
            round=self._number,
            method="" if self._reset else spec.method,
            seconds=0.0,
            timeout=spec.timeout,
            members=array("I"),
            arguments=None if arguments is None or self._reset else arguments_to_wire(arguments),
            metadata=tuple(self._requests.metadata),
            optional=spec.optional,
            sit_out=spec.sit_out,
            decode=spec.decode,
            judged=spec.returns is not None,
            joining=self._joining,
            reset=self._reset,
        )
        return RoundEncoder(begin)

    def end_by(self, deadline: float, *reason: str) -> None:
        """See `Round.end_by`."""
        super().end_by(deadline, *reason)
        for part in self._parts.values():
            if part.sent and not part.left and self._cut_by:
                part.link.say(self._cut_for(part.link))

    def _cut_for(self, link: ShardLink) -> RoundCut:
        return RoundCut(self._number, self._seconds_for(link, self._cutoff.deadline), self._cut_by)

    def _seconds_for(self, link: ShardLink, deadline: float) -> float:
        margin = min(_MARGIN, self._spec.timeout / 10) + link.way_back
        return max(0.0, deadline - trio.current_time() - margin)

    # What shards say.

    def take_results(self, link: ShardLink, results: Results) -> None:
        """See `shards.OpenRound`."""
        part = self._parts.get(link)
        if part is not None:
            part.over = part.over or results.last
            self._take(part, results)

    def lose_shard(self, link: ShardLink, error: ShardLost) -> None:
        """See `shards.OpenRound`."""
        part = self._parts.get(link)
        if part is not None:
            part.over = True
            self._take(part, error)

    def _take(self, part: _Part, what: Results | ShardLost) -> None:
        if part.left:
            self._forget_if_over()
        else:
            self._arrived.append((part, what))
            self._news.send()

    def take_question(self, link: ShardLink, wanted: ArgumentsWanted) -> None:
        """See `shards.OpenRound`."""
        part = self._parts.get(link)
        if part is not None and wanted.number in part.waiting and not part.left:
            self._questions.append((link, wanted))
            self._news.send()

    def evidence_of(self, shape: str) -> RoundEvidence | None:
        """See `shards.OpenRound`."""
        return self._requests.evidence if self._requests.arguments is not None else self._shapes.get(shape)

    def _evidence_for(self, number: int) -> RoundEvidence:
        return self._evidence.get(number, self._requests.evidence)

    # The round: see `Round`.

    def _leave(self) -> None:
        """Let go of shards that still have something to do."""
        self._encoder = None  # it has the arguments
        for part in self._parts.values():
            part.left = True
            if not part.sent:
                part.over = True
            elif part.waiting and not part.over:
                part.link.say(RoundCut(self._number, 0.0, _LEFT, wanted=False))
            part.link.look_again()
        self._forget_if_over()

    def _forget_if_over(self) -> None:
        """Until then, what shards say of their models' conduct in this round has its evidence here."""
        if all(part.over for part in self._parts.values()):
            self._shards.rounds.pop(self._number, None)
            self._parts = {}  # or this would wait for the garbage collector, with arguments that may be large
            for evidence in self._requests.waiting():
                self._judge.close(evidence)

    def _call_off(self, reason: str) -> None:
        for actor in self._members:
            self._values.put(actor, Status.TIMEOUT, reason, TimeoutError(reason), sent=False)
        for part in self._parts.values():
            part.waiting.clear()

    async def _make_calls(self) -> None:
        for actor in self._absent:
            self._values.put(actor, Status.ABSENT, actor.condition, actor.our_error, sent=False)
        try:
            with one_by_itself():
                async with trio.open_nursery() as nursery:
                    await self._wait(nursery)
        finally:
            self._leave()

    async def _wait(self, nursery: trio.Nursery) -> None:
        if self._complete():
            await trio.lowlevel.checkpoint()
        with self._cutoff:
            await trio.lowlevel.checkpoint_if_cancelled()  # or requests would be sent only to be cut off
            self.may_begin = True
            for part in self._parts.values():
                part.link.look_again()
            while not self._complete() and trio.current_time() < self._cutoff.deadline:
                await self._news.wait_until(self._has_news)
                self._conclude(nursery)
                while self._questions:
                    await self._answer(*self._questions.popleft())
        if not self._complete():
            self.may_begin = False
            # What is left takes no time. A deadline around us that passes meanwhile may cost no results.
            nursery.cancel_scope.shield = True
            await self._catch_up(nursery)
            self._expire()
            nursery.cancel_scope.cancel()

    async def _catch_up(self, nursery: trio.Nursery) -> None:
        """Take what shards have said in time, and what they are just saying: for a moment, and not longer."""
        await let_readers_catch_up()
        self._conclude(nursery)
        late = trio.current_time() - self._cutoff.deadline
        asked = [part for part in self._parts.values() if part.sent]
        if late <= _MARGIN:  # else this process was busy itself, and who seems silent was not heard
            asked = [part for part in asked if not self._shards.is_silent(part.link)]
        with trio.move_on_after(min(_GRACE + late, _LONGEST_GRACE)):
            while not self._complete(asked):
                await self._news.wait_until(lambda: bool(self._arrived) or self._complete(asked))
                self._conclude(nursery)

    def _complete(self, parts: Iterable[_Part] | None = None) -> bool:
        """Whether all results are there; those of some parts, if they are given."""
        parts = self._parts.values() if parts is None else parts
        return not (self._values.reading or any(part.waiting for part in parts))

    def _has_news(self) -> bool:
        return bool(self._arrived or self._questions) or self._complete()

    def _conclude(self, nursery: trio.Nursery) -> None:
        """Take what has come."""
        while self._arrived:
            part, what = self._arrived.popleft()
            if not isinstance(what, Results):
                text = f"connection lost: {what}"
                self._end_part(part, Status.FAILED, text, ConnectionError)
                continue
            self._take_witnesses(what)
            batch = part.only_new(what)
            part.waiting.difference_update(batch.members)
            self._values.take(batch, nursery)
            if part.over and part.waiting and not any(each is part for each, _ in self._arrived):
                self._end_part(part, Status.TIMEOUT, _LATE, TimeoutError)

    def _take_witnesses(self, batch: Results) -> None:
        actors, by_number = self._table.actors, self._table.by_number
        for shape, numbers in batch.witnesses.items():
            evidence = self.evidence_of(shape)
            if evidence is not None:
                records = [actors[by_number[each]].conduct.record for each in numbers if each in by_number]
                self._judge.note_witnesses(evidence, records, trio.current_time())

    def _expire(self) -> None:
        """Make the results of what has not come."""
        seconds_late, reason = trio.current_time() - self._cutoff.deadline, self._cut_short()
        self._values.expire(seconds_late=seconds_late, cut_short=reason)
        text = reason or _LATE
        for part in self._parts.values():
            waiting = set(part.waiting)
            self._end_part(part, Status.TIMEOUT, text, TimeoutError)
            part.waiting = waiting  # the shard is told that nobody waits for them

    def _end_part(self, part: _Part, status: Status, text: str, error: type[Exception]) -> None:
        """Make the results of a shard's members that it says nothing of. They count nothing."""
        elapsed = trio.current_time() - self._began if part.sent else 0.0
        waiting, part.waiting = part.waiting, set()
        actors, by_number = self._table.actors, self._table.by_number
        for number in sorted(waiting):
            self._values.put(
                actors[by_number[number]], status, text, error(text), elapsed=elapsed, sent=part.sent
            )

    async def _answer(self, link: ShardLink, wanted: ArgumentsWanted) -> None:
        """Say what the arguments for one model are."""
        number = wanted.number
        runner = self._table.actors[self._table.by_number[number]].runner
        try:
            arguments = await self._requests.arguments_for(runner)
            _, evidence = await self._requests.with_arguments(arguments)
        except FunctionRaised as raised:  # the coordinator's code: any error is this model's result
            self._values.note_mistake(number, raised.error, raised=True)
            text = f"the function raised {named_error(raised.error)}"
            link.say(ArgumentsGiven(self._number, number, mistake=text, raised=True))
        except Exception as error:
            self._values.note_mistake(number, error, raised=False)
            link.say(ArgumentsGiven(self._number, number, mistake=str(error)))
        else:
            wire = arguments_to_wire(arguments)
            self._evidence[number] = self._shapes[wire.shape] = evidence
            link.say(ArgumentsGiven(self._number, number, arguments=wire))

    def _count(self) -> int:
        return self._values.columns.count

    def _played(self, **settings: Any) -> PredictionRound[Any]:
        columns = self._values.columns
        del self._values  # it refers to this, and results may be large
        return ColumnRound(columns, **settings)
