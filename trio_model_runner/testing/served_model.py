"""An ordinary Python object whose methods are called as a deployed node calls a model.

Deployed nodes have habits on which coordinators may depend. They sort positional arguments, and drop keywords
that the method does not take. They have different texts for a missing method and for one that raised. These
habits were observed on nodes in the field (release 0.4.2) and are copied here exactly, faults included. There
is one addition: a method may be async, and can then be slow without blocking the event loop.

This module knows values and Python objects. Connections, busy nodes and scripted faults are in `node`.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ..given import check_whole_number
from ..proto.commons import Status as StatusMessage
from ..proto.commons import Variant, VariantType
from ..proto.dynamic_subclass import CallRequest, CallResponse, RestResponse, SetupRequest, SetupResponse
from ..signal import Signal
from ..values.data import DataType, Encoded, decode_data, encode_data

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..proto.commons import Argument, KwArgument

__all__ = ["CallRecord", "ServedModel", "SetupRecord"]

MAX_RECORDS = 10_000
DECODED_BY_NODES = frozenset(DataType) - {DataType.NONE, DataType.ARROW}


@attrs.frozen
class SetupRecord:
    """A Setup that reached the model's class.

    Attributes:
        class_name: the class that was asked for.
        args: its positional arguments, decoded.
        kwargs: its keyword arguments, decoded.
        metadata: the request's headers.
    """

    class_name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = attrs.field(factory=dict)
    metadata: Mapping[str, str] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen
class CallRecord:
    """A method that was run.

    Attributes:
        method: its name.
        args: the positional arguments, decoded, in order.
        kwargs: all keyword arguments that were sent, decoded, also those that the method does not take.
        metadata: the request's headers.
    """

    method: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = attrs.field(factory=dict)
    metadata: Mapping[str, str] = attrs.field(factory=dict, repr=False, eq=False)


def decode_value(data: bytes, data_type: int) -> Any:
    """Decode an argument as nodes do: they read neither NONE nor ARROW."""
    if data_type not in DECODED_BY_NODES:
        raise ValueError(f"Unsupported data type: {int(data_type)}")
    return decode_data(data, DataType(data_type), frames="pandas")


def encode_result(value: Any) -> Encoded:
    """Encode a result as nodes do: they know fewer types than coordinators may send.

    An `Encoded` is sent as it is, so that a test's model can answer what no real node would.
    """
    pandas = sys.modules.get("pandas")
    match value:
        case Encoded():
            return value
        case float():
            data_type = DataType.DOUBLE
        case int():  # True too, as 1
            data_type = DataType.INT
        case str():
            data_type = DataType.STRING
        case _ if pandas is not None and isinstance(value, pandas.DataFrame):
            data_type = DataType.PARQUET
        case dict() | list():  # with plain json: for example, a node accepts keys that are not str
            try:
                return Encoded(DataType.JSON, json.dumps(value).encode())
            except TypeError as error:
                raise ValueError(f"Data cannot be serialized to JSON: {error}") from error
        case _:
            raise ValueError(f"Unsupported data type: {type(value)}")
    return Encoded(data_type, encode_data(data_type, value))


def decode_arguments(
    positional: Sequence[Argument], keyword: Sequence[KwArgument]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Decode a request's arguments, positional ones in the order of their positions."""
    ordered = sorted(positional, key=lambda argument: argument.position)
    args = tuple(decode_value(argument.data.value, argument.data.type) for argument in ordered)
    return args, {
        argument.keyword: decode_value(argument.data.value, argument.data.type) for argument in keyword
    }


def is_factory(model: Any) -> bool:
    """Whether Setup makes an instance by calling `model`: a class or a function, not a callable object."""
    return inspect.isclass(model) or inspect.isroutine(model) or isinstance(model, functools.partial)


