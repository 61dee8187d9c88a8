"""A cluster whose models are called by several processes: what a coordinator uses in place of `Cluster`."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Final

from ..cluster.actors import Actors
from ..cluster.caller import MakeRound
from ..cluster.cluster import Cluster, OnJoin
from ..cluster.instrument import Instrument
from ..config import ClusterConfig
from ..frame_readers.readers import FrameReaders
from ..given import check_whole_number
from ..services.base import NodeService
from ..text import shown_scalar
from .engine import Engine
from .local import LocalEngine
from .sharded_round import ShardedRound
from .shards import Shards
from .wire_values import config_to_wire, service_to_wire

__all__ = ["ShardedCluster"]

_MOST_SHARDS: Final = 1000


class ShardedCluster(Cluster):
    """A `Cluster` over several processes: all that it can do, this can do, with two exceptions.

        async with ShardedCluster(config, service, shards=2) as cluster:
            results = await cluster.call("predict", Arguments("BTC"))

    `ModelRunner.channel` raises a RuntimeError: the connections are in other processes. And the credentials
    must be of a kind that each process can load for itself. This process has the feed, runs `on_join` and
    functions for ``arguments=`` and ``returns=``, and reports; the others, called shards, have the
    connections. See ``sharding/README.md`` for when that helps, and what happens when a shard dies.

    Args:
        config: the settings.
        service: the gRPC service that the model nodes have; None only observes.
        shards: how many processes have the models; from 1 to 1,000.
        engine: launches them; None is `LocalEngine`, which launches them on this machine.
        on_join: see `Cluster`.
        instruments: see `Cluster`.

    Raises:
        TypeError: see `Cluster`; or `shards` is no whole number.
        ValueError: see `Cluster`; or `shards` is out of range.
        ConfigError: see `Cluster`; or something in the settings can't be had in another process.
        ShardLost: on entering, if a shard can't be launched; from the block, if all of them are lost.
    """

    def __init__(
        self,
        config: ClusterConfig,
        service: NodeService | None = None,
        *,
        shards: int,
        engine: Engine | None = None,
        on_join: OnJoin | None = None,
        instruments: Iterable[Instrument] = (),
    ) -> None:
        check_whole_number(shards, "shards", at_least=1, at_most=_MOST_SHARDS)
        if engine is not None and (isinstance(engine, type) or not hasattr(engine, "launch")):
            raise TypeError(f"engine: must be an engine such as LocalEngine(), got {shown_scalar(engine)}")
        self._shard_count = shards
        self._engine: Engine = LocalEngine() if engine is None else engine
        super().__init__(config, service, on_join=on_join, instruments=instruments)
        self._shards.judge = self._fleet.judge

    def _kind_of_actors(self, service: NodeService | None) -> tuple[Actors[Any], MakeRound[Any]]:
        limit = self._config.limits.max_frame_bytes
        shards = self._shards = Shards(
            self._config,
            settings=config_to_wire(self._config, network=not self._engine.has_network),
            service=None if service is None else service_to_wire(service),
            count=self._shard_count,
            engine=self._engine,
            has_on_join=self._on_join is not None,
            frame_readers=FrameReaders(limit) if self._config.isolate_frames else None,
        )
        return shards, functools.partial(ShardedRound, shards)
