"""grpcio as the other side of local nodes, and a fixture's worth of nodes to be called with it."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio
from betterproto.lib.google.protobuf import Empty

from trio_model_runner.proto.commons import Argument, KwArgument, Variant
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, SetupRequest, SetupResponse
from trio_model_runner.testing import LocalNode
from trio_model_runner.values.data import DataType, decode_data, encode

MIB = 1024 * 1024
SERVICE = "/dynamic_subclass.DynamicSubclassService"
CALL = f"{SERVICE}/Call"
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 64 * MIB),
    ("grpc.max_send_message_length", 64 * MIB),
    ("grpc.use_local_subchannel_pool", 1),  # else channels to one address share a connection
]


class Channel:
    """grpcio's channel to a node, used from threads."""

    def __init__(self, node: LocalNode) -> None:
        self.channel = grpc.insecure_channel(f"{node.host}:{node.port}", options=CHANNEL_OPTIONS)

    async def request(
        self, path: str, message: Any, answer_type: Any, *, seconds: float = 20.0, metadata: Any = None
    ) -> Any:
        method = self.channel.unary_unary(path, bytes, answer_type.FromString)
        return await trio.to_thread.run_sync(
            functools.partial(method, message, timeout=seconds, metadata=metadata)
        )

    async def setup(self, class_name: str = "any.Name", *args: Any, **kwargs: Any) -> tuple[str, str]:
        positional, keyword = arguments(args, kwargs)
        request = SetupRequest(class_name, positional, keyword)
        path = "/dynamic_subclass.DynamicSubclassService/Setup"
        status = (await self.request(path, request, SetupResponse)).status
        return status.code, status.message

    async def call(self, method: str, *args: Any, **kwargs: Any) -> CallResponse:
        positional, keyword = arguments(args, kwargs)
        request = CallRequest(method, positional, keyword)
        answer: CallResponse = await self.request(CALL, request, CallResponse)
        return answer

    async def value(self, method: str, *args: Any, **kwargs: Any) -> Any:
        answer = await self.call(method, *args, **kwargs)
        assert answer.status.code == "SUCCESS", answer
        response = answer.method_response
        return decode_data(response.value, DataType(int(response.type)))

    async def failure(self, method: str, *args: Any, **kwargs: Any) -> tuple[str, str]:
        answer = await self.call(method, *args, **kwargs)
        return answer.status.code, answer.status.message

    async def rpc_error(self, path: str, message: Any, **options: Any) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            await self.request(path, message, Empty, **options)
        return caught.value.code().name, caught.value.details()


def variant(value: Any) -> Variant:
    encoded = encode(value)
    return Variant(type=int(encoded.data_type), value=encoded.data)


def encode_as_nodes_do(value: Any) -> bytes:
    return json.dumps(value).encode() if isinstance(value, dict) else encode(value).data


def arguments(args: Any, kwargs: Any) -> tuple[list[Argument], list[KwArgument]]:
    positional = [Argument(position + 1, variant(value)) for position, value in enumerate(args)]
    return positional, [KwArgument(keyword, variant(value)) for keyword, value in kwargs.items()]


@asynccontextmanager
async def open_nodes() -> AsyncIterator[Any]:
    """Give a function that starts a node and a channel to it; all of them end with the block."""
    channels: list[Channel] = []
    async with trio.open_nursery() as nursery:

        async def serve(model: Any, **options: Any) -> tuple[LocalNode, Channel]:
            node = LocalNode(model, **options)
            await nursery.start(node.run)
            channels.append(Channel(node))
            return node, channels[-1]

        yield serve
        for channel in channels:
            channel.channel.close()
        nursery.cancel_scope.cancel()
