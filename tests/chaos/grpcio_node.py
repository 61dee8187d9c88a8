"""What runs in the process of a node whose gRPC is Google's, as that of deployed nodes is.

It has fewer tempers than `node_process`: those of the model itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import socket
from typing import Any

import grpc.aio

from trio_model_runner.proto.commons import Status, Variant, VariantType
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, SetupResponse
from trio_model_runner.values.data import DataType, decode_data, encode_data

from .node_process import TARDY_SECONDS

__all__ = ["run"]

_SERVICE = "dynamic_subclass.DynamicSubclassService"


def run(request: dict[str, Any], control: socket.socket) -> None:
    """Be a node until nobody controls it; see `node_process.run`."""
    asyncio.run(_Node(request).serve(control))


class _Node:
    """The node, and the one model on it."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._address = f"{request['host']}:{request['port']}"
        self._life = request["life"]
        self._temper = request["temper"]
        self._tempered = asyncio.Condition()
        self._delay = 0.0
        self._hold = False
        self._made = False
        self._caught_up = False
        self._busy = asyncio.Lock()

    async def serve(self, control: socket.socket) -> None:
        server = grpc.aio.server()
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(handler)
            for name, handler in [("Setup", self._setup), ("Call", self._call)]
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, handlers)])
        port = server.add_insecure_port(self._address)
        await server.start()
        reader, writer = await asyncio.open_connection(sock=control)
        writer.write(json.dumps({"listening": port}).encode() + b"\n")
        while line := await reader.readline():
            command = json.loads(line)
            if "delay" in command:
                self._delay, self._hold = command["delay"], command["hold"]
                continue
            async with self._tempered:
                self._temper = command["temper"]
                self._tempered.notify_all()
        await server.stop(None)

    async def _setup(self, _: bytes, context: Any) -> bytes:
        if self._busy.locked():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server busy")
        text = "Instance already exists" if self._made else "Instance created successfully"
        self._made = True
        return bytes(SetupResponse(status=Status("SUCCESS", text)))

    async def _call(self, data: bytes, context: Any) -> bytes:
        if self._busy.locked():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server busy")
        if not self._made:
            return bytes(CallResponse(status=Status("FAILED_PRECONDITION", "Setup has not been called yet")))
        return await asyncio.shield(self._run_model(data))

    async def _run_model(self, data: bytes) -> bytes:
        """Nothing interrupts a model, and its node is busy until it is through."""
        async with self._busy:
            request = CallRequest().parse(data)
            if request.method_name == "catch_up":
                self._caught_up = True
                return bytes(CallResponse(status=Status("SUCCESS")))
            argument = request.method_arguments[0].data
            return await self._predict(decode_data(argument.value, DataType(argument.type)))

    async def _predict(self, number: int) -> bytes:
        if self._temper == "raising":
            return bytes(CallResponse(status=Status("MODEL_FAILED", "no feathers")))
        async with self._tempered:
            await self._tempered.wait_for(lambda: self._temper != "hanging")
        delay, self._delay = self._delay, 0.0
        if self._hold and delay:
            _sleep_with_interpreter(delay)
        else:
            await asyncio.sleep(TARDY_SECONDS if self._temper == "tardy" else delay)
        answer = {"life": self._life, "number": number, "caught_up": self._caught_up}
        value = Variant(type=VariantType(VariantType.JSON), value=encode_data(DataType.JSON, answer))
        return bytes(CallResponse(status=Status("SUCCESS"), method_response=value))


def _sleep_with_interpreter(seconds: float) -> None:
    """Keep everything else in Python waiting, as a regular expression may that never comes to an end."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # `PyDLL`, unlike `CDLL`, keeps the interpreter's lock
