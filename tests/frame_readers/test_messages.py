"""Messages through a pipe, however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.frame_readers.messages import HEAD_BYTES, Kind, MessageParser, head, parse_head

MIB = 2**20

messages = st.tuples(st.integers(0, 2**64 - 1), st.sampled_from(Kind), st.binary(max_size=200))


def written(number: int, kind: int, body: bytes) -> bytes:
    return head(number, kind, len(body)) + body


def parsed(parser: MessageParser, parts: list[bytes]) -> list[tuple[int, int, bytes]]:
    return [(m.number, m.kind, bytes(m.body)) for part in parts for m in parser.feed(part)]


def test_a_head_is_read_as_it_was_written() -> None:
    start = head(3, Kind.TABLE, 2**40)
    assert (len(start), parse_head(start)) == (HEAD_BYTES, (3, Kind.TABLE, 2**40))


@given(st.lists(messages, max_size=5), st.lists(st.integers(1, 100), max_size=20))
def test_messages_come_out_however_they_are_cut(sent: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    data = b"".join(written(*message) for message in sent)
    parts = []
    for cut in cuts:
        parts.append(data[:cut])
        data = data[cut:]
    assert parsed(MessageParser(1000), [*parts, data]) == sent


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB])
@pytest.mark.parametrize("step", [4096, 65_536, 10 * MIB])
def test_large_messages_between_small_ones(size: int, step: int) -> None:
    large = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    sent = [(1, 2, b"before"), (2, 2, large), (3, 3, b""), (4, 2, large), (5, 2, b"after")]
    data = b"".join(written(*message) for message in sent)
    parts = [data[begin : begin + step] for begin in range(0, len(data), step)]
    assert parsed(MessageParser(4 * MIB), parts) == sent


def test_a_body_that_is_too_long_is_refused_before_it_comes() -> None:
    with pytest.raises(ValueError, match="a message of 1001 bytes, more than 1000"):
        parsed(MessageParser(1000), [head(1, Kind.TABLE, 1001)])
