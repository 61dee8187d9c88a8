"""The reader processes of one cluster: who reads what, and what follows when a reader is slow, or ends.

Three things are to hold. A frame is read within its limits or refused, whatever it does to its reader. No
other frame waits for it: what was sent to a reader after a slow frame is sent to another one, and a reader
that is at a slow frame is made up for by a new one. And nobody is accused falsely: a frame is refused for the
end of its reader only if that is certain. The reader's timer counts the frame's own time. After any other end
the frame is read once more, by a new reader that has read nothing else; if that one ends as well, it was the
frame. If something from outside ended it, the frame is not to blame.

`values.frames` turns frames into tables and tables into what a coordinator wants.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..backoff import growing_waits
from ..errors import ReadersUnavailable
from ..groups import one_by_itself
from ..signal import Signal
from ..text import with_reason
from ..values.encoded import Encoded
from ..values.frames.presenting import present, takes_long_to_present
from ..values.frames.reading import read_plain
from ..values.frames.writing import FrameKind, import_pandas, import_pyarrow
from ..workers import clock_jumps, run_in_worker
from .confinement import cpu_seconds
from .messages import Kind as AnswerKind
from .messages import Message
from .process import End, ReaderProcess, open_reader
from .queue import FrameQueue, Job, Kind
from .streams import from_stream

__all__ = ["FrameReaders"]

_WANTED: Final = 3
"""So many readers there are, those not counted that have been at one frame for long."""

_MOST: Final = 8
"""So many readers there are at most."""

_SLOW_SECONDS: Final = 0.01
_SLOW_SECONDS_PER_BYTE: Final = 30e-9
"""A frame that takes longer than this is slow: others don't wait for it."""

_LONG_SECONDS: Final = 0.1
"""A reader that is at a slow frame for so long is made up for by another one."""

_INLINE_BYTES: Final = 2**15
"""A longer answer of a reader is opened in a thread: it may have many columns."""

_FAILED_STARTS: Final = 2
"""After so many in a row, with no reader left, what waits is not read."""

logger = logging.getLogger("trio_model_runner.frame_readers")


@attrs.define(eq=False)
class _Reader:
    """A reader that is started, or at work.

    Attributes:
        jobs: what it was sent and has not answered, in order.
        ready: it has been started.
        at: the kind of what it is at; None if that is nothing.
        slow: it is at a slow frame.
        long: it has been at it for so long that there should be another reader.
        fresh: it has answered nothing yet.
        ending: it takes no more frames.
        since: when it began with the first of its jobs, on Trio's clock, seconds.
    """

    jobs: deque[Job] = attrs.field(factory=deque)
    ready: bool = False
    at: Kind | None = None
    slow: bool = False
    long: bool = False
    fresh: bool = True
    ending: bool = False
    since: float = 0.0

    @property
    def quick(self) -> bool:
        """Whether it takes frames, or will soon."""
        return not (self.slow or self.ending)


