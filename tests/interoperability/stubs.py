"""A stub for the service, and calls of it by the names of its methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from betterproto import ServiceStub
from grpclib.const import Cardinality

from trio_model_runner.proto.dynamic_subclass import CallRequest

from .service import SERVICE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_model_runner.channel import Channel

__all__ = ["Stub", "Text", "chat", "unary"]


class Stub(ServiceStub):
    """What betterproto's compiler would make of the service, had it a description."""

    async def echo(self, message: CallRequest, **options: Any) -> CallRequest:
        return await self._unary_unary(f"/{SERVICE}/Echo", message, CallRequest, **options)

    async def fail(self, message: CallRequest, **options: Any) -> CallRequest:
        return await self._unary_unary(f"/{SERVICE}/Fail", message, CallRequest, **options)

    async def expand(self, message: CallRequest, **options: Any) -> AsyncIterator[CallRequest]:
        async for each in self._unary_stream(f"/{SERVICE}/Expand", message, CallRequest, **options):
            yield each

    async def gather(self, messages: Any, **options: Any) -> CallRequest:
        return await self._stream_unary(f"/{SERVICE}/Gather", messages, CallRequest, CallRequest, **options)

    async def has_cancelled(self) -> None:
        """Wait until the server has noticed a cancelled call, for half a minute at most."""
        with trio.fail_after(30):
            await self._unary_unary(f"/{SERVICE}/HasCancelled", CallRequest(), CallRequest)

    async def retire(self) -> None:
        """Let the server stop gracefully."""
        await self._unary_unary(f"/{SERVICE}/Retire", CallRequest(), CallRequest)


def unary(channel: Channel, method: str, request: type = CallRequest, **options: Any) -> Any:
    """One call with a message each way, to be entered."""
    return channel.request(f"/{SERVICE}/{method}", Cardinality.UNARY_UNARY, request, CallRequest, **options)


def chat(channel: Channel, **options: Any) -> Any:
    """A call of `Chat`, to be entered."""
    return channel.request(f"/{SERVICE}/Chat", Cardinality.STREAM_STREAM, CallRequest, CallRequest, **options)


class Text:
    """A codec for requests that are text."""

    __content_subtype__ = "proto"

    def encode(self, message: str, message_type: Any) -> bytes:
        return message.encode()
