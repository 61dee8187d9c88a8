"""Which frames wait, and which a reader gets next."""

from __future__ import annotations

from trio_model_runner.frame_readers.queue import FrameQueue, Job, Kind
from trio_model_runner.values.encoded import DataType, Encoded

MIB = 2**20
BOTH = (Kind.LARGE, Kind.FEARED)


def job(size: int = 1000, sender: str = "model") -> Job:
    return Job(Encoded(DataType.ARROW, bytes(size)), sender)


def queue_of(*jobs: Job) -> FrameQueue:
    queue = FrameQueue()
    for each in jobs:
        queue.put(each)
    return queue


def test_small_frames_are_shared_among_the_readers_in_their_order() -> None:
    jobs = [job() for _ in range(10)]
    queue = queue_of(*jobs)
    assert queue.take_batch(3, alone=BOTH) == jobs[:4]
    assert queue.take_batch(3, alone=BOTH) == jobs[4:6]
    assert queue.take_batch(1, alone=BOTH) == jobs[6:]
    assert not queue.waiting
    assert queue.take_batch(1, alone=BOTH) == []


def test_a_batch_has_an_end() -> None:
    queue = queue_of(*(job() for _ in range(1000)))
    assert len(queue.take_batch(1, alone=BOTH)) == 64
    queue = queue_of(*(job(60_000) for _ in range(10)))
    assert len(queue.take_batch(1, alone=BOTH)) == 3


def test_a_large_frame_goes_alone_after_the_small_ones_and_where_it_may() -> None:
    large, other, small = job(MIB), job(MIB), job()
    queue = queue_of(large, other, small)
    assert queue.take_batch(1, alone=BOTH) == [small]
    assert queue.take_batch(1, alone=()) == []
    assert queue.take_batch(1, alone=BOTH) == [large]
    assert queue.waiting


def test_what_is_put_back_comes_first_unless_it_has_an_answer_now() -> None:
    jobs = [job() for _ in range(4)]
    queue = queue_of(*jobs)
    sent = queue.take_batch(2, alone=())
    queue.put_back(sent)
    sent[0].end(error=ValueError("answered by the slow reader after all"))
    assert queue.take_batch(1, alone=()) == jobs[1:]


def test_what_nobody_waits_for_is_not_read() -> None:
    given_up, wanted = job(), job()
    queue = queue_of(given_up, wanted)
    given_up.ended.set()
    assert queue.take_batch(1, alone=()) == [wanted]


def test_suspects_are_taken_by_new_readers_alone() -> None:
    suspect, other = job(), job()
    queue = queue_of(other)
    queue.suspects.append(suspect)
    assert queue.take_batch(1, alone=BOTH) == [other]
    assert queue.take_suspect() is suspect
    assert queue.take_suspect() is None


def test_the_first_word_about_a_frame_counts() -> None:
    error = ValueError("first")
    each = job()
    each.end(error=error)
    each.end(error=ValueError("second"))
    assert each.error is error


def test_whose_last_frame_kept_a_reader_for_long_goes_alone_and_last() -> None:
    queue = FrameQueue()
    queue.feared.add("stranger")
    feared, large, small = job(sender="stranger"), job(MIB), job()
    for each in (feared, job(sender="stranger"), large, small):
        queue.put(each)
    assert queue.take_batch(1, alone=BOTH) == [small]
    assert queue.take_batch(1, alone=BOTH) == [large]
    assert queue.take_batch(1, alone=[Kind.LARGE]) == []
    assert queue.take_batch(1, alone=BOTH) == [feared]
    assert queue.waiting
    queue.feared.discard("stranger")
    queue.put(again := job(sender="stranger"))
    assert queue.take_batch(1, alone=()) == [again]
