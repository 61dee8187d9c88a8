"""The gRPC services of a node: what each does with the node's model and its faults.

Four services exist in the field for calling models, and Health beside them. This module says for each path
what is read, what is run, what is answered, and where a scripted fault acts. `grpc_server` serves
connections, and `served_model` calls methods.
"""

from __future__ import annotations

import enum
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import betterproto
import trio
from betterproto.lib.google.protobuf import Empty
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ..proto import DataType as FirstDataType
from ..proto import InferRequest as FirstInferRequest
from ..proto import InferResponse as FirstInferResponse
from ..proto.commons import Status as StatusMessage
from ..proto.commons import Variant, VariantType
from ..proto.dynamic_subclass import CallRequest, CallResponse, SetupRequest, SetupResponse
from ..proto.grpc.health.v1 import HealthCheckRequest, HealthCheckResponse, HealthCheckResponseServingStatus
from ..proto.train_infer import InferRequest, InferResponse
from ..values.data import Encoded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from .faults import Faults
    from .grpc_server import Handler, ServerCall
    from .served_model import ServedModel

__all__ = ["Service", "make_handlers"]

ServiceMethod: TypeAlias = "Callable[[Node, ServerCall], Awaitable[None]]"

M = TypeVar("M", bound=betterproto.Message)
T = TypeVar("T")

INFER = "Infer"  # what the one method of these services is called in rounds
SERVING = HealthCheckResponseServingStatus.try_value(1)
SERVICE_UNKNOWN = HealthCheckResponseServingStatus.try_value(3)


class Service(enum.StrEnum):
    """The gRPC services through which models are called, by their names on the wire."""

    DYNAMIC_SUBCLASS = "dynamic_subclass.DynamicSubclassService"
    TRAIN_INFER = "train_infer.TrainInferService"
    TRAIN_INFER_STREAM = "train_infer.TrainInferStreamService"
    MODEL_RUNNER = "ModelRunner"


class Node(Protocol):
    """What the services need of the node that serves them; see `LocalNode`."""

    faults: Faults
    initial_metadata: list[tuple[str, str]]

    def take_faults(self, method: str) -> Faults:
        """Return the faults for the call of `method` that has just come."""

    def admit(self, call: ServerCall) -> None:
        """Look at a call that has just come, and begin its answer, or refuse it."""

    async def run_exclusively(self, work: Callable[[ServedModel], Awaitable[T]]) -> T:
        """Run `work` as the process's only one, or raise "Server busy"."""

    async def run_in_turn(self, work: Callable[[ServedModel], Awaitable[T]]) -> T:
        """Run `work` when those before it have ended."""


def make_handlers(node: Node, services: Collection[Service]) -> dict[str, Handler]:
    """Make the handlers of `services` and of Health, by path."""
    handlers: dict[str, Handler] = {
        "/grpc.health.v1.Health/Check": partial(admitted, check_health, node),
        "/grpc.health.v1.Health/Watch": partial(admitted, watch_health, node),
    }
    for service in services:
        calls: dict[str, ServiceMethod]
        match service:
            case Service.DYNAMIC_SUBCLASS:
                calls = {"Setup": setup, "Call": call_method, "Rest": rest}
            case Service.MODEL_RUNNER:
                calls = {"Setup": infer_setup, "Infer": first_infer, "InferStream": first_infer}
                calls["Reinitialize"] = reinitialize
            case _:
                calls = {"Setup": infer_setup, "Infer": infer, "Reinitialize": reinitialize}
        handlers |= {
            f"/{service}/{name}": partial(of_model, handler, node) for name, handler in calls.items()
        }
    return handlers


async def admitted(handler: ServiceMethod, node: Node, call: ServerCall) -> None:
    """Handle a call that the node admits."""
    node.admit(call)
    await handler(node, call)


async def of_model(handler: ServiceMethod, node: Node, call: ServerCall) -> None:
    """The same for a call that is about the model."""
    call.initial_metadata.extend(node.initial_metadata)
    await admitted(handler, node, call)


async def receive(call: ServerCall, message_type: type[M]) -> M:
    """Wait for the one request of a unary call."""
    request = await receive_next(call, message_type)
    if request is None:
        raise GRPCError(Status.UNIMPLEMENTED, f'"{call.path}" requires exactly one request message.')
    return request


async def receive_next(call: ServerCall, message_type: type[M]) -> M | None:
    """Wait for the next request of a call that may have many; None if there is no more."""
    data = await call.receive()
    if data is None:
        return None
    try:
        return message_type().parse(data)
    except Exception as error:  # betterproto has no exception of its own for bytes that are no such message
        raise GRPCError(Status.INTERNAL, "Exception deserializing request!") from error


async def answer_call(call: ServerCall, faults: Faults, message: betterproto.Message) -> None:
    """Send the answer to a model call, or what the faults say instead."""
    if faults.raw_body is not None:
        await call.send_body(faults.raw_body)
    elif faults.raw_answer is not None:
        await call.send(faults.raw_answer)
    else:
        await call.send(bytes(message))


