"""A web service on Trio: questions over HTTP, health, and what happens to the models as it happens.

It needs two packages more, ``pip install hypercorn starlette``. Run it against an orchestrator, with a file
of settings, or with the environment alone::

    python tests/examples/web_service.py 127.0.0.1:8080 config.toml
    TRIO_MODEL_RUNNER_CRUNCH_ID=condor TRIO_MODEL_RUNNER_HOST=orchestrator.example.org \
        python tests/examples/web_service.py 127.0.0.1:8080

    curl http://127.0.0.1:8080/predict -d '{"asset": "BTC", "horizon": 3600}'  # keywords of predict
    curl http://127.0.0.1:8080/healthz  # 200, or 503 while it is of no use to send questions here
    curl http://127.0.0.1:8080/changes -N  # server-sent events

At SIGTERM or Ctrl-C it answers what is open, and then leaves. The cluster is drained *before* the server is
told to shut down: when a server comes to the shutdown of ASGI's lifespan, it has cut the requests that were
open already (curl: "(52) Empty reply from server").

Whoever can connect may ask, and questions of any size are read, so put a proxy before it that knows better.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config as ServerConfig
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from trio_model_runner import Arguments, Cluster, ClusterConfig, ClusterDraining, DynamicSubclassService

SERVICE = DynamicSubclassService("condorgame.tracker.TrackerBase")
DRAIN_SECONDS = 5.0  # for rounds that are under way
WRITE_SECONDS = 2.0  # for their answers to be written


class WebService:
    """An ASGI application for one cluster; it knows which requests are open.

    Args:
        cluster: the cluster, entered.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._draining = trio.Event()
        self._open = 0
        self._answered = trio.lowlevel.ParkingLot()
        self._routes = Starlette(
            routes=[
                Route("/predict", self._predict, methods=["POST"]),
                Route("/healthz", self._health),
                Route("/changes", self._changes),
            ]
        )

    # The types of the server's messages are not those of the routes', though they are the same messages.
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        is_request = scope["type"] == "http"  # else it is the server's lifespan
        self._open += is_request
        try:
            await self._routes(scope, receive, send)
        finally:
            self._open -= is_request
            self._answered.unpark_all()

    async def drain(self) -> None:
        """Take no new questions, and wait until all that were open are answered."""
        self._draining.set()
        await self._cluster.drain(DRAIN_SECONDS)  # rounds end, and return what they have
        with trio.move_on_after(WRITE_SECONDS):
            while self._open:
                await self._answered.park()

    async def _predict(self, request: Request) -> Response:
        try:
            keywords = json.loads(await request.body())
            if not isinstance(keywords, dict):
                raise TypeError("a JSON object is wanted, with the keywords of predict")
            arguments = Arguments(**keywords)
            arguments.encode()
        except (TypeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        try:
            results = await self._cluster.call("predict", arguments)
        except ClusterDraining as error:
            return JSONResponse({"error": str(error)}, 503)
        return JSONResponse(results.to_dict())  # strict JSON: what is NaN is null

    async def _health(self, request: Request) -> Response:
        snapshot = self._cluster.snapshot()
        usable = not snapshot.draining and bool(self._cluster.models)
        return JSONResponse(snapshot.to_dict(), 200 if usable else 503)

    async def _changes(self, request: Request) -> ASGIApp:
        return self._tell_changes

    async def _tell_changes(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell what happens, until the client goes or the service drains: else it would never be answered."""
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_after, self._draining.wait, nursery.cancel_scope)
            nursery.start_soon(_cancel_after, partial(_wait_gone, receive), nursery.cancel_scope)
            async with self._cluster.changes(initial=True) as changes:
                async for change in changes:
                    event = f"data: {json.dumps(change.to_dict())}\n\n"
                    await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _cancel_after(wait: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def main(config: ClusterConfig, bind: str) -> None:
    """Serve until SIGTERM or Ctrl-C comes; while the cluster is still coming up, that ends it at once."""
    server = ServerConfig()
    server.bind = [bind]
    server.graceful_timeout = 1.0  # seconds for connections on which nothing is asked
    stopped = trio.Event()
    service: WebService | None = None

    async def stop_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        await anext(signals)
        stopped.set()
        if service is None:
            scope.cancel()

    async def stopped_and_drained() -> None:
        await stopped.wait()
        if service is not None:
            await service.drain()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_at_signal, signals, nursery.cancel_scope)
            async with Cluster(config, SERVICE) as cluster:
                service = WebService(cluster)
                await serve(service, server, shutdown_trigger=stopped_and_drained)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    trio.run(main, ClusterConfig.load(*sys.argv[2:3]), sys.argv[1])
