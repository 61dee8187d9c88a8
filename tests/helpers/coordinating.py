"""A crunch in memory and the cluster that coordinates it, in one block; and the models of both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_model_runner import Cluster, DynamicSubclassService
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.services import NodeService
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing import Service as ServiceName

SERVICE = DynamicSubclassService("crunch.Model")


class Model:
    """Counts its ticks, and can be slow, hang or fail."""

    def __init__(self, *_: Any) -> None:
        self.ticks: list[Any] = []

    def tick(self, *values: Any) -> int:
        self.ticks += values
        return len(self.ticks)

    def predict(self, value: Any = 1.5) -> Any:
        return value

    def nothing(self) -> None:
        return None

    async def sleep(self, seconds: float) -> str:
        await trio.sleep(seconds)
        return "awake"

    async def hang(self) -> None:
        await trio.sleep_forever()

    def fail(self) -> None:
        raise ValueError("no feathers")


@asynccontextmanager
async def coordinating(
    models: Mapping[str, Any],
    *,
    service: NodeService = SERVICE,
    on_join: Any = None,
    instruments: Iterable[Any] = (),
    services: tuple[ServiceName, ...] = (ServiceName.DYNAMIC_SUBCLASS,),
    **settings: Any,
) -> AsyncIterator[tuple[LocalCrunch, Cluster]]:
    async with (
        LocalCrunch(models, network=MemoryNetwork(), services=services) as crunch,
        Cluster(crunch.config(**settings), service, on_join=on_join, instruments=instruments) as cluster,
    ):
        yield crunch, cluster


async def until(cluster: Cluster, condition: Callable[[], object]) -> None:
    """Wait until something is so, which may change with any model's state."""
    while not condition():
        # Private: `Cluster.changes` leaves out the steps of a model that comes up.
        await cluster._fleet.changed.wait()