def start_faults(node: Node, method: str) -> Faults:
    """Return the faults of a call of `method` that has come. Faults that prevent the method are raised."""
    faults = node.take_faults(method)
    if faults.grpc_error is not None:
        raise GRPCError(*faults.grpc_error)
    if faults.busy:
        raise GRPCError(Status.RESOURCE_EXHAUSTED, "Server busy")
    return faults


async def setup(node: Node, call: ServerCall) -> None:
    """``DynamicSubclassService/Setup``."""
    request = await receive(call, SetupRequest)

    async def work(model: ServedModel) -> SetupResponse:
        await hinder_setup(node.faults)
        if node.faults.setup_status is not None:
            return SetupResponse(status=StatusMessage(*node.faults.setup_status))
        return await model.setup(request, call.metadata)

    await call.send(bytes(await node.run_exclusively(work)))


async def hinder_setup(faults: Faults) -> None:
    """Do to a Setup what the faults say."""
    await trio.sleep(faults.setup_delay)
    if faults.hang_setup:
        await trio.sleep_forever()
    if faults.setup_error is not None:
        raise GRPCError(*faults.setup_error)


async def call_method(node: Node, call: ServerCall) -> None:
    """``DynamicSubclassService/Call``."""
    request = await receive(call, CallRequest)
    faults = start_faults(node, request.method_name)

    async def work(model: ServedModel) -> CallResponse:
        if faults.drop_after_request:
            call.abort_connection()
        if faults.call_status is not None:
            response = CallResponse(status=StatusMessage(*faults.call_status))
        else:
            response = await model.call(request, call.metadata)
        await trio.sleep(faults.delay)
        return response

    await answer_call(call, faults, await node.run_exclusively(work))


async def rest(node: Node, call: ServerCall) -> None:
    """``DynamicSubclassService/Rest``, which resets the instance."""
    await receive(call, Empty)

    async def work(model: ServedModel) -> Any:
        await trio.lowlevel.checkpoint()
        return model.reset()

    await call.send(bytes(await node.run_exclusively(work)))


async def infer_setup(node: Node, call: ServerCall) -> None:
    """``Setup`` of the Infer services: makes the instance at the first time."""
    await receive(call, Empty)

    async def work(model: ServedModel) -> None:
        await hinder_setup(node.faults)
        if model.instance is None:
            await model.reinitialize()

    await node.run_in_turn(work)
    await call.send(b"")


async def reinitialize(node: Node, call: ServerCall) -> None:
    """``Reinitialize`` of the Infer services: makes the instance anew."""
    await receive(call, Empty)
    await node.run_in_turn(lambda model: model.reinitialize())
    await call.send(b"")


async def infer(node: Node, call: ServerCall) -> None:
    """``Infer`` of package ``train_infer``."""
    request = await receive(call, InferRequest)
    faults = start_faults(node, INFER)
    data, data_type = request.argument.value, int(request.argument.type)
    result = await infer_value(node, call, faults, data, data_type)
    prediction = Variant(type=VariantType(result.data_type), value=result.data)
    await answer_call(call, faults, InferResponse(prediction=prediction))


async def first_infer(node: Node, call: ServerCall) -> None:
    """``Infer`` and ``InferStream`` of the first release: an answer to each request that is sent."""
    request: FirstInferRequest | None = await receive(call, FirstInferRequest)
    while request is not None:
        faults = start_faults(node, INFER)
        # Its types have the same order and no NONE, so each number is one less.
        result = await infer_value(node, call, faults, request.argument, int(request.type) + 1)
        data_type = FirstDataType(result.data_type - 1)
        await answer_call(call, faults, FirstInferResponse(type=data_type, prediction=result.data))
        request = await receive_next(call, FirstInferRequest)


async def infer_value(node: Node, call: ServerCall, faults: Faults, data: bytes, data_type: int) -> Encoded:
    """Have the model infer from one value."""

    async def work(model: ServedModel) -> Encoded:
        if faults.drop_after_request:
            call.abort_connection()
        if faults.call_status is not None:
            raise GRPCError(Status.INTERNAL)
        if model.instance is None:
            raise TypeError("'NoneType' object is not callable")  # the text of a node that was not set up
        try:
            result = await model.infer(data, data_type, call.metadata)
        except Exception as error:
            raise GRPCError(Status.INTERNAL) from error  # its text is lost on deployed nodes
        await trio.sleep(faults.delay)
        return result

    result: Encoded = await node.run_in_turn(work)
    return result


async def check_health(node: Node, call: ServerCall) -> None:
    """``Health/Check``: SERVING for the whole node, also while a model runs."""
    request = await receive(call, HealthCheckRequest)
    if node.faults.hang_health:
        await trio.sleep_forever()
    if node.faults.health_status is not None:
        raise GRPCError(node.faults.health_status, "")
    if request.service:
        raise GRPCError(Status.NOT_FOUND, "")
    await call.send(bytes(HealthCheckResponse(status=SERVING)))


async def watch_health(node: Node, call: ServerCall) -> None:
    """``Health/Watch``: SERVING at once, and then nothing, since nothing changes."""
    request = await receive(call, HealthCheckRequest)
    status = SERVICE_UNKNOWN if request.service else SERVING
    if node.faults.hang_health:
        await trio.sleep_forever()
    await call.send(bytes(HealthCheckResponse(status=status)))
    await trio.sleep_forever()