class ServedModel:
    """One model on its node.

    Args:
        model: a class or a function makes a new instance at every Setup; any other object is the instance. A
            class is called with Setup's arguments, as nodes do, a function too if it takes any.
        threads: run methods that are not async in worker threads.

    Attributes:
        model: see above; may be replaced, for the next Setup.
        instance: what Setup made, None before.
        setups: what was set up, the last 10 000.
        calls: what was run, the last 10 000.
        call_count: how many methods were run in all.
    """

    def __init__(self, model: Any, *, threads: bool = False) -> None:
        self.model = model
        self.instance: Any = None
        self.setups: deque[SetupRecord] = deque(maxlen=MAX_RECORDS)
        self.calls: deque[CallRecord] = deque(maxlen=MAX_RECORDS)
        self.call_count = 0
        self._threads = trio.CapacityLimiter(math.inf) if threads else None
        self._methods: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {}
        self._called = Signal()

    def forget(self) -> None:
        """Lose the instance, as when a process starts anew."""
        self.instance = None
        self._methods.clear()

    async def wait_for_calls(self, count: int) -> None:
        """Wait until `count` methods were run in all; the last may still be running."""
        check_whole_number(count, "count")
        await trio.lowlevel.checkpoint()
        await self._called.wait_until(lambda: self.call_count >= count)

    async def setup(self, request: SetupRequest, metadata: Mapping[str, str]) -> SetupResponse:
        """Make the instance, if there is none yet."""
        await trio.lowlevel.checkpoint()
        if self.instance is not None:
            return SetupResponse(status=StatusMessage("SUCCESS", "Instance already exists"))
        class_name = request.class_name.strip()
        if not class_name:
            return SetupResponse(status=StatusMessage("INVALID_ARGUMENT", "class_name cannot be empty"))
        try:
            args, kwargs = decode_arguments(request.instance_arguments, request.instance_kw_arguments)
            self.setups.append(SetupRecord(class_name, args, kwargs, metadata))
            self.instance = await self._make_instance(args, kwargs)
        except ImportError as error:
            return SetupResponse(status=StatusMessage("BAD_IMPLEMENTATION", str(error.msg)))
        except Exception as error:
            return SetupResponse(status=StatusMessage("SETUP_FAILED", str(error)))
        return SetupResponse(status=StatusMessage("SUCCESS", "Instance created successfully"))

    async def call(self, request: CallRequest, metadata: Mapping[str, str]) -> CallResponse:
        """Run a method of the instance and encode what it returns.

        Raises:
            grpclib.GRPCError: the attribute of that name can't be called.
        """
        await trio.lowlevel.checkpoint()
        if self.instance is None:
            return failed_call("FAILED_PRECONDITION", "Setup has not been called yet")
        name = request.method_name
        if not name:
            return failed_call("INVALID_ARGUMENT", "methodName cannot be empty")
        try:
            method, parameters = self._find_method(name)
        except AttributeError:
            class_name = type(self.instance).__name__
            return failed_call("BAD_IMPLEMENTATION", f'Method "{name}" not found in class "{class_name}"')
        except (TypeError, ValueError) as error:
            raise GRPCError(Status.UNKNOWN, f"Exception calling application: {error}") from error
        try:
            args, kwargs = decode_arguments(request.method_arguments, request.method_kw_arguments)
            taken = {key: value for key, value in kwargs.items() if key in parameters[len(args) :]}
            self._record(CallRecord(name, args, kwargs, metadata))
            result = await self._run(method, args, taken)
            if result is None:
                return CallResponse(status=StatusMessage("SUCCESS"))
            encoded = encode_result(result)
        except Exception as error:
            return failed_call("MODEL_FAILED", f"The model raised an exception: {error}")
        response = Variant(type=VariantType(encoded.data_type), value=encoded.data)
        return CallResponse(status=StatusMessage("SUCCESS"), method_response=response)

    def reset(self) -> RestResponse:
        """Drop the instance; methods once called stay those of the old one, as on deployed nodes."""
        if self.instance is None:
            return RestResponse(status=StatusMessage("SUCCESS", "No instance exists to reset"))
        self.instance = None
        return RestResponse(status=StatusMessage("SUCCESS", "Instance successfully reset"))

    async def reinitialize(self) -> None:
        """Make the instance anew, as the Infer services' Setup and Reinitialize do."""
        await trio.lowlevel.checkpoint()
        self.forget()
        self.instance = await self._make_instance((), {})

    async def infer(self, data: bytes, data_type: int, metadata: Mapping[str, str]) -> Encoded:
        """Run the instance's ``infer``, or its ``predict`` where it has no ``infer``, on one value."""
        await trio.lowlevel.checkpoint()
        name = "infer" if hasattr(self.instance, "infer") else "predict"
        method, _ = self._find_method(name)
        value = decode_value(data, data_type)
        self._record(CallRecord(name, (value,), {}, metadata))
        return encode_result(await self._run(method, (value,), {}))

    def _find_method(self, name: str) -> tuple[Callable[..., Any], tuple[str, ...]]:
        if name not in self._methods:
            method = getattr(self.instance, name)
            self._methods[name] = method, tuple(inspect.signature(method).parameters)
        return self._methods[name]

    def _record(self, record: CallRecord) -> None:
        self.calls.append(record)
        self.call_count += 1
        self._called.send()

    async def _make_instance(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        await trio.lowlevel.checkpoint()
        if not is_factory(self.model):
            return self.model
        if not inspect.isclass(self.model) and not inspect.signature(self.model).parameters:
            return await self._run(self.model, (), {})
        return await self._run(self.model, args, kwargs)

    async def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        await trio.lowlevel.checkpoint()
        run = functools.partial(function, *args, **kwargs)
        if self._threads is None or inspect.iscoroutinefunction(function):
            result = run()
        else:
            result = await trio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=self._threads)
        return await result if inspect.isawaitable(result) else result


def failed_call(code: str, message: str) -> CallResponse:
    """A call's answer that carries a status and no value."""
    return CallResponse(status=StatusMessage(code, message))
