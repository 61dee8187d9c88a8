"""Shards on the workers of a Dask cluster. It needs the extra ``dask``, here and where the workers are.

Dask launches, and carries bytes. Each shard is an actor on a worker of its own (`dask_actor` is what runs
there). Messages have numbers, and the actor is asked two questions at a time at
most: "take these", and "give me what you have", which waits if there is nothing. Dask has 512 connections for
all questions of a client, and stalls when they are used up, so this is for 250 shards at most.

Workers must be reachable from here: large messages must not go through the scheduler.

What Dask says of a worker is not taken for truth, since it has called one dead that lived. When questions
fail for 3 s, or one has no answer for 15 s, the *way* is lost. `Shard.exited` is set only when the actor
itself says that its shard has ended. A dead worker's never is: whether its process still calls models nobody
can know, and leases answer that. Workers end when they lose the scheduler, and it lets go of all actors of a
client that it loses. So without it all shards are lost.
"""

from __future__ import annotations

import contextlib
import math
import pkgutil
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Collection
from typing import Any, Final

import trio

from ..errors import ConfigError
from ..groups import first_of, one_by_itself, open_nursery_for_body
from ..text import named_error, readable
from .asyncio_thread import AsyncioThread, open_asyncio_thread
from .dask_actor import POLL_SECONDS, ShardActor
from .engine import SERVE, Shard, ShardLost, close_all
from .messages import VERSION
from .sequence import Batch
from .way_end import WayEnd

__all__ = ["DaskEngine", "DaskShard"]

_CONNECT_SECONDS: Final = 30.0
_LAUNCH_SECONDS: Final = 60.0
"""A worker that computes something else with all its threads takes no actor."""

_ABSENCE_EVERY: Final = 1.0

_ANSWER_SECONDS: Final = POLL_SECONDS + 10.0
_RETRY_SECONDS: Final = 3.0
_RETRY_EVERY: Final = 0.2
_END_SECONDS: Final = 2.0
"""For a shard that was closed to end by itself. Then it is cancelled."""

_CANCEL_SECONDS: Final = 3.0
_HURRIED_END_SECONDS: Final = 0.5
_SHOWN_LETTERS: Final = 2000

_VERSION: Final = "trio_model_runner.sharding.messages:VERSION"
_SCHEDULER_LOST: Final = "the connection to the Dask scheduler is lost"
_SAME_RELEASE: Final = "it must have the same release of this package as the driver"


