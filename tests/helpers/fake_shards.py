"""Shards that say what a test wants: the driver's side is tested without nodes and without connections."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_model_runner import Cluster, ClusterConfig, ModelState, encode
from trio_model_runner.sharding import messages
from trio_model_runner.sharding.messages import (
    ArgumentsGiven,
    ArgumentsWanted,
    Command,
    Hello,
    JoinEnded,
    JoinWanted,
    Leave,
    Results,
    RoundBegin,
    RoundCut,
    Row,
    ShardReady,
    Start,
    State,
    Verb,
)
from trio_model_runner.sharding.sharded_cluster import ShardedCluster
from trio_model_runner.sharding.wire import decode_from_driver
from trio_model_runner.sharding.wire import encode as wire
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.shard_engine import InProcessEngine
from trio_model_runner.values.encoded import Encoded
from trio_model_runner.values.results import Status

STATUSES = tuple(Status)
HANGS = object()


class FakeShards:
    """All shards of one cluster.

    Attributes:
        answer: gives the answer of a model to a method: a value, an `Encoded`, a `Status`, or `HANGS`.
        said: what the driver has said, with the shard's index.
        called: which model was called with which method, and with which arguments.
        by_index: the shards, the last of each index.
        renews: they renew their leases.
        joins: their models ask to join, also those that are known.
    """

    def __init__(self) -> None:
        self.answer: Callable[[str, str], Any] = lambda model_id, method: 1.5
        self.said: list[tuple[int, Any]] = []
        self.called: list[tuple[str, str, Any]] = []
        self.by_index: dict[int, FakeShard] = {}
        self.renews = True
        self.engine = InProcessEngine(self.serve)
        self.engine.has_network = True

    async def serve(
        self,
        first: bytes,
        send: Callable[[bytes], Awaitable[None]],
        receive: Callable[[], Awaitable[bytes]],
    ) -> None:
        hello = decode_from_driver(first)
        assert isinstance(hello, Hello)
        await FakeShard(self, hello, send).run(receive)

    def started(self) -> list[tuple[int, str]]:
        return [(index, said.model_id) for index, said in self.said if isinstance(said, Start)]


class FakeShard:
    def __init__(self, shards: FakeShards, hello: Hello, send: Callable[[bytes], Awaitable[None]]) -> None:
        self.models: dict[int, Start] = {}
        self.heard: dict[int, int] = {}
        self.rounds: dict[int, list[int]] = {}  # who has not answered
        self.index = hello.index
        self._begins: dict[int, RoundBegin] = {}
        self._shards = shards
        self._send = send
        self._joins: dict[int, int] = {}
        shards.by_index[hello.index] = self

    async def run(self, receive: Callable[[], Awaitable[bytes]]) -> None:
        await self._send(wire(ShardReady(messages.VERSION, "here", 1)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew)
            while True:
                message = decode_from_driver(await receive())
                self._shards.said.append((self.index, message))
                if isinstance(message, Leave):
                    await self.say(messages.Ended())
                    break
                await self._take(message)
            nursery.cancel_scope.cancel()

    async def say(self, message: Any) -> None:
        await self._send(wire(message))

    async def state(self, number: int, state: ModelState, **more: Any) -> None:
        ready = state is ModelState.READY
        epoch, heard = self.models[number].epoch, self.heard[number]
        await self.say(State(number, epoch, state, ready, heard, **more))

    async def _renew(self) -> None:
        sequence = 0
        while True:
            sequence += 1
            if self._shards.renews:
                await self.say(messages.Renewal(sequence, 0.002))
            await trio.sleep(0.5)

    async def _take(self, message: Any) -> None:  # noqa: C901 - a case for each message
        match message:
            case Start():
                self.models[message.number] = message
                self.heard[message.number] = 0
                await self._bring_up(message)
            case JoinEnded():
                number = self._joins.pop(message.join)
                state = ModelState.READY if message.error is None else ModelState.FAILED
                await self.state(number, state, error=message.error, ours=message.error is not None)
            case RoundBegin():
                self.rounds[message.round] = list(message.members)
                self._begins[message.round] = message
                if message.arguments is None:
                    for number in message.members:
                        await self.say(ArgumentsWanted(message.round, number))
                else:
                    await self.play(message.round, message.members, message.arguments)
            case ArgumentsGiven():
                await self.play(message.round, [message.number], message)
            case RoundCut() if message.round in self.rounds:
                waiting = self.rounds[message.round]
                await self.say(results(message.round, dict.fromkeys(waiting, Status.TIMEOUT), last=True))
            case Command(number=number) if number in self.models:
                self.heard[number] += 1
                await self._obey(message)
            case messages.AskStandings():
                await self.say(messages.Standings(message.question))
            case messages.AskMembers():
                await self.say(messages.MembersAsked(message.question))

    async def _bring_up(self, start: Start) -> None:
        number = start.number
        if start.recovering:
            await self.state(number, ModelState.RECOVERING, error="it crashed")
            return
        await self.state(number, ModelState.CONNECTING)
        await self.state(number, ModelState.SETTING_UP)
        if start.known:
            await self.state(number, ModelState.READY)
        else:
            self._joins[number] = number
            await self.state(number, ModelState.JOINING)
            await self.say(JoinWanted(number, number, start.reason, True))

    async def _obey(self, command: Command) -> None:
        number = command.number
        match command.verb:
            case Verb.STOP | Verb.RETIRE:
                await self.state(number, ModelState.GONE)
                del self.models[number]
            case Verb.RECOVER:
                await self.state(number, ModelState.RECOVERING, error="it crashed")
            case Verb.LET_GO:
                await self.state(number, ModelState.FAILED, error=command.text)
            case Verb.REVIVE | Verb.MOVE:
                await self._bring_up(self.models[number])

    async def play(self, round_id: int, members: Iterable[int], given: Any) -> None:
        begin, answers = self._begins[round_id], {}
        for number in members:
            model_id = self.models[number].model_id
            self._shards.called.append((model_id, begin.method, given))
            if isinstance(given, ArgumentsGiven) and given.arguments is None:
                answers[number] = Row(
                    0, f"arguments: {given.mistake}", given.mistake, "ValueError", mistake=True
                )
            else:
                answers[number] = self._shards.answer(model_id, begin.method)
        answers = {number: answer for number, answer in answers.items() if answer is not HANGS}
        for number in answers:
            self.rounds[round_id].remove(number)
        await self.say(results(round_id, answers, last=not self.rounds[round_id]))


def results(round_id: int, answers: dict[int, Any], *, last: bool = False) -> Results:
    statuses, data_types, ends, data, rows = bytearray(), bytearray(), array("Q"), bytearray(), []
    for at, answer in enumerate(answers.values()):
        status, row = Status.SUCCESS, Row(at)
        if isinstance(answer, Status):
            status, row = answer, Row(at, detail=f"it is {answer}", error=f"it is {answer}", error_kind="X")
        elif isinstance(answer, Row):
            status = Status.FAILED
            row = Row(at, answer.detail, answer.error, answer.error_kind, mistake=answer.mistake)
        else:
            encoded = answer if isinstance(answer, Encoded) else encode(answer)
            data += encoded.data
        if status is not Status.SUCCESS:
            rows.append(row)
        data_types.append(encoded.data_type if status is Status.SUCCESS else 0xFF)
        statuses.append(STATUSES.index(status))
        ends.append(len(data))
    return Results(
        round_id,
        array("I", answers),
        bytes(statuses),
        bytes(len(statuses) * [1]),
        array("d", len(statuses) * [0.25]),
        bytes(data_types),
        ends,
        bytes(data),
        tuple(rows),
        last=last,
    )


@asynccontextmanager
async def sharded(
    models: Sequence[str], *, shards: int = 2, on_join: Any = None, **settings: Any
) -> AsyncIterator[tuple[LocalCrunch, Cluster, FakeShards]]:
    """A crunch, and a cluster over fake shards, which connect to none of its nodes."""
    from trio_model_runner.network import MemoryNetwork

    from .coordinating import SERVICE, Model

    fake = FakeShards()
    async with (
        LocalCrunch(dict.fromkeys(models, Model), network=MemoryNetwork()) as crunch,
        ShardedCluster(
            crunch.config(**settings), SERVICE, shards=shards, engine=fake.engine, on_join=on_join
        ) as cluster,
    ):
        yield crunch, cluster, fake


def config_of(crunch: LocalCrunch) -> ClusterConfig:
    return crunch.config()
