"""The cluster: every model of a crunch, kept up and called, for as long as its block lasts.

Everything that runs for a coordinator hangs in one nursery, which opens and closes with the ``async with``
block. The naive way to use one fails where it matters most: when the block is left by an exception or by a
cancellation, the nursery cancels everything at once, and nobody is left to say goodbye to hundreds of nodes.
So what does I/O is shielded, task by task, and ended by an exit sequence of its own: calls are reset, GOAWAYs
and the WebSocket's close frame go out, bounded by ``shutdown_grace``; then the sockets close. The body of the
block is never shielded.

The rest is elsewhere: `fleet` has the models, `calling` calls them, `orchestrator` says who they are.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType, TracebackType
from typing import Any, Self

import trio
from trio.lowlevel import enable_ki_protection

from ..config import ClusterConfig
from ..errors import OrchestratorUnavailable
from ..groups import one_by_itself
from ..model.requests import check_size
from ..model.runner import ModelRunner
from ..model.states import JoinReason
from ..orchestrator import OrchestratorFeed
from ..services.base import Service
from ..values.failure_codes import FailureCode
from .calling import ClusterCalls
from .changes import ChangeListener
from .fleet import Fleet
from .joining import Join, call_on_join
from .snapshot import ClusterSnapshot

__all__ = ["Cluster"]

OnJoin = Callable[[Join], Awaitable[None]]


class Cluster(ClusterCalls):
    """The models of one crunch, as an async context manager.

        async with Cluster(config, DynamicSubclassService("birdgame.trackers.TrackerBase")) as cluster:
            results = await cluster.call("predict", Arguments("BTC"))

    Entering waits for the orchestrator's list of models, and then, for at most ``startup_timeout``, until
    each of them is ready or has failed. Slower ones join later. All methods may be called from any task.

    Args:
        config: the settings.
        service: what the model nodes speak.
        on_join: catches a model up before it takes part in rounds: called at its first join, and again
            whenever it has lost its history. It may call the model through ``join.model``. If it raises,
            or takes longer than ``on_join_timeout``, that model stays out until it is announced again.

    Raises:
        TypeError: `config`, `service`, `on_join` or an argument for the setup is of another type.
        ValueError: an argument for the setup is out of range or too large.
        OrchestratorUnavailable: on entering, if no list came within ``orchestrator_timeout``.
    """

    def __init__(self, config: ClusterConfig, service: Service, *, on_join: OnJoin | None = None) -> None:
        if not isinstance(config, ClusterConfig):
            raise TypeError(f"config: must be a ClusterConfig, got {type(config).__name__}")
        if not isinstance(service, Service):
            raise TypeError(f"service: must be a service such as TrainInferService(), got {service!r}")
        if on_join is not None and not callable(on_join):
            raise TypeError(f"on_join: must be an async function, got {type(on_join).__name__}")
        check_size(service.setup_request(), config.limits.max_message_bytes)
        self._on_join = on_join
        self._feed = OrchestratorFeed(config)
        fleet = Fleet(config, service, self._feed, join=self._join, call_model=self._call_model)
        super().__init__(config, service, fleet)
        self._service_scope = trio.CancelScope(shield=True)
        self._block: AbstractAsyncContextManager[None] | None = None

    @property
    def config(self) -> ClusterConfig:
        """The settings."""
        return self._config

    @property
    def models(self) -> Mapping[str, ModelRunner]:
        """The models that are ready, by model id; a view that follows."""
        return MappingProxyType(self._fleet.ready)

    @property
    def announced(self) -> Mapping[str, ModelRunner]:
        """All models that the orchestrator says run or recover, by model id, as of now."""
        return self._fleet.announced

    @contextlib.asynccontextmanager
    async def changes(self, *, initial: bool = False) -> AsyncIterator[ChangeListener]:  # noqa: ASYNC911
        """Listen to what happens to the models.

            async with cluster.changes() as changes:
                async for change in changes:
                    ...

        Args:
            initial: begin with what is there: ANNOUNCED for each announced model, then JOINED for each that
                is ready and FAILED for each that is out. A listener that was too slow to be told everything
                gets a RESYNC, and then this again.
        """
        self._check_open()
        listener = ChangeListener(self._fleet.picture if initial else None)
        self._fleet.changes.add(listener)
        try:
            yield listener  # noqa: ASYNC911 - nothing here waits
        finally:
            self._fleet.changes.discard(listener)

    async def wait_for_models(self, count: int = 1) -> None:
        """Wait until at least `count` models are ready.

        Raises:
            trio.ClosedResourceError: the block is left before that.
        """
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"count: must be a whole number, got {type(count).__name__}")
        while True:
            self._check_open()
            if len(self._fleet.ready) >= count:
                await trio.lowlevel.checkpoint()
                return
            await self._fleet.wait_change()

    async def report_failure(
        self, model: ModelRunner, code: FailureCode | str, reason: str | None = None
    ) -> None:
        """Report a model to the orchestrator, which stops it and shows its author the reason.

        Returns when the report is queued; it is sent when the orchestrator can be reached, unless by then
        it no longer lists this deployment. While reporting is off, this logs a warning and does nothing.

        Args:
            model: the deployment.
            code: why, such as "LOW_PERFORMANCE".
            reason: what its author gets to read.

        Raises:
            TypeError: `model` is no ModelRunner, or `reason` no text.
            ValueError: the orchestrator does not know such a code.
        """
        self._check_open()
        await trio.lowlevel.checkpoint()
        self._fleet.court.report(model, FailureCode(code), reason)

    async def drain(self, timeout: float) -> None:
        """Take no new calls, and let running rounds end, at most for so many seconds.

        Rounds that have not ended by then return with what they have; nobody is blamed.
        """
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout: must be a number of seconds, got {type(timeout).__name__}")
        if not timeout >= 0:
            raise ValueError(f"timeout: must be >= 0 seconds, got {timeout!r}")
        self._check_open()
        self._draining = True
        deadline = trio.current_time() + timeout
        for each in self._rounds:
            each.end_by(deadline)
        await trio.lowlevel.checkpoint()
        while self._rounds:
            await self._fleet.wait_change()

    def snapshot(self) -> ClusterSnapshot:
        """How the cluster is now, in plain values."""
        last_round: dict[str, Any] | None = None
        if (last := self._last_round) is not None:
            counts = dict(Counter(result.status.value for result in last.values()))
            last_round = {"id": last.id, "method": last.method, "elapsed": last.elapsed, "counts": counts}
        return ClusterSnapshot(
            crunch_id=self._config.crunch_id,
            orchestrator_connected=self._feed.connected,
            orchestrator_since=self._feed.since,
            orchestrator_error=self._feed.last_error,
            models=self._fleet.count_states(),
            last_round=last_round,
            reports_pending=self._feed.pending_reports,
            verdicts_pending=self._fleet.court.pending,
            verdicts_held=self._fleet.court.held,
            draining=self._draining,
        )

    async def _join(self, model: ModelRunner, reason: JoinReason, fresh: bool) -> None:  # noqa: ASYNC910
        if self._on_join is not None:
            join = Join(model=model, cluster=self, reason=reason, fresh=fresh)
            await call_on_join(self._on_join, join, self._config.on_join_timeout)

    async def __aenter__(self) -> Self:
        if self._block is not None:
            raise RuntimeError("a Cluster can be entered only once")
        self._block = self._run()
        await self._block.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._block is not None
        return await self._block.__aexit__(kind, error, traceback)  # noqa: ASYNC102

    @contextlib.asynccontextmanager
    @enable_ki_protection
    async def _run(self) -> AsyncIterator[None]:
        raised: BaseExceptionGroup | None = None
        with one_by_itself():
            async with trio.open_nursery() as nursery:
                self._open = True
                self._fleet.open(nursery)
                try:
                    nursery.start_soon(self._serve)
                    nursery.start_soon(self._fleet.court.sit)
                    await self._start_up()
                    yield
                except BaseExceptionGroup as group:
                    if nursery.cancel_scope.cancel_called:  # by a bug of ours, and this has its Cancelled
                        raise
                    raised = group  # of which a nursery would make a copy
                finally:
                    self._shut_down(nursery)
        if raised is not None:
            raise raised

    @enable_ki_protection
    async def _serve(self) -> None:
        """Do what all models need, until `_leave_orchestrator` ends it."""
        with self._service_scope, one_by_itself():
            async with trio.open_nursery() as nursery:
                if self._fleet.hub is not None:
                    nursery.start_soon(self._fleet.hub.run)
                await self._feed.run(self._fleet.deliver)

    async def _start_up(self) -> None:
        timeout = self._config.orchestrator_timeout
        with trio.move_on_after(timeout) as scope:
            await self._fleet.initialised.wait()
        if scope.cancelled_caught:
            address = f"{self._config.host}:{self._config.port}"
            reason = self._feed.last_error or "it sent nothing"
            raise OrchestratorUnavailable(
                f"no init from the orchestrator at {address} in {timeout:g} s: {reason}"
            )
        with trio.move_on_after(self._config.startup_timeout):
            while not self._fleet.settled:
                await self._fleet.wait_change()

    @enable_ki_protection
    def _shut_down(self, nursery: trio.Nursery) -> None:
        """Say goodbye to everybody at once, each bounded by ``shutdown_grace``.

        That goes on in tasks of their own: a Ctrl-C that comes meanwhile cuts no goodbye short.
        """
        self._open = False
        self._fleet.close()
        self._fleet.wake()
        nursery.start_soon(self._leave_orchestrator, nursery)

    @enable_ki_protection
    async def _leave_orchestrator(self, nursery: trio.Nursery) -> None:
        with trio.CancelScope(shield=True):
            await self._feed.aclose()  # bounds itself
        self._service_scope.cancel()
        nursery.cancel_scope.cancel()