class DaskEngine:
    """Launches shards on the workers of a Dask cluster, one on each.

    This package must be installed where the workers are, and where the scheduler is.

    Args:
        address: of the scheduler, such as ``tls://scheduler:8786``.
        security: a `distributed.Security` with the certificates of this program; it must be given for TLS.
        serve: what a shard runs, as ``module:function``; see `engine.Serve`. Tests have others.

    Raises:
        ConfigError: the extra is not installed.
    """

    has_network = False

    def __init__(self, address: str, *, security: Any = None, serve: str = SERVE) -> None:
        try:
            import distributed  # it takes half a second
        except ModuleNotFoundError as error:
            raise ConfigError(
                "engine: needs distributed, which is not installed: pip install '.[dask]' in a clone"
            ) from error
        self._make_client: Any = distributed.Client
        self._address = address
        self._security = security
        self._serve = serve
        self._nursery: trio.Nursery | None = None
        self._thread: AsyncioThread | None = None
        self._client: Any = None
        self._shards: list[DaskShard] = []
        self._failures: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def running(self) -> AsyncIterator[None]:
        """See `engine.Engine`. It has a connection to the scheduler. Shards left open are closed at its end.

        Raises:
            ShardLost: no scheduler answers at this address within 30 s, or it refuses this program, or can't
                import this package.
        """
        async with open_asyncio_thread("trio_model_runner.sharding.dask") as self._thread:
            await self._connect(self._thread)
            async with open_nursery_for_body() as nursery:
                self._nursery = nursery
                try:
                    yield
                finally:
                    self._nursery = None
                    await close_all(self._shards)  # noqa: ASYNC102 - which shields and bounds itself

    async def _connect(self, thread: AsyncioThread) -> None:
        async def connect() -> None:
            self._client = self._make_client(
                self._address,
                security=self._security,
                asynchronous=True,
                set_as_default=False,
                direct_to_workers=True,
                timeout=_CONNECT_SECONDS,
            )
            thread.at_end(self._client.close)
            await self._client

        async def import_there() -> None:
            await self._client.run_on_scheduler(pkgutil.resolve_name, _VERSION)

        address = readable(self._address)
        try:
            await thread.run(connect)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise ShardLost(
                f"no connection to the Dask scheduler at {address}: {_said(error)}{_hint(error)}"
            ) from error
        try:
            await thread.run(import_there)
        except Exception as error:  # whatever an import raises
            raise ShardLost(
                f"the Dask scheduler at {address} can't import this package: {_said(error)}; {_SAME_RELEASE}"
            ) from error

    @trio.lowlevel.enable_ki_protection
    async def launch(self, index: int, first_message: bytes) -> Shard:
        """See `engine.Engine`. The shard goes to a worker that has none.

        Workers to which a way was lost are the last choice.
        """
        if self._nursery is None or self._thread is None:
            raise RuntimeError("shards are launched inside `async with engine.running()`")
        shard = DaskShard(index, self._thread)
        try:
            with trio.move_on_after(_LAUNCH_SECONDS) as scope:
                shard.worker = self._place(await self._thread.run(self._workers))
                self._shards.append(shard)
                with one_by_itself():
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._notice_absence, shard.worker)
                        await self._check_release(shard.worker)
                        await shard.begin(self._client, self._serve)
                        nursery.cancel_scope.cancel()
            if scope.cancelled_caught:
                raise ShardLost(f"no worker has started it within {_LAUNCH_SECONDS:g} s")
            self._nursery.start_soon(shard.run)
            await shard.send(first_message)
        except Exception as error:
            shard.failed = True
            await shard.aclose()
            raise ShardLost(f"shard {index} can't be started: {_said(error)}") from error
        except BaseException:
            await shard.aclose()
            raise
        return shard

    async def _notice_absence(self, worker: str) -> None:
        """Dask would wait for a worker that went away to come back."""
        assert self._thread is not None
        while True:
            await trio.sleep(_ABSENCE_EVERY)
            if worker not in await self._thread.run(self._workers):
                raise ShardLost(f"its worker {worker} is gone")

    async def _check_release(self, worker: str) -> None:
        """Have a worker import this package; one that can't would end when it gets an actor of ours."""

        async def import_there() -> Any:
            return await self._client.run(pkgutil.resolve_name, _VERSION, workers=[worker], on_error="return")

        assert self._thread is not None
        version = (await self._thread.run(import_there)).get(worker)
        if isinstance(version, OSError):
            raise ShardLost(f"its worker {worker} can't be reached: {_said(version)}") from version
        if isinstance(version, Exception):
            raise ShardLost(
                f"its worker {worker} can't import this package: {_said(version)}; {_SAME_RELEASE}"
            ) from version
        if version != VERSION:
            raise ShardLost(
                f"its worker {worker} speaks version {version} of the messages between driver and shards, "
                f"and this program version {VERSION}: {_SAME_RELEASE}"
            )

    async def _workers(self) -> dict[str, int]:
        workers: dict[str, int] = await self._client.nthreads()
        return workers

    def _place(self, workers: Collection[str]) -> str:
        self._failures.update(shard.worker for shard in self._shards if shard.closed and shard.failed)
        self._shards = [shard for shard in self._shards if not shard.closed]
        if not workers:
            raise ShardLost("the Dask cluster has no worker")
        free = {*workers}.difference(shard.worker for shard in self._shards)
        if not free:
            raise ShardLost(
                f"the Dask cluster has {len(workers)} workers, and each has a shard: "
                "start a worker for each shard, or take fewer shards"
            )
        return min(free, key=lambda worker: (self._failures[worker], worker))


