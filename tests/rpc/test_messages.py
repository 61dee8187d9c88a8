"""`rpc.messages`: a body cut into messages, whatever pieces it comes in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from helpers.h2_server import message
from hypothesis import example, given
from hypothesis import strategies as st

from trio_model_runner.rpc.messages import MessageCutter, message_prefix

bodies = st.lists(st.binary(max_size=40), max_size=5)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(bodies, st.lists(st.integers(min_value=0)))
@example([b"whole"], [])
@example([b"", b""], [5, 5])
def test_messages_come_out_as_they_went_in(sent: list[bytes], cuts: list[int]) -> None:
    cutter = MessageCutter(40, single=False)
    received = []
    for piece in pieces_of(b"".join(map(message, sent)), cuts):
        cutter.feed(piece)
        assert cutter.gathered < 45
        while cutter.messages:
            received.append(cutter.messages.popleft())
    assert received == sent
    assert all(type(each) is bytes for each in received)
    assert cutter.begun == len(sent)
    assert cutter.empty == (not sent)
    cutter.check_end()


@given(bodies, st.lists(st.integers(min_value=0)), st.integers(min_value=0))
def test_a_single_message_is_neither_none_nor_more_nor_less(
    sent: list[bytes], cuts: list[int], missing: int
) -> None:
    data = b"".join(map(message, sent))
    data = data[: len(data) - missing % (len(data) + 1)]
    cutter = MessageCutter(40, single=True)
    assert takes(cutter, pieces_of(data, cuts)) == (bool(sent) and data == message(sent[0]))


def takes(cutter: MessageCutter, pieces: list[bytes]) -> bool:
    """Whether the cutter finds in the pieces what it must."""
    try:
        for piece in pieces:
            cutter.feed(piece)
        cutter.check_end()
    except GRPCError:
        return False
    return True


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("single", [True, False])
def test_a_large_or_compressed_message_is_refused_from_its_prefix(together: bool, single: bool) -> None:
    refused = [(message(bytes(41)), Status.RESOURCE_EXHAUSTED), (b"\x01" + bytes(4), Status.INTERNAL)]
    for data, status in refused:
        cutter = MessageCutter(40, single=single)
        if not together:
            cutter.feed(data[:4])
            data = data[4:5]
        with pytest.raises(GRPCError) as raised:
            cutter.feed(data)
        assert raised.value.status is status
        assert not cutter.messages


def test_cutters_share_nothing() -> None:
    first, second = MessageCutter(40, single=True), MessageCutter(40, single=True)
    first.feed(b"\x00")
    assert (first.gathered, second.gathered) == (1, 0)
    first.clear()
    second.feed(b"\x00\x00")
    assert (first.gathered, second.gathered) == (0, 2)


def test_a_second_message_is_refused_though_the_first_was_taken_already() -> None:
    cutter = MessageCutter(100, single=True)
    cutter.feed(message_prefix(1) + b"a")
    assert cutter.messages.popleft() == b"a"
    with pytest.raises(GRPCError, match="more than one message"):
        cutter.feed(message_prefix(1) + b"b")


@pytest.mark.parametrize("single", [True, False])
def test_a_whole_message_is_what_was_sent_and_stays_so(single: bool) -> None:
    cutter = MessageCutter(100, single=single)
    cutter.feed(message_prefix(5) + b"he")
    cutter.feed(b"llo")
    cutter.check_end()
    (message,) = cutter.messages
    cutter.clear()
    assert message == b"hello"
