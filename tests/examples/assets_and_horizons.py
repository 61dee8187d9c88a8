"""Many questions at once: 12 assets by 4 horizons, asked of all models, and every answer kept in SQLite.

Run it against an orchestrator, with a file of settings, or with the environment alone::

    python tests/examples/assets_and_horizons.py answers.db config.toml
    TRIO_MODEL_RUNNER_CRUNCH_ID=condor TRIO_MODEL_RUNNER_HOST=orchestrator.example.org \
        python tests/examples/assets_and_horizons.py answers.db

Every minute it asks 48 questions at once. A model answers one after the other, and the rest waits for it, so
``timeout`` is the time for all 48; ``limits.max_queued_calls`` (256) is how many may wait for one model.

Nothing that has arrived is lost: an answer is kept when it comes, and is written whatever way its question
ends. SIGTERM lets open questions end, for five seconds at most, and the program leaves when all is written.
"""

from __future__ import annotations

import logging
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing, suppress
from itertools import product
from typing import Any

import trio

from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterConfig,
    ClusterDraining,
    DynamicSubclassService,
    PredictResult,
)

SERVICE = DynamicSubclassService("condorgame.tracker.TrackerBase")
ASSETS = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOT", "LTC", "BNB", "AVAX", "LINK", "DOGE", "ATOM")
HORIZONS = (3_600, 14_400, 43_200, 86_400)  # seconds
DRAIN_SECONDS = 5.0

logger = logging.getLogger("assets_and_horizons")

_TABLE = """
    CREATE TABLE IF NOT EXISTS answers (
        asked_at REAL NOT NULL,  -- POSIX seconds
        asset TEXT NOT NULL,
        horizon INTEGER NOT NULL,  -- seconds
        model_id TEXT NOT NULL,
        deployment_id TEXT,
        status TEXT NOT NULL,
        value REAL,  -- NULL also for NaN
        seconds REAL NOT NULL,
        detail TEXT NOT NULL
    )
"""
_INSERT = "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

Row = Sequence[Any]


class Store:
    """The table of answers. A disk can be slow, so it is written to in a thread, by one task at a time.

    Args:
        path: the database's file.
    """

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")  # so that others can read meanwhile
        self._database.execute(_TABLE)
        self._turn = trio.CapacityLimiter(1)

    async def write(self, rows: Sequence[Row]) -> None:
        """Write rows, all of them or none. A cancellation waits until that is done."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._insert, rows, limiter=self._turn)

    def _insert(self, rows: Sequence[Row]) -> None:
        with self._database:  # a transaction
            self._database.executemany(_INSERT, rows)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class Asking:
    """Asks all questions again and again, until it is stopped.

    Args:
        store: where answers are written.
        period: seconds from one time to the next.
    """

    def __init__(self, store: Store, period: float) -> None:
        self._store = store
        self._period = period
        self._stopped = trio.Event()
        self._cluster: Cluster | None = None

    async def run(self, config: ClusterConfig) -> None:
        """Ask until SIGTERM comes."""
        # Before the cluster is entered, which can take a minute: by itself, SIGTERM ends a program at once.
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_at_signal, signals, nursery.cancel_scope)
                async with Cluster(config, SERVICE) as self._cluster:
                    await self._ask_until_stopped(self._cluster)
                nursery.cancel_scope.cancel()

    async def _stop_at_signal(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        await anext(signals)
        self._stopped.set()
        if self._cluster is None:
            scope.cancel()  # it is still being entered: nobody was asked
        else:
            await self._cluster.drain(DRAIN_SECONDS)  # open questions end with what they have

    async def _ask_until_stopped(self, cluster: Cluster) -> None:
        while not self._stopped.is_set():
            next_at = trio.current_time() + self._period
            asked_at = time.time()
            async with trio.open_nursery() as nursery:
                for asset, horizon in product(ASSETS, HORIZONS):
                    nursery.start_soon(self._ask, cluster, asked_at, asset, horizon)
            logger.info(
                "asked %d questions of %d models", len(ASSETS) * len(HORIZONS), len(cluster.announced)
            )
            with trio.move_on_at(next_at):
                await self._stopped.wait()

    async def _ask(self, cluster: Cluster, asked_at: float, asset: str, horizon: int) -> None:
        """Ask all models one question, and write every answer that came."""
        rows: list[Row] = []
        question = Arguments(asset, horizon, step=60)
        try:
            # Suppressed here: out of a nursery it would come in a group of exceptions.
            with suppress(ClusterDraining):
                async with cluster.as_completed("predict", question, returns=float) as results:
                    async for result in results:
                        row = (asked_at, asset, horizon, *_columns(result))
                        rows.append(row)  # at once: a comprehension would lose all at a cancellation
        finally:
            await self._store.write(rows)


def _columns(result: PredictResult[float]) -> Row:
    model = result.model
    value = result.value  # None if it has not succeeded
    return model.model_id, model.deployment_id, result.status.value, value, result.elapsed, result.detail


def main(database: str, *settings: str) -> None:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    config = ClusterConfig.load(*settings)
    with closing(Store(database)) as store:
        trio.run(Asking(store, period=60.0).run, config)


if __name__ == "__main__":
    main(*sys.argv[1:])
