"""A socket on this machine that shows what its cluster does: for ``trio-model-runner watch`` and ``status``.

It is the coordinator's own view, for an operator who has nothing but a shell; and it costs the orchestrator
nothing, where each client that comes and goes makes others miss updates.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from ..cluster.instrument import Instrument, ObservedCluster, Report
from ..errors import ConfigError
from ..text import shown
from .checks import OneCluster, check_path
from .readers import Readers
from .record import as_line, round_row
from .unix_listener import LONGEST_PATH, listening

if TYPE_CHECKING:
    from ..cluster.changes import Change
    from ..values.prediction_round import PredictionRound

__all__ = ["StatusSocket"]

_VERSION: Final = 1
_SECONDS_BETWEEN_SNAPSHOTS: Final = 10.0
_SECONDS_FOR_THE_LAST_LINE: Final = 0.2


class StatusSocket(Instrument):
    r"""A UNIX socket (mode 0600) that sends each reader what happens, as JSON lines.

    Lines are strict JSON in UTF-8, and may be long. Each is an object with ``type`` and ``at`` (when it was
    made, POSIX seconds). Readers must bear types and keys that they don't know. What they send is thrown
    away.

    - ``snapshot``: first, and every 10 s. ``v`` is 1, ``pid`` this process, ``last_round_at`` when the last
      round ended (POSIX seconds, or null; if the clock was set since, by the new one), and ``snapshot`` what
      ``cluster.snapshot(models=True).to_dict()`` gives. It replaces what was known before.
    - ``round``: a round has ended; ``round`` is a line of `RoundRecorder`'s, without values.
    - ``change``: something has happened to a model; ``change`` is ``Change.to_dict()``.
    - ``orchestrator``: it is ``connected`` (true or false); ``error`` says why not, or is null.
    - ``report``: ``report`` is ``Report.to_dict()``, ``stage`` one of ``pending``, ``held``, ``withdrawn``
      and ``sent``, ``why`` why it was withdrawn, or null.
    - ``end``: the last line; the cluster's block is left. Without it, the process has died, or the reader was
      dropped: it was more than 16 MiB behind. One of more than 32 readers is sent away at once.

    A reader that has closed its way to here, as ``nc -N`` and ``socat -u`` do, is served like any.

    The socket of a process that was killed is replaced. The directory must be there, and be writable. While
    this listens, a lock file is beside the socket, ``status.sock.lock``: of several that start at once, one
    listens, and the others get an error.

    Args:
        path: where it is; at most 107 bytes. A relative one is taken from the directory that is current when
            the cluster's block is entered; the socket stays there, whatever is current later.

    Raises:
        ConfigError: the path is too long, or none; on entering the cluster's block, if another process
            listens there, something else is there, the directory is not, or its file system has no locks
            (``flock``).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = check_path(path)
        size = len(os.fsencode(self._path))
        if size > LONGEST_PATH:
            raise ConfigError(
                f"path: a UNIX socket's has at most {LONGEST_PATH} bytes, this one {size}: {shown(str(path))}"
            )
        self._cluster: ObservedCluster | None = None
        self._one = OneCluster(self)
        self._readers = Readers(self._snapshot)
        self._last_round_ended: float | None = None  # by a clock that nobody sets

    def __repr__(self) -> str:
        return f"StatusSocket({shown(str(self._path))})"

    def running(self, cluster: ObservedCluster) -> AbstractAsyncContextManager[object]:
        """See `Instrument.running`."""
        return self._running(cluster)

    @asynccontextmanager
    async def _running(self, cluster: ObservedCluster) -> AsyncIterator[None]:
        with self._one.cluster(), listening(self._path) as listener:
            self._cluster, self._last_round_ended = cluster, None
            async with trio.open_nursery() as nursery:
                await nursery.start(trio.serve_listeners, self._readers.take, [listener])
                nursery.start_soon(self._send_snapshots)
                yield
                with trio.move_on_after(_SECONDS_FOR_THE_LAST_LINE):
                    await self._readers.end(as_line({"type": "end", "at": time.time()}))
                nursery.cancel_scope.cancel()

    async def _send_snapshots(self) -> None:
        while True:
            await trio.sleep(_SECONDS_BETWEEN_SNAPSHOTS)
            if self._readers:
                self._readers.tell(self._snapshot())

    def _snapshot(self) -> bytes:
        assert self._cluster is not None
        now, ended = time.time(), self._last_round_ended
        return as_line(
            {
                "type": "snapshot",
                "v": _VERSION,
                "at": now,
                "pid": os.getpid(),
                "last_round_at": None if ended is None else now - (time.monotonic() - ended),
                "snapshot": self._cluster.snapshot(models=True).to_dict(),
            }
        )

    def round_ended(self, token: Any, round: PredictionRound[Any] | None) -> None:  # noqa: A002
        """See `Instrument.round_ended`."""
        if round is not None:
            self._last_round_ended = time.monotonic()
            if self._readers and self._cluster is not None:
                self._tell("round", round=round_row(self._cluster.crunch_id, round))

    def model_changed(self, change: Change) -> None:
        """See `Instrument.model_changed`."""
        if self._readers:
            self._tell("change", change=change.to_dict())

    def orchestrator_changed(self, connected: bool, error: str | None) -> None:
        """See `Instrument.orchestrator_changed`."""
        self._tell("orchestrator", connected=connected, error=error)

    def report_pending(self, report: Report) -> None:
        """See `Instrument.report_pending`."""
        self._tell_report("pending", report)

    def report_held(self, report: Report) -> None:
        """See `Instrument.report_held`."""
        self._tell_report("held", report)

    def report_withdrawn(self, report: Report, why: str) -> None:
        """See `Instrument.report_withdrawn`."""
        self._tell_report("withdrawn", report, why)

    def report_sent(self, report: Report) -> None:
        """See `Instrument.report_sent`."""
        self._tell_report("sent", report)

    def _tell_report(self, stage: str, report: Report, why: str | None = None) -> None:
        self._tell("report", stage=stage, why=why, report=report.to_dict())

    def _tell(self, kind: str, **more: Any) -> None:
        if self._readers:
            self._readers.tell(as_line({"type": kind, "at": time.time(), **more}))
