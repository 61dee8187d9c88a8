"""The frames that wait for a reader, and which of them a reader gets next.

Small frames go together, so that a round of hundreds costs few switches between processes. A large one goes
alone, and large ones never have all readers. A frame whose reader died is read once more by a reader that
has read nothing else, since what it died of may have been left by another frame.

This module does no I/O.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Final

import attrs
import trio

from ..values.encoded import Encoded
from .messages import Message

__all__ = ["FrameQueue", "Job"]

_LARGE_BYTES: Final = 2**18
"""A larger frame goes alone."""

_TOGETHER_BYTES: Final = 2**17
_MOST_TOGETHER: Final = 64

_numbers = itertools.count(1)


@attrs.define(eq=False)
class Job:
    """A frame that is to be read.

    Attributes:
        encoded: the frame as it came.
        number: of the job.
        ended: set when there is an answer or an error.
        answer: what the reader said.
        error: why it was not read.
        suspect: a reader ended while it read this.
        queued: it waits for a reader.
    """

    encoded: Encoded
    number: int = attrs.field(factory=_numbers.__next__)
    ended: trio.Event = attrs.field(factory=trio.Event)
    answer: Message | None = None
    error: Exception | None = None
    suspect: bool = False
    queued: bool = True

    @property
    def large(self) -> bool:
        """Whether it goes alone."""
        return len(self.encoded.data) > _LARGE_BYTES

    def end(self, *, answer: Message | None = None, error: Exception | None = None) -> None:
        """Note what came of it. Only the first word counts: it may be read twice."""
        if not self.ended.is_set():
            self.answer, self.error = answer, error
            self.ended.set()


class FrameQueue:
    """The jobs that wait.

    Attributes:
        suspects: those that need a reader of their own.
    """

    def __init__(self) -> None:
        self.suspects: deque[Job] = deque()
        self._small: deque[Job] = deque()
        self._large: deque[Job] = deque()

    def put(self, job: Job) -> None:
        """Add a job at the end."""
        (self._large if job.large else self._small).append(job)

    def put_back(self, jobs: list[Job]) -> None:
        """Add jobs that were sent to a reader already, before all others."""
        for job in reversed(jobs):
            job.queued = True
            (self._large if job.large else self._small).appendleft(job)

    def take_suspect(self) -> Job | None:
        """Take a job for a reader that is new."""
        return self._take(self.suspects)

    def take_batch(self, readers: int, *, large: bool) -> list[Job]:
        """Take what one reader is sent next.

        Args:
            readers: how many share what waits.
            large: it may be sent a large one.
        """
        share = min(_MOST_TOGETHER, -(-len(self._small) // max(1, readers)))
        batch: list[Job] = []
        size = 0
        while len(batch) < share and size < _TOGETHER_BYTES and (job := self._take(self._small)) is not None:
            batch.append(job)
            size += len(job.encoded.data)
        if not batch and large and (job := self._take(self._large)) is not None:
            batch.append(job)
        return batch

    @property
    def waiting(self) -> bool:
        """Whether there is anything."""
        return bool(self.suspects or self._small or self._large)

    def take_all(self) -> list[Job]:
        """Take everything."""
        jobs = [*self.suspects, *self._small, *self._large]
        for each in (self.suspects, self._small, self._large):
            each.clear()
        return jobs

    def _take(self, jobs: deque[Job]) -> Job | None:
        while jobs:
            job = jobs.popleft()
            if job.queued and not job.ended.is_set():
                job.queued = False
                return job
        return None