class FrameReaders:
    """Reads strangers' frames in processes of their own. `run` runs while anything may be read.

    Args:
        max_frame_bytes: how large a frame may become, bytes.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._queue = FrameQueue()
        self._readers: dict[_Reader, None] = {}
        self._needed = False
        self._one_was_ready = False
        self._failed_starts = 0
        self._work = trio.lowlevel.ParkingLot()
        self._news = Signal()

    async def read(self, encoded: Encoded, frames: FrameKind, sender: Hashable = None) -> Any:
        """Read a frame. Under a clock that jumps, which does not see processes, it is read here.

        Args:
            encoded: PARQUET or ARROW, as it came.
            frames: what the frame becomes: a `pyarrow.Table`, or a `pandas.DataFrame`.
            sender: who sent it. If its last frame kept a reader for long, others go first.

        Raises:
            ValueError: it can't be read, or not within its limits.
            ImportError: pyarrow or pandas is not installed.
            ReadersUnavailable: it was not read, and is not to blame for that.
        """
        if clock_jumps():
            return await run_in_worker(self._read_here, encoded, frames)
        self._needed = True
        self._news.send()
        if not _is_imported(frames):
            await run_in_worker(_import, frames)
        job = Job(encoded, sender)
        self._queue.put(job)
        self._work.unpark()
        if self._failed_starts:
            self._news.send()
        try:
            await job.ended.wait()
        finally:
            job.ended.set()  # nobody waits for it any more: it is not read if it waits
        if job.error is not None:
            raise job.error
        assert job.answer is not None
        return await _frame_of(job.answer, frames)

    def _read_here(self, encoded: Encoded, frames: FrameKind) -> Any:
        return present(read_plain(encoded.data, encoded.data_type, self._max_frame_bytes), frames)

    @enable_ki_protection
    async def run(self) -> None:
        """Run the readers, from the first frame on."""
        new_waits = partial(growing_waits, 0.1, maximum=10.0, jitter=0.25)
        waits = new_waits()
        with one_by_itself():
            async with trio.open_nursery() as nursery:
                while True:
                    await self._news.wait_until(lambda: self._missing > 0)
                    if self._failed_starts:
                        await trio.sleep(next(waits))
                    else:
                        waits = new_waits()
                    for _ in range(self._missing):
                        reader = _Reader()
                        self._readers[reader] = None
                        nursery.start_soon(self._live, reader)

    @property
    def _missing(self) -> int:
        """How many readers should be started."""
        if not self._needed or (self._failed_starts and not self._queue.waiting):
            return 0
        staying = self._count_staying()
        wanted = max(_WANTED - staying, 1 - self._count_quick()) if self._one_was_ready else 1 - staying
        return min(wanted + len(self._queue.suspects), _MOST - len(self._readers))

    def _count_quick(self) -> int:
        return sum(reader.quick for reader in self._readers)

    def _count_staying(self) -> int:
        return sum(not (reader.long or reader.ending) for reader in self._readers)

    def _may_be_alone(self, reader: _Reader) -> list[Kind]:
        """The kinds of frames that a reader may be at for long: one reader is always left for small ones."""
        others = [each for each in self._readers if each is not reader]
        kinds = []
        if sum(each.at is Kind.LARGE and each.quick for each in others) < _WANTED - 1:
            kinds.append(Kind.LARGE)
        one_is_left = any(each.ready and each.quick and each.at is not Kind.LARGE for each in others)
        if one_is_left and sum(each.at is Kind.FEARED for each in others) < _WANTED - 1:
            kinds.append(Kind.FEARED)
        return kinds

    @enable_ki_protection
    async def _live(self, reader: _Reader) -> None:
        """Start a reader, and have it read until it ends, or is not needed."""
        try:
            async with open_reader(self._max_frame_bytes) as process:
                await process.wait_ready()
                self._one_was_ready, self._failed_starts = True, 0
                reader.ready = True
                self._news.send()
                self._work.unpark_all()  # another one may now be at a frame for long
                while (batch := await self._next_batch(reader)) and await self._is_read(
                    reader, process, batch
                ):
                    pass
        except ReadersUnavailable as error:
            self._note_failed_start(error)
        except (MemoryError, OSError) as error:  # a large answer has no room here
            for job in reader.jobs:
                job.end(
                    error=ReadersUnavailable(with_reason("what the reader answered has no room here", error))
                )
        finally:
            del self._readers[reader]
            self._news.send()

    async def _next_batch(self, reader: _Reader) -> list[Job]:
        """Wait for work; an empty list if this reader is one too many."""
        if reader.fresh and (suspect := self._queue.take_suspect()) is not None:
            return [suspect]
        while True:
            batch = self._queue.take_batch(self._count_quick(), alone=self._may_be_alone(reader))
            if batch:
                return batch
            if self._count_staying() > _WANTED:
                reader.ending = True
                return []
            await self._work.park()

    async def _is_read(self, reader: _Reader, process: ReaderProcess, batch: list[Job]) -> bool:
        """Have a batch read; False if the reader has ended over it."""
        reader.jobs.extend(batch)
        reader.at = batch[0].kind
        try:
            await process.send([(job.number, job.encoded) for job in batch])
            while reader.jobs:
                reader.since = trio.current_time()
                answers = await self._next_answers(reader, process)
                if not answers:
                    break
                if not reader.long:
                    self._queue.feared.discard(reader.jobs[0].sender)
                for answer in answers:
                    reader.jobs.popleft().end(answer=answer)
                reader.slow = reader.long = reader.fresh = False
        except trio.BrokenResourceError:
            pass
        reader.at = None
        self._work.unpark()  # one that could not be at a frame for long
        if reader.jobs:
            reader.ending = True
            self._bury(reader, await process.end())
        return not reader.jobs

    async def _next_answers(self, reader: _Reader, process: ReaderProcess) -> list[Message]:
        if not reader.slow:
            length = len(reader.jobs[0].encoded.data)
            with trio.move_on_after(_SLOW_SECONDS + length * _SLOW_SECONDS_PER_BYTE):
                return await process.receive()
            self._note_slow(reader)
        return await _receive_while_wanted(process, reader.jobs[0], partial(self._note_long, reader))

    def _note_slow(self, reader: _Reader) -> None:
        """Others read what this reader was sent after the slow frame."""
        reader.slow = True
        self._queue.put_back([job for job in list(reader.jobs)[1:] if not job.ended.is_set()])
        self._work.unpark_all()
        self._news.send()

    def _note_long(self, reader: _Reader) -> None:
        """There should be another reader instead, and its sender's next frame goes last."""
        reader.long = True
        self._queue.feared.add(reader.jobs[0].sender)
        self._news.send()

    def _bury(self, reader: _Reader, end: End) -> None:
        """The reader has ended while it read the first of its jobs."""
        job, *others = reader.jobs
        if not reader.slow:
            self._queue.put_back(others)
        size = len(job.encoded.data)
        form = f"{job.encoded.data_type.name} of {size} bytes that can't be read"
        seconds = cpu_seconds(size)
        if job.ended.is_set():
            pass  # nobody waited for it any more
        elif end.took_too_long and trio.current_time() - reader.since >= seconds:
            job.end(error=ValueError(f"{form}: it takes more than {seconds:.1f} s of a processor's time"))
        elif not (job.suspect and reader.fresh):
            job.suspect = job.queued = True
            self._queue.suspects.append(job)
        elif end.from_outside or end.took_too_long:
            job.end(error=ReadersUnavailable(f"the process that read the frame ended {end.text}"))
        else:
            job.end(error=ValueError(f"{form}: the process that reads it ends {end.text}"))
        self._work.unpark_all()
        self._news.send()

    def _note_failed_start(self, error: ReadersUnavailable) -> None:
        self._failed_starts += 1
        if len(self._readers) > 1 or self._failed_starts < _FAILED_STARTS:
            return
        if self._failed_starts == _FAILED_STARTS:
            logger.error("data frames can't be read: no reader process works here: %s", error)
        for job in self._queue.take_all():
            job.end(error=ReadersUnavailable(f"no reader process works here: {error}"))


