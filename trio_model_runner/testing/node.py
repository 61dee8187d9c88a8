"""A model node inside this process.

It behaves as a deployed node does. It runs one request at a time, and answers others with "Server busy"
meanwhile. A method that was started goes on to its end, even if its caller cancels, stops waiting or loses
the connection. Most test servers are wrong in this last point: in them, cancelling a call cancels its work.
Here the work of a model is a task of the node's process, and only methods such as `LocalNode.kill` can end
it. The call is a task of the connection, and waits for the work.

This module knows models, faults and one address. Deployments, announcements and other nodes are in `crunch`.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ..given import check_whole_number
from ..groups import has_any
from .arguments import NotEntered
from .endpoint import open_endpoint
from .faults import Faults
from .grpc_server import DEFAULT_MAX_MESSAGE_BYTES, GRPCServer
from .node_services import Service, make_handlers
from .served_model import ServedModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from ..network import MemoryNetwork
    from .endpoint import EndpointStream
    from .grpc_server import ServerCall
    from .security import Guard
    from .served_model import CallRecord, SetupRecord

__all__ = ["LocalNode"]

T = TypeVar("T")

GOODBYE_TIMEOUT = 1.0  # seconds for GOAWAY to leave and calls to end


@attrs.define(eq=False)
class _Process:
    """One life of a node, with all that ends when the process dies."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    nursery: trio.Nursery | None = None
    busy: bool = False
    turn: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(1))

    async def run(self, work: Callable[[], Awaitable[T]], done: Callable[[], None]) -> T:
        """Run `work` in a task of the process and wait for it; call `done` when it has ended, in any way."""
        send, receive = trio.open_memory_channel["tuple[T | None, Exception | None]"](1)

        async def run_work() -> None:
            outcome: tuple[T | None, Exception | None]
            try:
                outcome = await work(), None
            except Exception as error:
                outcome = None, error
            except BaseException as error:  # noqa: ASYNC103 - Cancelled is raised again
                if has_any(error, (trio.Cancelled, KeyboardInterrupt)):  # the test's own end
                    raise
                # As on deployed nodes: the thread ends, and nobody is answered.
                return  # noqa: ASYNC104 - see above
            finally:
                done()
            send.send_nowait(outcome)

        assert self.nursery is not None
        self.nursery.start_soon(run_work)
        result, error = await receive.receive()
        if error is not None:
            raise error
        return cast("T", result)


