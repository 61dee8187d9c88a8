"""The frames of a peer that are about its connection and no single stream: SETTINGS, PING, GOAWAY and others.

What they ask for is done to the `streams.Sender`, and what is worth knowing is told as events. None of them
brings a call forward, so all are paid from the peer's `budget`. Header blocks and bodies are not known here.
"""

from __future__ import annotations

from typing import Final

from . import frames
from .budget import FRAME, SETTING, WorkBudget
from .events import Event, GoAwayReceived, SettingsReceived, StreamReset
from .frames import ErrorCode, Flag, FrameType, ProtocolViolation, require
from .streams import Sender

__all__ = ["ControlFrames"]

_MAX_UNREAD_ANSWERS: Final = 1000
_BYTES_PER_UNIT: Final = 64  # of a payload that nobody reads


class ControlFrames:
    """Acts on the frames of one connection that are about no single stream.

    Args:
        sender: keeps to what they say.
        budget: they are paid from it.
    """

    def __init__(self, sender: Sender, budget: WorkBudget) -> None:
        self._sender = sender
        self._budget = budget
        self._pings_unanswered = 0
        self._acknowledged = False  # our SETTINGS

    def ping(self, payload: bytes) -> None:
        """Send a PING with these 8 bytes."""
        self._pings_unanswered += 1
        self._sender.control(frames.ping_frame(payload, ack=False))

    def receive(self, kind: int, flags: int, stream_id: int, payload: bytes) -> list[Event]:
        """Act on a frame, and give the events that come of it.

        Raises:
            ProtocolViolation: the peer broke the protocol, or sends too much for nothing.
        """
        match kind:
            case FrameType.SETTINGS:
                return self._receive_settings(flags, stream_id, payload)
            case FrameType.PING:
                self._receive_ping(flags, stream_id, payload)
            case FrameType.GOAWAY:
                return self._receive_goaway(stream_id, payload)
            case FrameType.PRIORITY:
                fits = len(payload) == 5 and stream_id > 0
                require(fits, ErrorCode.FRAME_SIZE_ERROR, "a malformed PRIORITY")
                self._budget.spend(FRAME)
            case FrameType.PUSH_PROMISE:
                raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, though push is off")
            case _:  # frames of unknown types are ignored: RFC 9113, section 4.1
                self._budget.spend(FRAME + len(payload) / _BYTES_PER_UNIT)
        return []

    def _receive_settings(self, flags: int, stream_id: int, payload: bytes) -> list[Event]:
        require(not stream_id, ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        fits = not payload if flags & Flag.ACK else len(payload) % 6 == 0
        require(fits, ErrorCode.FRAME_SIZE_ERROR, "a malformed SETTINGS")
        if flags & Flag.ACK:
            if self._acknowledged:
                self._budget.spend(FRAME)
            self._acknowledged = True
            return []
        self._budget.spend(FRAME + len(payload) // 6 * SETTING + len(self._sender.streams))
        self._sender.apply_settings(frames.parse_settings(payload))
        self._answer(frames.settings_ack_frame())
        return [SettingsReceived()]

    def _receive_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        require(not stream_id, ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        require(len(payload) == 8, ErrorCode.FRAME_SIZE_ERROR, "a malformed PING")
        if not flags & Flag.ACK:
            self._budget.spend_on_reaction(self._sender.data_sent, FRAME)
            self._answer(frames.ping_frame(payload, ack=True))
        elif self._pings_unanswered:
            self._pings_unanswered -= 1
        else:
            self._budget.spend(FRAME)

    def _answer(self, frame: bytes) -> None:
        self._sender.answer(frame)
        if self._sender.unread_answers > _MAX_UNREAD_ANSWERS:
            raise ProtocolViolation(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that want an answer")

    def _receive_goaway(self, stream_id: int, payload: bytes) -> list[Event]:
        require(not stream_id, ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        require(len(payload) >= 8, ErrorCode.FRAME_SIZE_ERROR, "a malformed GOAWAY")
        last_stream_id = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF
        code = int.from_bytes(payload[4:8], "big")
        sender = self._sender
        streams = sender.all_streams
        self._budget.spend(FRAME + len(payload) / _BYTES_PER_UNIT + len(streams))
        sender.refuse_streams()
        events: list[Event] = [GoAwayReceived(last_stream_id, code, payload[8:])]
        reason = f"the server dropped the call by a GOAWAY: {frames.error_name(code)}"
        for stream in streams:
            if not 0 < stream.id <= last_stream_id:
                sender.forget(stream)
                if not stream.answered:
                    unprocessed = not stream.answering
                    events.append(StreamReset(stream, code, unprocessed=unprocessed, reason=reason))
        return events
