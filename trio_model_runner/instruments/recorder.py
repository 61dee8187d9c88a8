"""Writes a line for each round into a file, for pandas, DuckDB or ``trio-model-runner timeline``.

A round may not wait for a disk. So its line is made when it ends, and a worker thread writes it. While the
disk takes nothing, lines wait; how much may wait is bounded, and beyond that rounds are dropped, and counted.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from ..cluster.instrument import Instrument, ObservedCluster
from ..errors import ConfigError
from ..signal import Signal
from ..text import shown
from ..workers import clock_jumps
from .checks import OneCluster, check_count, check_path
from .record import as_line, round_row
from .record_file import RecordFile

if TYPE_CHECKING:
    from ..values.prediction_round import PredictionRound

__all__ = ["RoundRecorder"]

T = TypeVar("T")

_MOST_WAITING: Final = 16 << 20  # bytes of lines
_SECONDS_BEFORE_NEXT_TRY: Final = 1.0
_SECONDS_BEFORE_NEXT_ROTATION: Final = 60.0  # compressing 256 MiB takes a processor for seconds

logger = logging.getLogger("trio_model_runner.instruments")


class RoundRecorder(Instrument):
    """Records rounds: a JSON line for each, with its models in columns.

    The door of `trio_model_runner.instruments` says what is in a line, and how to read the file.

    The file may end in half a line, while one is written or after a crash of the machine; that is cut off
    when the next recorder opens it. Rounds that were cancelled are not recorded, nor are calls of single
    models. When the file can't be written, that is logged once, and rounds wait; when it can't be rotated,
    that is logged once, too, it grows, and its rotation is tried again once a minute.

    Args:
        path: the file. Its directory must be there. ``path.1.gz`` to ``path.<keep>.gz`` are older parts, the
            oldest last. What it leads to is settled when the cluster's block is entered: a relative path from
            the directory that is current then, a symbolic link to what it shows then. Older parts are beside
            the file itself, not beside a link to it.
        values: with the models' answers. Of each, at most 64 numbers, texts and keys are recorded, of 256
            characters; of a round, at most 8,000 and 131,072 characters, in the order of its models. Others,
            and what JSON lacks, are null, and counted as ``values_left_out``.
        max_bytes: a larger file is rotated, bytes.
        keep: how many rotated files are kept.

    Attributes:
        dropped: how many rounds could not be recorded, since too many waited to be written, or no line could
            be made of them.

    Raises:
        ConfigError: an argument is out of range; on entering the cluster's block, if the file can't be
            opened, or another recorder writes it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        values: bool = False,
        max_bytes: int = 256 << 20,
        keep: int = 8,
    ) -> None:
        self.dropped = 0
        self._path = check_path(path)
        self._max_bytes, self._keep = check_count("max_bytes", max_bytes, 1), check_count("keep", keep, 0)
        self._file = RecordFile(self._path, self._max_bytes, self._keep)
        self._values = values
        self._crunch_id = ""
        self._one = OneCluster(self)
        self._lines: list[bytes] = []
        self._waiting_bytes = 0
        self._closing = False
        self._news = Signal()
        self._failing = False
        self._not_rotated_at: float | None = None  # when it failed the last time; None if it works

    def __repr__(self) -> str:
        return f"RoundRecorder({shown(str(self._path))})"

    def running(self, cluster: ObservedCluster) -> AbstractAsyncContextManager[object]:
        """See `Instrument.running`."""
        return self._running(cluster)

    @asynccontextmanager
    async def _running(self, cluster: ObservedCluster) -> AsyncIterator[None]:
        with self._one.cluster():
            self._crunch_id = cluster.crunch_id
            self._closing, self._lines, self._waiting_bytes = False, [], 0
            self._failing, self._not_rotated_at = False, None
            try:
                await self._open()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    yield
                    self._closing = True
                    self._news.send()
            finally:
                self.dropped += len(self._lines)
                self._file.close()
                if self.dropped:
                    logger.warning("%s: %d rounds were not recorded", self, self.dropped)

    def round_ended(self, token: Any, round: PredictionRound[Any] | None) -> None:  # noqa: A002
        """See `Instrument.round_ended`."""
        if round is None:
            return
        if self._waiting_bytes >= _MOST_WAITING:
            self.dropped += 1
            return
        try:
            line = as_line(round_row(self._crunch_id, round, values=self._values))
        except Exception:  # which the cluster logs
            self.dropped += 1
            raise
        self._lines.append(line)
        self._waiting_bytes += len(line)
        self._news.send()

    async def _open(self) -> None:
        try:
            path = self._path.absolute()
            self._file = RecordFile(path, self._max_bytes, self._keep)  # a thread may still have the last
            await _in_thread(self._file.open)
        except BlockingIOError:
            raise ConfigError(f"{self}: another recorder writes this file") from None
        except OSError as error:
            raise ConfigError(f"{self}: can't be opened: {error.strerror}") from error

    async def _write(self) -> None:
        await self._tidy()
        while True:
            await self._news.wait_until(lambda: bool(self._lines) or self._closing)
            if not self._lines:
                return
            lines = self._lines.copy()
            try:
                await _in_thread(functools.partial(self._file.write, lines))
            except OSError as error:
                self._note_failure(error)
                if self._closing:
                    return
                with trio.move_on_after(_SECONDS_BEFORE_NEXT_TRY):
                    await self._news.wait_until(lambda: self._closing)
            else:
                self._note_success(lines)
                await self._tidy()

    async def _tidy(self) -> None:
        failed_at, now = self._not_rotated_at, trio.current_time()
        if failed_at is not None and now < failed_at + _SECONDS_BEFORE_NEXT_ROTATION:
            return
        try:
            await _in_thread(self._file.tidy)
        except OSError as error:
            self._not_rotated_at = trio.current_time()
            if failed_at is None:
                logger.error("%s: can't be rotated, and grows: %s", self, error)
        else:
            self._not_rotated_at = None
            if failed_at is not None:
                logger.warning("%s: it can be rotated again", self)

    def _note_success(self, lines: list[bytes]) -> None:
        del self._lines[: len(lines)]
        self._waiting_bytes -= sum(map(len, lines))
        if self._failing:
            self._failing = False
            logger.warning("%s: rounds are recorded again; %d are missing", self, self.dropped)

    def _note_failure(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            logger.error("%s: rounds can't be written, and wait: %s", self, error.strerror or error)


async def _in_thread(function: Callable[[], T]) -> T:
    """Call what waits for a disk. Cancelled, this ends at once, and the thread goes on."""
    if clock_jumps():  # such a clock would not wait for a thread
        await trio.lowlevel.checkpoint()
        return function()
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
