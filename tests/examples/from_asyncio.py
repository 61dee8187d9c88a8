"""A cluster for a program that does not run Trio: one with threads, one on asyncio, and a notebook.

It needs anyio, which the extra ``compat`` brings. Run one of the three against an orchestrator, with a file
of settings, or with the environment alone::

    python tests/examples/from_asyncio.py threads config.toml
    TRIO_MODEL_RUNNER_CRUNCH_ID=condor TRIO_MODEL_RUNNER_HOST=orchestrator.example.org \
        python tests/examples/from_asyncio.py asyncio

A program that was written for PyPI's ``model-runner-client`` needs `trio_model_runner.compat` instead.

The cluster runs in a thread of its own, behind anyio's blocking portal. What to mind:

- Deadlines don't cross the portal. ``asyncio.timeout`` around a call, or ``result(timeout=...)`` of a future,
  loses all answers of the round; the call's own ``timeout=`` returns those that are there.
- A future whose ``result(timeout=...)`` has raised TimeoutError goes on: its round runs, and the models are
  busy. ``future.cancel()`` ends it on the wire; so does cancelling a task that awaits ``portal.call_async``.
- Entering and leaving the cluster blocks the thread that does it, entering for up to a minute
  (``orchestrator_timeout``). So an asyncio program does both outside of its loop, as here. Where a web server
  owns the loop, take `trio_model_runner.compat`, which waits without blocking it.
- What the cluster has (`models`, `snapshot()`, results) may be looked at from any thread. Whatever is async,
  and ``async for`` over changes, belongs behind the portal.
"""

from __future__ import annotations

import asyncio
import atexit
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from trio_model_runner import Arguments, Cluster, ClusterConfig, DynamicSubclassService, PredictionRound

SERVICE = DynamicSubclassService("condorgame.tracker.TrackerBase")
SECONDS = 5.0  # for a round


@contextmanager
def cluster_in_a_thread(config: ClusterConfig) -> Iterator[tuple[BlockingPortal, Cluster]]:
    """Have a cluster in a thread of its own while the block lasts, and a portal to call it by."""
    with (
        start_blocking_portal("trio") as portal,
        portal.wrap_async_context_manager(Cluster(config, SERVICE)) as cluster,
    ):
        yield portal, cluster


# What runs behind the portal is an async function of one's own: there a call has its types and its keywords.
async def predict(cluster: Cluster, asset: str) -> PredictionRound[float]:
    """Ask all models about an asset."""
    return await cluster.call("predict", Arguments(asset), timeout=SECONDS, returns=float)


def with_threads(config: ClusterConfig) -> list[PredictionRound[float]]:
    """Ask from several threads at once. Each waits for its own answers."""

    def ask(asset: str) -> PredictionRound[float]:
        return portal.call(predict, cluster, asset)

    with cluster_in_a_thread(config) as (portal, cluster), ThreadPoolExecutor(4) as threads:
        return list(threads.map(ask, ("BTC", "ETH")))


def ask_and_give_up(
    portal: BlockingPortal, cluster: Cluster, seconds: float
) -> PredictionRound[float] | None:
    """Ask, and wait only so long. A shorter ``timeout=`` of the call would be better: it loses nothing."""
    future: Future[PredictionRound[float]] = portal.start_task_soon(predict, cluster, "BTC")
    try:
        return future.result(timeout=seconds)
    except TimeoutError:
        future.cancel()  # without this it goes on
        return None


def with_asyncio(config: ClusterConfig) -> list[PredictionRound[float]]:
    """Ask from tasks of asyncio. The loop goes on meanwhile."""

    async def program() -> list[PredictionRound[float]]:
        questions = (portal.call_async(predict, cluster, asset) for asset in ("BTC", "ETH"))
        return await asyncio.gather(*questions)

    with cluster_in_a_thread(config) as (portal, cluster):  # around the loop, and not in it
        return asyncio.run(program())


def in_a_notebook(config: ClusterConfig) -> list[PredictionRound[float]]:
    """Ask in the cells of a notebook, which is an asyncio program that somebody else wrote."""
    # The first cell. Once: each time makes another cluster.
    stack = ExitStack()
    atexit.register(stack.close)  # nodes and orchestrator are told, too, when the kernel is shut down
    portal, cluster = stack.enter_context(cluster_in_a_thread(config))

    # Any number of cells. In a cell, `await portal.call_async(predict, cluster, "BTC")` works, too.
    results = [portal.call(predict, cluster, asset) for asset in ("BTC", "ETH")]

    # The last cell.
    stack.close()
    return results


WAYS: dict[str, Any] = {"threads": with_threads, "asyncio": with_asyncio, "notebook": in_a_notebook}

if __name__ == "__main__":
    for results in WAYS[sys.argv[1]](ClusterConfig.load(*sys.argv[2:3])):
        print(results)