class LocalNode(NotEntered):
    """A node that serves one model; `LocalCrunch.add` makes it, or run it yourself.

    ::

        node = LocalNode(Model())
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            ...  # connect to node.host and node.port
            nursery.cancel_scope.cancel()

    Args:
        model: a class or a function makes a new instance at every Setup; any other object is the instance. A
            class is called with Setup's arguments, as nodes do, a function too if it takes any. Methods may
            be plain or async; both are run in Trio's loop, where a plain one must be quick.
        network: the network to listen on; None is this machine's loopback.
        host: the host to listen on.
        port: the port to listen on; 0 takes a free one.
        services: the services to serve beside Health; deployed nodes have `Service.DYNAMIC_SUBCLASS` alone.
        threads: run plain methods in worker threads, where they may block. Not with a clock that jumps: it
            doesn't wait for threads.
        max_message_bytes: the largest message, either way.
        guard: how it proves who it is, over TLS, and whom it lets in; None speaks plaintext with everybody.

    Attributes:
        host: the host that it listens on.
        port: the port that it listens on.
        network: the network that it listens on; None is this machine's loopback.
        initial_metadata: pairs of strings sent ahead of every answer but Health's and those that are
            trailers only.
    """

    def __init__(
        self,
        model: Any,
        *,
        network: MemoryNetwork | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        services: Collection[Service] = (Service.DYNAMIC_SUBCLASS,),
        threads: bool = False,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard
        self._endpoint = open_endpoint(network, host, port)
        self.host = self._endpoint.host
        self.port = self._endpoint.port
        self.network = network
        self.faults = Faults()
        self.initial_metadata: list[tuple[str, str]] = []
        self._next_faults: deque[Faults] = deque()
        self._model = ServedModel(model, threads=threads)
        handlers = make_handlers(self, services)
        self._server = GRPCServer(handlers, max_message_bytes=max_message_bytes)
        self._process: _Process | None = None
        self._nursery: trio.Nursery | None = None
        self._stopped = trio.Event()
        self._ended = trio.Event()

    @property
    def faults(self) -> Faults:
        """What goes wrong from now on, until it is set back.

        Raises:
            TypeError: it is set to something else than `Faults`; a new one has none.
            ValueError: one of them is of a security that this node has not.
        """
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        if not isinstance(faults, Faults):
            raise TypeError(f"faults: must be Faults, got {faults!r}; Faults() has none")
        faults.limit(frozenset() if self._guard is None else self._guard.faults)
        self._faults = faults

    @property
    def setups(self) -> deque[SetupRecord]:
        """The Setups that reached the model's class, oldest first; the last 10 000."""
        return self._model.setups

    @property
    def calls(self) -> deque[CallRecord]:
        """The methods that were run, oldest first; the last 10 000."""
        return self._model.calls

    @property
    def call_count(self) -> int:
        """How many methods were run, in all the node's lives."""
        return self._model.call_count

    @property
    def instance(self) -> Any:
        """The instance that Setup made, or None."""
        return self._model.instance

    @property
    def busy(self) -> bool:
        """Whether a request runs now, so that others get "Server busy"."""
        return self._process is not None and self._process.busy

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._endpoint.connections

    async def wait_for_calls(self, count: int) -> None:
        """Wait until `call_count` is `count` or more; the last method may still be running."""
        await self._model.wait_for_calls(count)

    def next_faults(self, faults: Faults, *, times: int = 1) -> None:
        """Use `faults` instead of `self.faults` for the next `times` model calls (no Setups, no Health).

        With `Faults.methods`, these are the next calls of those methods; other calls go on as before.

        Raises:
            TypeError: `faults` are no `Faults`.
            ValueError: there is another fault in it than those of calls, which would be ignored; or `times`
                is less than 1.
        """
        check_whole_number(times, "times", at_least=1)
        if not isinstance(faults, Faults):
            raise TypeError(f"faults: must be Faults, got {faults!r}")
        if others := faults.not_of_calls():
            raise ValueError(f"faults: {others[0]} is no fault of calls; set node.faults.{others[0]}")
        self._next_faults.extend([faults] * times)

    def take_faults(self, method: str) -> Faults:
        """Return the faults for the call of `method` that has just come."""
        for faults in self._next_faults:
            if faults.act_on(method):
                self._next_faults.remove(faults)
                return faults
        return self.faults if self.faults.act_on(method) else Faults()

    def admit(self, call: ServerCall) -> None:
        """Look at a call that has just come, and begin its answer.

        Raises:
            grpclib.GRPCError: it is refused.
        """
        if self._guard is not None:
            self._guard.admit(call, self.faults)

    async def run(self, *, task_status: trio.TaskStatus[LocalNode] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop` or until cancelled; runs once. It listens from the moment it is made.

        Raises:
            RuntimeError: it runs already, or has ended.
        """
        if self._nursery is not None:
            raise RuntimeError("a LocalNode can be run only once; restart() brings a killed one back")
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._begin_process()
                task_status.started(self)
                await self._stopped.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._endpoint.close()
            self._ended.set()

    async def stop(self) -> None:
        """Refuse connections, say GOAWAY, wait up to one second for running calls, and end."""
        self._endpoint.refuse()
        try:
            with trio.move_on_after(GOODBYE_TIMEOUT):
                self._server.goaway()
                await self._server.wait_idle()
        finally:
            self._stopped.set()
        if self._nursery is not None:
            await self._ended.wait()

    def kill(self) -> None:
        """Die at once, as a process does: connections break, and the work and the instance are gone."""
        self._endpoint.refuse()
        self._endpoint.abort()
        self._endpoint.resume()
        process, self._process = self._process, None
        if process is not None:
            process.scope.cancel()
        self._model.forget()

    def restart(self, model: Any = None) -> None:
        """Come back after `kill`, under the same address and without an instance.

        Args:
            model: what to serve from now on; None is what it served before.

        Raises:
            RuntimeError: the node is running, or has been stopped.
        """
        if self._nursery is None or self._stopped.is_set() or self._process is not None:
            raise RuntimeError("only a killed node can be restarted")
        if model is not None:
            self._model.model = model
        self._endpoint.listen()
        self._begin_process()

    def pause(self) -> None:
        """Neither read nor write, as under SIGSTOP; connecting works, and a running method runs on."""
        self._endpoint.pause()

    def resume(self) -> None:
        """Go on after `pause`, as after SIGCONT, with what has come meanwhile."""
        self._endpoint.resume()

    def refuse_connections(self) -> None:
        """Refuse connections from now on; those that are open stay."""
        self._endpoint.refuse()

    def accept_connections(self) -> None:
        """Accept connections again, after `refuse_connections`."""
        self._endpoint.listen()

    def break_connections(self) -> None:
        """Break every open connection; the process, its work and its instance live on."""
        self._endpoint.abort()

    def goaway(
        self, *, last_stream_id: int | None = None, error_code: int = 0, debug_data: bytes = b""
    ) -> None:
        """Say GOAWAY on every open connection, and close each when its calls have ended.

        Args:
            last_stream_id: the last stream to be answered; those above get nothing. None: the last that came.
            error_code: an HTTP/2 error code.
            debug_data: what to say in addition.
        """
        self._server.goaway(last_stream_id=last_stream_id, error_code=error_code, debug_data=debug_data)

    def send_raw(self, data: bytes) -> None:
        """Send `data` on every open connection between two HTTP/2 frames."""
        self._server.send_raw(data)

    async def run_exclusively(self, work: Callable[[ServedModel], Awaitable[T]]) -> T:
        """Run `work` as the process's only one; a cancelled caller leaves it running.

        Raises:
            grpclib.GRPCError: "Server busy".
        """
        await trio.lowlevel.checkpoint()
        process = self._get_process()
        if process.busy:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, "Server busy")
        process.busy = True
        return await process.run(partial(work, self._model), partial(setattr, process, "busy", False))

    async def run_in_turn(self, work: Callable[[ServedModel], Awaitable[T]]) -> T:
        """Run `work` when those before it have ended; a caller cancelled after that leaves it running."""
        process = self._get_process()
        await process.turn.acquire()
        return await process.run(partial(work, self._model), process.turn.release)

    def _get_process(self) -> _Process:
        if self._process is None:
            raise GRPCError(Status.UNAVAILABLE, "the process has died")
        return self._process

    def _begin_process(self) -> None:
        assert self._nursery is not None
        self._process = _Process()
        self._nursery.start_soon(self._run_process, self._process)

    async def _run_process(self, process: _Process) -> None:
        with process.scope:
            async with trio.open_nursery() as process.nursery:
                await self._endpoint.serve(self._serve_connection)

    async def _serve_connection(self, stream: EndpointStream) -> None:
        if not self.faults.silent and self.faults.garbage is None:
            await self._server.serve(stream if self._guard is None else await self._secure(stream))
            return
        if self.faults.garbage is not None:
            await stream.send_all(self.faults.garbage)
        while await stream.receive_some(65536):
            pass

    async def _secure(self, stream: EndpointStream) -> trio.abc.Stream:
        """Go through the TLS handshake of a new connection.

        Raises:
            trio.BrokenResourceError: the client goes away, or does not trust us, or we don't trust it.
        """
        assert self._guard is not None
        secured = trio.SSLStream(
            stream, self._guard.context(self.faults), server_side=True, https_compatible=True
        )
        await secured.do_handshake()
        return secured
