"""A grpclib channel on a given route: what stubs call, where somebody else has the connection.

A stub asks nothing of its channel but `request`, and a listener for events nothing but `__dispatch__`. So
this class is a `grpclib.client.Channel` by type alone: none of the base's code runs, which wants an asyncio
loop from its `__init__` on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

import grpclib.client
import trio
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from grpclib.events import _DispatchChannelEvents
from multidict import MultiDict

from ..given import as_float
from ..text import quoted
from .codec import BetterprotoCodec
from .peer import Peer
from .route import Route
from .settings import CallSettings
from .stream import Stream

__all__ = ["RoutedChannel"]

_PATH: Final = re.compile(r"/[!-~]+")
_LONGEST_PATH: Final = 4096

SendT = TypeVar("SendT")
ReceiveT = TypeVar("ReceiveT")


class RoutedChannel(grpclib.client.Channel):
    """A gRPC server that a route leads to, as stubs see it; used by any task of the same Trio run.

    It has no connection and no tasks. Nothing needs to be entered or closed: `close`, and leaving an
    `async with` block, do nothing.

    Args:
        route: how calls get to the server.
        peer: who is there.
        codec: what turns messages into bytes and back; betterproto's by default.
        status_details_codec: what decodes the details that a status can come with; without one they are
            ignored.
        max_message_bytes: the largest message taken as an answer, bytes.
    """

    def __init__(
        self,
        route: Route,
        *,
        peer: Peer,
        codec: CodecBase | None = None,
        status_details_codec: StatusDetailsCodecBase | None = None,
        max_message_bytes: int = 64 << 20,
    ) -> None:
        self.__dispatch__ = _DispatchChannelEvents()
        self.peer = peer
        self.codec = BetterprotoCodec() if codec is None else codec
        self.status_details_codec = status_details_codec
        self.max_message_bytes = max_message_bytes
        self._route = route

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.peer.address!r}>"

    def request(  # type: ignore[override]  # a stream like grpclib's, not one of its
        self,
        name: str,
        cardinality: Cardinality,
        request_type: type[SendT],
        reply_type: type[ReceiveT],
        *,
        timeout: float | None = None,
        deadline: None = None,
        metadata: Mapping[str, Any] | Collection[tuple[str, Any]] | None = None,
    ) -> Stream[SendT, ReceiveT]:
        """Make a call, which begins when its first method is called.

        Args:
            name: the method's path, "/package.Service/Method".
            cardinality: how many messages go each way.
            request_type: the messages' type.
            reply_type: the answers' type.
            timeout: seconds from now until the call must be over. The server is told what remains of them,
                or until the deadline of an enclosing cancel scope where that is nearer.
            deadline: only None. grpclib's `Deadline` is a time on a clock that is not Trio's.
            metadata: the request's metadata: text, and bytes where the key ends in "-bin".

        Raises:
            TypeError: a `deadline` was given, or an argument has the wrong type.
            ValueError: `timeout` is not a number, or `name` is no path.
        """
        if not isinstance(name, str):
            raise TypeError(f"name: must be a str, got {type(name).__name__}")
        if not (_PATH.fullmatch(name) and len(name) <= _LONGEST_PATH):
            raise ValueError(f"name: must look like '/package.Service/Method', got {quoted(name)}")
        _check_types(cardinality, request_type, reply_type, timeout)
        if deadline is not None:
            raise TypeError("deadline= is grpclib's clock, not Trio's: give timeout= in seconds instead")
        seconds = math.inf if timeout is None else as_float(timeout)
        if math.isnan(seconds):
            raise ValueError("timeout: must be a number of seconds, got nan")
        settings = CallSettings(
            route=self._route,
            peer=self.peer,
            codec=self.codec,
            status_details_codec=self.status_details_codec,
            max_message_bytes=self.max_message_bytes,
            dispatch=self.__dispatch__,
        )
        return Stream(
            settings,
            name,
            _as_multidict(metadata),
            cardinality,
            request_type,
            reply_type,
            deadline=trio.current_time() + seconds,
        )

    def close(self) -> None:
        """Do nothing: the connection is not the channel's."""


def _check_types(cardinality: object, request_type: object, reply_type: object, timeout: object) -> None:
    if not isinstance(cardinality, Cardinality):
        raise TypeError(f"cardinality: must be a Cardinality, got {type(cardinality).__name__}")
    for name, each in (("request_type", request_type), ("reply_type", reply_type)):
        if not isinstance(each, type):
            raise TypeError(f"{name}: must be a class of messages, got {type(each).__name__}")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float | None):
        raise TypeError(f"timeout: must be a number of seconds, got {type(timeout).__name__}")


def _as_multidict(metadata: Any) -> MultiDict[Any]:
    try:
        return MultiDict(metadata or ())
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata: must be a mapping, or pairs of keys and values: {error}") from error
