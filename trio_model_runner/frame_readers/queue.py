"""The frames that wait for a reader, and which of them a reader gets next.

Small frames go together, so that a round of hundreds costs few switches between processes. A large one goes
alone, and large ones never have all readers. Nor have those whose sender's last frame kept a reader for long:
these go last. A frame whose reader died is read once more by a reader that has read nothing else, since what
it died of may have been left by another frame.

This module does no I/O.
"""

from __future__ import annotations

import enum
import itertools
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Final

import attrs
import trio

from ..values.encoded import Encoded
from .messages import Message

__all__ = ["FrameQueue", "Job", "Kind"]

_LARGE_BYTES: Final = 2**18
"""A larger frame goes alone."""

_TOGETHER_BYTES: Final = 2**17
_MOST_TOGETHER: Final = 64

_numbers = itertools.count(1)


class Kind(enum.Enum):
    """How a frame is read.

    Attributes:
        SMALL: together with others, and before all others.
        LARGE: alone.
        FEARED: alone, after all others: the last one of its sender kept a reader for long.
    """

    SMALL = enum.auto()
    LARGE = enum.auto()
    FEARED = enum.auto()


@attrs.define(eq=False)
class Job:
    """A frame that is to be read.

    Attributes:
        encoded: the frame as it came.
        sender: who sent it.
        kind: how it is read.
        number: of the job.
        ended: set when there is an answer or an error.
        answer: what the reader said.
        error: why it was not read.
        suspect: a reader ended while it read this.
        queued: it waits for a reader.
    """

    encoded: Encoded
    sender: Hashable = None
    kind: Kind = attrs.field(default=Kind.SMALL, init=False)
    number: int = attrs.field(factory=_numbers.__next__)
    ended: trio.Event = attrs.field(factory=trio.Event)
    answer: Message | None = None
    error: Exception | None = None
    suspect: bool = False
    queued: bool = True

    def end(self, *, answer: Message | None = None, error: Exception | None = None) -> None:
        """Note what came of it. Only the first word counts: it may be read twice."""
        if not self.ended.is_set():
            self.answer, self.error = answer, error
            self.ended.set()


class FrameQueue:
    """The jobs that wait.

    Attributes:
        suspects: those that need a reader of their own.
        feared: the senders whose last frame kept a reader for long.
    """

    def __init__(self) -> None:
        self.suspects: deque[Job] = deque()
        self.feared: set[Hashable] = set()
        self._waiting: dict[Kind, deque[Job]] = {kind: deque() for kind in Kind}

    def put(self, job: Job) -> None:
        """Add a job at the end."""
        if job.sender in self.feared:
            job.kind = Kind.FEARED
        elif len(job.encoded.data) > _LARGE_BYTES:
            job.kind = Kind.LARGE
        self._waiting[job.kind].append(job)

    def put_back(self, jobs: list[Job]) -> None:
        """Add jobs that were sent to a reader already, before the others of their kind."""
        for job in reversed(jobs):
            job.queued = True
            self._waiting[job.kind].appendleft(job)

    def take_suspect(self) -> Job | None:
        """Take a job for a reader that is new."""
        return self._take(self.suspects)

    def take_batch(self, readers: int, *, alone: Sequence[Kind]) -> list[Job]:
        """Take what one reader is sent next.

        Args:
            readers: how many share what waits.
            alone: it may be sent one of these kinds.
        """
        small = self._waiting[Kind.SMALL]
        share = min(_MOST_TOGETHER, -(-len(small) // max(1, readers)))
        batch: list[Job] = []
        size = 0
        while len(batch) < share and size < _TOGETHER_BYTES and (job := self._take(small)) is not None:
            batch.append(job)
            size += len(job.encoded.data)
        for kind in alone:
            if not batch and (job := self._take(self._waiting[kind])) is not None:
                batch.append(job)
        return batch

    @property
    def waiting(self) -> bool:
        """Whether there is anything."""
        return bool(self.suspects or any(self._waiting.values()))

    def take_all(self) -> list[Job]:
        """Take everything."""
        queues = [self.suspects, *self._waiting.values()]
        jobs = [job for queue in queues for job in queue]
        for queue in queues:
            queue.clear()
        return jobs

    def _take(self, jobs: deque[Job]) -> Job | None:
        while jobs:
            job = jobs.popleft()
            if job.queued and not job.ended.is_set():
                job.queued = False
                return job
        return None
