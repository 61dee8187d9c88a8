"""Takes what one shard says to where it belongs: to an actor, to a round, to the judge, to the log.

It decides nothing. What is about a deployment or a round that nobody knows any more is dropped: a shard may
not have heard yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import trio

from ..model.policy import tried_again
from . import messages
from .judging import Judging
from .lease import WatchedLease
from .messages import ArgumentsWanted, FromShard, LeaseGranted, Results

if TYPE_CHECKING:
    from ..model.policy import Judge, Record, RoundEvidence
    from .engine import ShardLost
    from .shard_link import ShardLink

__all__ = ["OpenRound", "ShardListener"]

logger = logging.getLogger("trio_model_runner.sharding")


class OpenRound(Protocol):
    """A round, as far as shards have something to say to it."""

    def take_results(self, link: ShardLink, results: Results) -> None:
        """Some results have come."""

    def take_question(self, link: ShardLink, wanted: ArgumentsWanted) -> None:
        """A shard asks for the arguments for one model."""

    def lose_shard(self, link: ShardLink, error: ShardLost) -> None:
        """A shard is lost: no more results will come from there."""

    def evidence_of(self, shape: str) -> RoundEvidence | None:
        """What is known of the request with arguments of this shape."""


class ShardListener:
    """Takes what one shard says.

    Args:
        link: the way to it.
        judge: the judge of all models.
        rounds: the rounds under way, by number.
        lease: seconds that a lease lasts.
        answered: told the number of each question that is answered, and None when the shard is up.

    Attributes:
        lease: its lease; None before it is up.
    """

    def __init__(
        self,
        link: ShardLink,
        judge: Judge,
        rounds: Mapping[int, OpenRound],
        *,
        lease: float,
        answered: Callable[[ShardLink, int | None], None],
    ) -> None:
        self.lease: WatchedLease | None = None
        self._link = link
        self._judge = judge
        self._rounds = rounds
        self._seconds = lease
        self._answered = answered
        self._judging = Judging(
            judge, record_of=self._record_of, evidence_of=self._evidence_of, correct=link.say
        )
        self._ways: Mapping[type, Callable[[Any], None]] = {
            messages.ShardReady: self._take_ready,
            messages.State: self._take_state,
            messages.JoinWanted: self._take_join,
            Results: self._take_results,
            ArgumentsWanted: self._take_question,
            messages.Judged: self._take_judged,
            messages.MembersAsked: self._take_answer,
            messages.Standings: self._take_standings,
            messages.Renewal: self._take_renewal,
            messages.Logged: self._take_logged,
            messages.Ended: self._take_end,
        }

    def take(self, message: FromShard) -> None:
        """Take a message, at once."""
        self._ways[type(message)](message)

    def _record_of(self, number: int) -> Record | None:
        actor = self._link.actors.get(number)
        return None if actor is None else actor.conduct.record

    def _evidence_of(self, number: int, shape: str) -> RoundEvidence | None:
        found = self._rounds.get(number)
        return None if found is None else found.evidence_of(shape)

    def _take_ready(self, said: messages.ShardReady) -> None:
        self._link.up = True
        self.lease = WatchedLease(self._seconds, trio.current_time())
        logger.info("shard %d is up: process %d on %s", self._link.index, said.pid, said.host)
        self._answered(self._link, None)

    def _take_renewal(self, said: messages.Renewal) -> None:
        if self.lease is not None:
            self._link.say_first(LeaseGranted(said.sequence))
            if said.round_trip:
                self._link.note_round_trip(said.round_trip)
            self.lease.note_renewal(trio.current_time())

    def _take_state(self, said: messages.State) -> None:
        actor = self._link.actors.get(said.number)
        if actor is not None:
            actor.take_state(said)

    def _take_join(self, wanted: messages.JoinWanted) -> None:
        actor = self._link.actors.get(wanted.number)
        if actor is not None:
            actor.begin_join(wanted)

    def _take_results(self, results: Results) -> None:
        found = self._rounds.get(results.round)
        if found is not None:
            found.take_results(self._link, results)
        if results.last:
            self._judging.correct_counts()

    def _take_question(self, wanted: ArgumentsWanted) -> None:
        found = self._rounds.get(wanted.round)
        if found is not None:
            found.take_question(self._link, wanted)

    def _take_judged(self, told: messages.Judged) -> None:
        self._judging.take(told, trio.current_time())
        if told.round is None:
            self._judging.correct_counts()
        if told.kind is messages.JudgedKind.NOTE_GIVING_UP:
            self._keep_out(told)

    def _keep_out(self, told: messages.Judged) -> None:
        """Have a model not tried again if a report about it is due, where that matters.

        A shard can't know: it has not all witnesses. So there it is tried again in a while; if that went
        well, the report would be withdrawn.
        """
        actor, outcome = self._link.actors.get(told.number), told.outcome
        if actor is None or outcome is None or not tried_again(outcome, due=False):
            return
        if not tried_again(outcome, due=self._judge.is_due(actor.conduct.record)):
            actor.let_go(told.detail)

    def _take_answer(self, said: messages.MembersAsked) -> None:
        self._answered(self._link, said.question)

    def _take_standings(self, told: messages.Standings) -> None:
        self._judging.take_times(told.standings, trio.current_time())
        self._answered(self._link, told.question)

    def _take_logged(self, said: messages.Logged) -> None:
        logging.getLogger(said.logger).log(said.level, "shard %d: %s", self._link.index, said.text)

    def _take_end(self, said: messages.Ended) -> None:
        if said.error is not None:
            logger.error("shard %d ends with an exception:\n%s", self._link.index, said.error)
