"""A crunch in memory and one shard, in one block; and the test, which plays the driver by messages."""

from __future__ import annotations

import math
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
import trio

from helpers.coordinating import SERVICE
from trio_model_runner import Arguments
from trio_model_runner.model.lifecycle import JoinReason
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.sharding.engine import ShardLost
from trio_model_runner.sharding.messages import (
    VERSION,
    FromDriver,
    FromShard,
    Hello,
    LeaseGranted,
    Leave,
    Renewal,
    Results,
    RoundBegin,
    Row,
    Start,
    State,
)
from trio_model_runner.sharding.shard import serve_shard
from trio_model_runner.sharding.wire import decode_from_shard, encode
from trio_model_runner.sharding.wire_values import arguments_to_wire, config_to_wire, service_to_wire
from trio_model_runner.signal import Signal
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.values.data import decode_data
from trio_model_runner.values.encoded import DataType, Encoded
from trio_model_runner.values.results import ModelState, Status

M = TypeVar("M")

NO_ARGUMENTS = Arguments()


@attrs.frozen
class Got:
    """One result, as the driver gets it."""

    status: Status
    encoded: Encoded | None
    elapsed: float
    sent: bool
    row: Row | None

    @property
    def value(self) -> Any:
        assert self.encoded is not None
        return decode_data(self.encoded.data, self.encoded.data_type)


class Driver:
    """The other end of one shard.

    Attributes:
        said: all that the shard has said, but for renewals.
        grants: renewals are granted.
        lost: the way is gone.
        ended: set when the shard has ended.
    """

    def __init__(self, crunch: LocalCrunch) -> None:
        self.said: list[FromShard] = []
        self.grants = True
        self.lost = False
        self.ended = trio.Event()
        self.renewals = 0
        self._crunch = crunch
        self._numbers: dict[str, int] = {}
        self._rounds = 0
        self._news = Signal()
        self._to_shard, self._from_driver = trio.open_memory_channel[bytes](math.inf)

    # The shard's side.

    async def send(self, message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.lost:
            raise ShardLost("the way is cut")
        read = decode_from_shard(message)
        if isinstance(read, Renewal):
            self.renewals += 1
            if self.grants:
                self.say(LeaseGranted(read.sequence))
        else:
            self.said.append(read)
            self._news.send()

    async def receive(self) -> bytes:
        try:
            return await self._from_driver.receive()
        except trio.EndOfChannel:
            raise ShardLost("the way is cut") from None

    # The test's side.

    def say(self, *messages: FromDriver) -> None:
        for message in messages:
            self._to_shard.send_nowait(encode(message))

    def cut(self) -> None:
        """Lose the way, both ways."""
        self.lost = True
        self._to_shard.close()

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.said if isinstance(message, kind)]

    async def wait(self, condition: Callable[[], Any]) -> None:
        with trio.fail_after(60):
            await self._news.wait_until(lambda: bool(condition()))

    async def wait_for(self, kind: type[M], count: int = 1) -> M:
        await self.wait(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    def number(self, model_id: str) -> int:
        return self._numbers.setdefault(model_id, len(self._numbers) + 1)

    def start(self, *model_ids: str, **changes: Any) -> None:
        for model_id in model_ids:
            node = self._crunch.node(model_id)
            start = Start(
                number=self.number(model_id),
                epoch=1,
                model_id=model_id,
                deployment_id=f"of {model_id}",
                host=node.host,
                port=node.port,
                infos={},
                reason=JoinReason.JOINED,
            )
            self.say(attrs.evolve(start, **changes))

    def state(self, model_id: str) -> State | None:
        number = self.number(model_id)
        return next((each for each in reversed(self.of(State)) if each.number == number), None)

    async def wait_state(self, model_id: str, state: ModelState) -> State:
        await self.wait(lambda: (now := self.state(model_id)) is not None and now.state is state)
        found = self.state(model_id)
        assert found is not None
        return found

    async def ready(self, *model_ids: str, **changes: Any) -> None:
        self.start(*model_ids, **changes)
        for model_id in model_ids:
            await self.wait_state(model_id, ModelState.READY)

    def begin(
        self,
        method: str,
        arguments: Arguments | None = NO_ARGUMENTS,
        models: Iterable[str] | None = None,
        *,
        numbers: Iterable[int] = (),
        **options: Any,
    ) -> int:
        """Begin a round; return its number."""
        self._rounds += 1
        models = self._numbers if models is None else models
        options = {"seconds": 9.0, "timeout": 10.0, **options}
        self.say(
            RoundBegin(
                round=self._rounds,
                method=method,
                members=array("I", [*map(self.number, models), *numbers]),
                arguments=None if arguments is None else arguments_to_wire(arguments),
                **options,
            )
        )
        return self._rounds

    def batches(self, round_number: int) -> list[Results]:
        return [each for each in self.of(Results) if each.round == round_number]

    async def end_of(self, round_number: int) -> dict[int, Got]:
        """Wait for the end of a round; return its results by number."""
        await self.wait(lambda: any(each.last for each in self.batches(round_number)))
        batches = self.batches(round_number)
        assert [each.last for each in batches] == [*[False] * (len(batches) - 1), True]
        results = [result for batch in batches for result in results_of(batch)]
        assert len(dict(results)) == len(results)  # one for each member
        return dict(results)

    async def call(
        self, method: str, arguments: Arguments | None = NO_ARGUMENTS, **more: Any
    ) -> dict[int, Got]:
        """Make a round, and wait for its results."""
        return await self.end_of(self.begin(method, arguments, **more))


def results_of(batch: Results) -> Iterable[tuple[int, Got]]:
    rows: Mapping[int, Row] = {row.position: row for row in batch.rows}
    begin = 0
    for position, number in enumerate(batch.members):
        end = batch.ends[position]
        kind = batch.data_types[position]
        encoded = None if kind == 0xFF else Encoded(DataType(kind), bytes(batch.data[begin:end]))
        begin = end
        status = list(Status)[batch.statuses[position]]
        sent = bool(batch.sent[position])
        yield number, Got(status, encoded, batch.elapsed[position], sent, rows.get(position))


@asynccontextmanager
async def driving(
    models: Mapping[str, Any], *, hello: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[LocalCrunch, Driver]]:
    """One shard, which has no models yet. At the end of the block the driver leaves, if it is still there."""
    network = MemoryNetwork()
    async with LocalCrunch(models, network=network) as crunch, trio.open_nursery() as nursery:
        driver = Driver(crunch)
        first = Hello(
            VERSION,
            0,
            config_to_wire(crunch.config(**settings), network=False),
            service_to_wire(SERVICE),
        )
        first = attrs.evolve(first, **(hello or {}))

        async def serve() -> None:
            await serve_shard(encode(first), driver.send, driver.receive, network=network)
            driver.ended.set()
            driver._news.send()

        nursery.start_soon(serve)
        try:
            yield crunch, driver
        finally:
            if not driver.lost:
                driver.say(Leave())
            with trio.fail_after(60):
                await driver.ended.wait()
