"""A WebSocket's frames are bounded beside its messages; see `orchestrator.framing`."""

from __future__ import annotations

import json

import attrs
import pytest
import trio
import wsproto
from helpers.websocket_server import EXACT, answer_to, configured, entry, feeding, read_handshake
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.network import MemoryNetwork
from trio_model_runner.orchestrator import Init
from trio_model_runner.orchestrator.framing import FrameCounter, TooManyFramesError, end_of_handshake

PING, PONG = b"\x89\x00", b"\x8a\x00"
BEGIN, MORE, END = b"\x01\x00", b"\x00\x00", b"\x80\x00"  # of a text message, without text
INIT = json.dumps({"event": "init", "data": [entry("a")]}).encode()


def frame(payload: bytes, first: int = 0x81) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65536:
        return bytes((first, 126)) + length.to_bytes(2) + payload
    return bytes((first, 127)) + length.to_bytes(8) + payload


def fragmented(payload: bytes, size: int) -> bytes:
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)]
    first, *others = pieces
    return frame(first, 0x01) + b"".join(frame(each, 0x00) for each in others) + END


sizes = st.sampled_from([0, 1, 2, 125, 126, 127, 128, 65535, 65536, 70000])


@given(st.lists(sizes, min_size=1, max_size=6), st.data())
@example([0, 126, 65536], None)
def test_frames_are_told_apart_wherever_they_are_cut(lengths: list[int], data: st.DataObject | None) -> None:
    frames = [frame(bytes(length), 0x82) for length in lengths]
    stream = b"".join(frames)
    ends = [sum(map(len, frames[: count + 1])) for count in range(len(frames))]
    cuts = range(len(stream))
    if data is not None:
        cuts = sorted(data.draw(st.sets(st.sampled_from(cuts), max_size=20)))  # type: ignore[assignment]
    counter = FrameCounter(0)
    position = 0
    for cut in [*cuts, len(stream)]:
        complete = counter.feed(stream[position:cut], 0)
        assert complete == any(position < end <= cut for end in ends)
        position = cut


def test_a_masked_frame_is_read_over() -> None:
    """A server must not send one; the library refuses it."""
    counter = FrameCounter(0)
    assert not counter.feed(b"\x81\x82mask", 0)
    assert counter.feed(b"{}", 0)


def test_a_message_may_have_a_thousand_fragments_and_one_for_each_kib() -> None:
    counter = FrameCounter(0)
    for _ in range(3):  # messages
        counter.feed(BEGIN + MORE * 999 + PING + END + frame(b"{}"), 0)
    counter.feed(fragmented(bytes(16 << 20), 1024), 0)
    counter.feed(BEGIN + MORE * 998, 0)
    counter.feed(frame(bytes(2048), 0x00) + MORE * 2, 0)
    with pytest.raises(TooManyFramesError, match="a message in 1003 fragments, in which were 2048 bytes"):
        counter.feed(MORE, 0)


@pytest.mark.parametrize("control", [PING, PONG, b"\x8b\x7dabc" + bytes(122)])
def test_control_frames_may_come_at_once_and_then_at_a_rate(control: bytes) -> None:
    counter = FrameCounter(5)
    counter.feed(control * 1000, 5)
    counter.feed(control * 50, 5.5)
    counter.feed(BEGIN + control * 50, 6)
    with pytest.raises(TooManyFramesError, match="over 1000 control frames, and over 100 a second"):
        counter.feed(control, 6)
    counter = FrameCounter(0)
    counter.feed(control * 1000, 3600)
    with pytest.raises(TooManyFramesError):
        counter.feed(control, 3600)


@pytest.mark.parametrize("blank", [b"\r\n\r\n", b"\n\n", b"\n\r\n"])
def test_frames_begin_behind_the_answer_to_the_handshake(blank: bytes) -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nA: b" + blank
    for end in range(len(answer)):
        assert end_of_handshake(answer[:end]) is None
    for start in range(len(answer)):
        assert end_of_handshake(answer + PING, start) == len(answer)
    assert end_of_handshake(b"HTTP/1.1 503 Unavailable\r\n\r\n" + PING) is None


FLOODS = {
    "empty fragments": (BEGIN + MORE * 1000, "a message in 1001 fragments"),
    "pings": (PING * 1001, "over 1000 control frames"),
    "pongs": (PONG * 1001, "over 1000 control frames"),
    "pings between fragments": ((BEGIN + PING * 400 + END) * 3, "over 1000 control frames"),
}


@pytest.mark.parametrize("apart", [False, True], ids=["with the answer", "apart"])
@pytest.mark.parametrize(("flood", "said"), FLOODS.values(), ids=FLOODS)
async def test_too_many_frames_end_the_connection_and_it_is_made_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, flood: bytes, said: str, apart: bool
) -> None:
    network = MemoryNetwork()
    listener = network.listen(port=9091)
    async with feeding(configured(network)) as (feed, events):
        stream = await listener.accept()
        async with stream:
            answer = answer_to(await read_handshake(stream))
            if apart:
                await stream.send_all(answer)
                await wait_all_tasks_blocked()
                await stream.send_all(flood)
            else:
                await stream.send_all(answer + flood)
            while await stream.receive_some():  # until the client hangs up
                pass
        began = trio.current_time()
        async with await listener.accept() as stream:
            assert trio.current_time() == began + EXACT.reconnect_initial
            assert feed.last_error is not None
            assert feed.last_error.startswith(f"the server sends too many frames: {said}")
            assert said in caplog.text
            await stream.send_all(answer_to(await read_handshake(stream)) + frame(INIT))
            assert isinstance(await events.receive(), Init)


async def test_honest_frames_are_read(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    listener = network.listen(port=9091)
    padded = INIT + b" " * (8 << 20)
    config = configured(network, attrs.evolve(EXACT, max_message_bytes=16 << 20))
    async with feeding(config) as (_, events), await listener.accept() as stream:
        await stream.send_all(answer_to(await read_handshake(stream)) + PING)
        for message in (frame(padded), fragmented(padded, 4096), fragmented(INIT, 1), frame(INIT)):
            # What is complete does not wait for the rest of what came with it.
            await stream.send_all(message + frame(INIT)[:1])
            assert isinstance(await events.receive(), Init)
            await stream.send_all(frame(INIT)[1:])
            assert isinstance(await events.receive(), Init)


async def test_a_frame_that_comes_byte_by_byte_becomes_few_pieces(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = []
    receive = wsproto.WSConnection.receive_data

    def receive_piece(self: wsproto.WSConnection, data: bytes | None) -> None:
        pieces.append(data)
        receive(self, data)

    network = MemoryNetwork()
    listener = network.listen(port=9091)
    async with feeding(configured(network)) as (_, events), await listener.accept() as stream:
        await stream.send_all(answer_to(await read_handshake(stream)))
        await wait_all_tasks_blocked()
        monkeypatch.setattr(wsproto.WSConnection, "receive_data", receive_piece)
        message = frame(INIT + b" " * 40_000)
        for start in range(0, len(message), 100):
            await stream.send_all(message[start : start + 100])
            await wait_all_tasks_blocked()
        assert isinstance(await events.receive(), Init)
        assert len(pieces) == 3