class DaskShard(WayEnd):
    """A shard on a worker; see `engine.Shard`. `DaskEngine` makes these.

    Attributes:
        worker: Dask's address of the worker.
        closed: `aclose` was called.
        failed: the way was lost, and not since the shard has ended.
    """

    def __init__(self, index: int, thread: AsyncioThread) -> None:
        super().__init__()
        self.exited = trio.Event()
        self.worker = ""
        self.closed = False
        self.failed = False
        self._index = index
        self._thread = thread
        self._client: Any = None
        self._future: Any = None
        self._actor: Any = None
        self._name = ""
        self._scope = trio.CancelScope(shield=True)  # whoever leaves still says so; `aclose` ends it

    async def begin(self, client: Any, serve: str) -> None:
        """Have Dask make the actor, and begin."""
        self._client = client

        async def create() -> Any:
            self._future = client.submit(
                ShardActor,
                self._index,
                serve,
                actor=True,
                key=f"trio-model-runner-shard-{self._index}-{uuid.uuid4().hex}",
                workers=[self.worker],
                allow_other_workers=False,
                retries=0,
            )
            with client.as_current():
                return await self._future

        self._actor = await self._thread.run(create)
        self._name = await self._ask("begin")

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Ask the actor until the way is lost, or the shard has ended."""
        with self._scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._push)
                    await self._pull()
                    nursery.cancel_scope.cancel()
            except* ShardLost as group:
                self.failed = True
                self._lose(str(first_of(group)))

    async def _push(self) -> None:
        while True:
            await self._changed.wait_until(lambda: bool(self._outgoing))
            first, messages = self._outgoing.first, self._outgoing.next_messages()
            answer = await self._question("take", Batch(first, messages).pack())
            self._outgoing.forget(first + len(messages))
            self._changed.send()
            while answer.full:
                answer = await self._question("take", Batch(self._outgoing.first).pack())

    async def _pull(self) -> None:
        while True:
            await self._changed.wait_until(lambda: self._incoming.has_room)
            answer = await self._question("give", self._incoming.next)
            self._incoming.add(answer)
            self._changed.send()
            if answer.ended:
                self._lose(f"shard {self._index} ended: {answer.text}" if answer.text else "")
                self.exited.set()
                await self._question("end", 0.0)  # it waits to hear that all has come
                return

    async def _question(self, method: str, argument: object) -> Batch:
        """Ask, and ask again if there was no answer."""
        until = math.inf
        while True:
            try:
                with trio.move_on_at(min(trio.current_time() + _ANSWER_SECONDS, until)):
                    return Batch.unpack(await self._ask(method, self._name, argument))
                raise ShardLost(f"shard {self._index}: its worker does not answer")
            except OSError as error:
                until = min(until, trio.current_time() + _RETRY_SECONDS)
                if trio.current_time() + _RETRY_EVERY >= until:
                    raise ShardLost(f"shard {self._index}: {_said(error)}") from error
                await trio.sleep(_RETRY_EVERY)
            except ShardLost:
                raise
            except Exception as error:  # Dask's are of many kinds
                why = _said(error) if self._client.status == "running" else _SCHEDULER_LOST
                raise ShardLost(f"shard {self._index}: {why}") from error

    async def _ask(self, method: str, *arguments: object) -> Any:
        async def ask() -> Any:
            with self._client.as_current():
                return await getattr(self._actor, method)(*arguments)

        return await self._thread.run(ask)

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = reason or f"shard {self._index} has ended"
            self._changed.send()

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """See `engine.Shard`. It takes 6 s at most. A shard that can't be cancelled is not ended by this."""
        self.closed = True
        self._lose(f"shard {self._index} was closed")
        self._scope.cancel()
        try:
            with trio.move_on_after(_END_SECONDS + _CANCEL_SECONDS):
                await self._end(_END_SECONDS)
        finally:
            with trio.move_on_after(_HURRIED_END_SECONDS, shield=True):
                await self._end(0.0)
                await self._thread.run(self._release)

    async def _end(self, seconds: float) -> None:
        if self._name and not self.exited.is_set():
            with contextlib.suppress(Exception):  # the worker is gone, or Dask is
                if Batch.unpack(await self._ask("end", self._name, seconds)).ended:
                    self.exited.set()

    async def _release(self) -> None:
        future, self._future = self._future, None
        if future is not None:
            future.release()


def _said(error: Exception) -> str:
    text = str(error) if isinstance(error, ShardLost) else named_error(error)
    return readable(text, _SHOWN_LETTERS)


def _hint(error: Exception) -> str:
    """What is most often wrong when a scheduler answers, and says little."""
    if isinstance(error, TypeError):
        return "; `security` must have tls_ca_file, tls_client_cert and tls_client_key"
    if type(error).__name__ in ("CommClosedError", "FatalCommClosedError"):
        return "; does it have TLS, and is the certificate in `security` of its authority?"
    return ""
