"""Numbered messages: each arrives once and in order, however often a batch is sent or lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.sharding import sequence
from trio_model_runner.sharding.sequence import Batch, Incoming, Outgoing

MESSAGES = st.lists(st.binary(max_size=20), max_size=10)


@given(st.integers(0, 2**64 - 1), MESSAGES, st.booleans(), st.booleans(), st.text(max_size=20))
def test_a_batch_comes_back_from_its_bytes(
    first: int, messages: list[bytes], full: bool, ended: bool, text: str
) -> None:
    batch = Batch(first, messages, full, ended, text.encode("utf-8", "replace").decode())
    assert Batch.unpack(batch.pack()) == batch
    assert Batch.unpack(memoryview(batch.pack())) == batch


@given(st.binary(max_size=100), MESSAGES, st.integers(0, 200))
def test_other_bytes_are_refused(data: bytes, messages: list[bytes], cut: int) -> None:
    packed = Batch(1, messages, text="why").pack()
    for wrong in (packed[:cut] + data + packed[cut + len(data) :], packed + b"x", packed[:-1]):
        try:
            batch = Batch.unpack(wrong)
        except ValueError:
            continue
        assert len(batch.pack()) == len(wrong)


def test_a_count_beyond_all_is_refused() -> None:
    for position in (9, 17, 25):  # how many messages, how long a text, how long a message
        data = bytearray(Batch(0, [b"x"]).pack())
        data[position : position + 8] = b"\xff" * 8
        with pytest.raises(ValueError, match="no batch of messages"):
            Batch.unpack(data)


@given(MESSAGES, st.lists(st.sampled_from(["send", "lose", "lose answer", "again"]), max_size=30))
def test_each_message_arrives_once_and_in_order(messages: list[bytes], events: list[str]) -> None:
    outgoing, incoming = Outgoing(), Incoming()
    said, left = [], list(messages)
    before = Batch()
    for event in [*events, "send", "send"]:
        while left and outgoing.has_room and event != "again":
            outgoing.add(left.pop(0))
        batch = Batch(outgoing.first, outgoing.next_messages())
        if event == "again":
            incoming.add(before)
        elif event != "lose":
            incoming.add(batch)
            before = batch
            if event == "send":
                outgoing.forget(incoming.next)
        while incoming:
            said.append(incoming.read())
    assert said == messages
    assert not outgoing
    assert outgoing.end == incoming.next == len(messages)


def test_a_gap_is_noticed() -> None:
    with pytest.raises(ValueError, match="messages 0 to 1 are missing"):
        Incoming().add(Batch(2, [b"x"]))


def test_there_is_room_for_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "_MOST_WAITING_BYTES", 10)
    monkeypatch.setattr(sequence, "_MOST_BYTES", 8)
    outgoing, incoming = Outgoing(), Incoming()
    for message in (b"12345", b"678", b"9", b"0123456789"):
        assert outgoing.has_room
        outgoing.add(message)
    assert not outgoing.has_room
    assert outgoing.next_messages() == [b"12345", b"678"]
    incoming.add(Batch(0, outgoing.next_messages()))
    assert incoming.has_room
    outgoing.forget(2)
    assert outgoing.next_messages() == [b"9"]
    outgoing.forget(3)
    assert outgoing.next_messages() == [b"0123456789"]  # a single one may be longer
    incoming.add(Batch(2, [b"9", b"0123456789"]))
    assert not incoming.has_room