async def _receive_while_wanted(
    process: ReaderProcess, job: Job, note_long: Callable[[], None]
) -> list[Message]:
    """Receive what a reader says next. It is ended if nobody waits for its frame, or it stands still.

    Args:
        process: the reader.
        job: the frame that it is at.
        note_long: called when it has been at it for long.
    """

    async def watch() -> None:
        with trio.move_on_after(_LONG_SECONDS):
            await job.ended.wait()
        if not job.ended.is_set():
            note_long()
            await job.ended.wait()
        process.give_up()

    with one_by_itself():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            answers: list[Message] = []
            with trio.move_on_after(process.longest_wait) as patience:
                answers = await process.receive()
            nursery.cancel_scope.cancel()
    if patience.cancelled_caught:
        process.give_up()
    return answers


async def _frame_of(answer: Message, frames: FrameKind) -> Any:
    """Make of a reader's answer what a coordinator wants."""
    if answer.kind == AnswerKind.REFUSAL:
        raise ValueError(bytes(answer.body).decode("utf-8", "replace"))
    if len(answer.body) > _INLINE_BYTES:
        return await run_in_worker(_open_and_present, answer.body, frames, apart=True)
    table = from_stream(answer.body)
    if takes_long_to_present(table, frames):
        return await run_in_worker(present, table, frames)
    return present(table, frames)


def _open_and_present(body: Any, frames: FrameKind) -> Any:
    return present(from_stream(body), frames)


def _is_imported(frames: FrameKind) -> bool:
    needed = ("pyarrow",) if frames == "arrow" else ("pyarrow", "pandas")
    return all(sys.modules.get(name) is not None for name in needed)


def _import(frames: FrameKind) -> None:
    """Import what frames are made with, and what that imports when it is first used."""
    pyarrow = import_pyarrow()
    if frames == "pandas":
        import_pandas()
    present(pyarrow.table({"a": [1]}), frames)
