"""The services that infer, against servers of gRPC's own implementation."""

from __future__ import annotations

import contextlib
import math
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import grpc
import pandas
import pyarrow
import pytest
import trio
from helpers.insides import actor_of, counts_of

from trio_model_runner import (
    Arguments,
    Cluster,
    DataType,
    Encoded,
    InvalidAnswer,
    ModelRunnerService,
    PredictResult,
    Status,
    TrainInferService,
    TrainInferStreamService,
    decode_data,
    encode,
)
from trio_model_runner import proto as first_release
from trio_model_runner.config import Health
from trio_model_runner.proto import commons, train_infer
from trio_model_runner.services.infer import InferService
from trio_model_runner.testing import LocalCrunch

PATIENT = 30.0  # seconds
Model = Callable[[Encoded], Any]

NUMBERS = {
    "train_infer": {"DOUBLE": 1, "INT": 2, "STRING": 3, "PARQUET": 4, "ARROW": 5, "JSON": 6},
    "first release": {"DOUBLE": 0, "INT": 1, "STRING": 2, "PARQUET": 3, "ARROW": 4, "JSON": 5},
}


@attrs.define
class Dialect:
    """How one of the services writes its messages; `numbers` are those on the wire."""

    service: InferService
    numbers: dict[str, int]

    @property
    def name(self) -> str:
        return self.service.path.strip("/")

    def read(self, data: bytes) -> tuple[int, bytes]:
        """The number of the type in a request, and the value."""
        if isinstance(self.service, ModelRunnerService):
            old = first_release.InferRequest.FromString(data)
            return int(old.type), old.argument
        new = train_infer.InferRequest.FromString(data)
        return int(new.argument.type), new.argument.value

    def write(self, number: int, value: bytes) -> bytes:
        """A response with this number of a type."""
        if isinstance(self.service, ModelRunnerService):
            return bytes(
                first_release.InferResponse(type=first_release.DataType.try_value(number), prediction=value)
            )
        kind = commons.VariantType.try_value(number)
        return bytes(train_infer.InferResponse(prediction=commons.Variant(type=kind, value=value)))


DIALECTS = [
    Dialect(TrainInferService(), NUMBERS["train_infer"]),
    Dialect(TrainInferStreamService(), NUMBERS["train_infer"]),
    Dialect(ModelRunnerService(), NUMBERS["first release"]),
]


class InferNode:
    """A node of one dialect, on a port of its own.

    Attributes:
        model: takes the value, returns what `encode` takes, or raises.
        answer: the bytes to answer instead of what the model returns.
        methods: the methods that were called.
        received: the number of the type and the bytes of each value that came.
        time_left: what each request said was left of its time, seconds.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.model: Model = lambda value: value
        self.answer: bytes | None = None
        self.methods: list[str] = []
        self.received: list[tuple[int, bytes]] = []
        self.time_left: list[float] = []
        self.release = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=4)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._wrap(name, handler))
            for name, handler in [("Setup", self._setup), ("Infer", self._infer)]
        }
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(dialect.name, handlers)])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _wrap(self, name: str, handler: Callable[[bytes, Any], bytes]) -> Callable[[bytes, Any], bytes]:
        def handle(request: bytes, context: Any) -> bytes:
            self.methods.append(name)
            return handler(request, context)

        return handle

    def _setup(self, request: bytes, context: Any) -> bytes:
        assert request == b""
        return b""

    def _infer(self, request: bytes, context: Any) -> bytes:
        self.time_left.append(context.time_remaining())
        number, data = self.dialect.read(request)
        self.received.append((number, data))
        names = {number: name for name, number in self.dialect.numbers.items()}
        try:
            prediction = encode(self.model(Encoded(DataType[names[number]], data)))
        except RuntimeError as error:
            context.abort(grpc.StatusCode.INTERNAL, str(error))
        if self.answer is not None:
            return self.answer
        return self.dialect.write(self.dialect.numbers[prediction.data_type.name], prediction.data)

    def close(self) -> None:
        self.release.set()
        self._server.stop(grace=None).wait(PATIENT)
        self._pool.shutdown()


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.name)
def node(request: pytest.FixtureRequest) -> Iterator[InferNode]:
    node = InferNode(request.param)
    yield node
    node.close()


@contextlib.asynccontextmanager
async def joined_by(node: InferNode, **settings: Any) -> AsyncIterator[Cluster]:
    async with LocalCrunch() as crunch:
        entry = {"model_id": "m", "deployment_id": "d", "ip": "127.0.0.1", "port": node.port}
        crunch.orchestrator.announce({**entry, "state": "RUNNING", "infos": {}})
        config = crunch.config(**{"timeout": PATIENT, "startup_timeout": PATIENT, **settings})
        async with Cluster(config, node.dialect.service) as cluster:
            yield cluster


@pytest.fixture
async def cluster(node: InferNode) -> AsyncIterator[Cluster]:
    async with joined_by(node) as cluster:
        yield cluster


async def predict(cluster: Cluster, *values: Any, **options: Any) -> PredictResult[Any]:
    (result,) = (await cluster.predict(*values, **options)).values()
    return result


VALUES = [
    ("DOUBLE", -1.5, struct.pack("<d", -1.5)),
    ("DOUBLE", math.inf, struct.pack("<d", math.inf)),
    ("INT", -(2**63), struct.pack("<q", -(2**63))),
    ("INT", True, struct.pack("<q", 1)),
    ("STRING", "Grüße 🐦", "Grüße 🐦".encode()),
    ("STRING", "", b""),
    ("JSON", {"price": [1.5, None]}, b'{"price":[1.5,null]}'),
    ("JSON", [], b"[]"),
    ("JSON", None, b"null"),
]


@pytest.mark.parametrize(("name", "value", "data"), VALUES, ids=lambda value: repr(value)[:20])
async def test_a_value_goes_and_comes_back_by_its_number(
    node: InferNode, cluster: Cluster, name: str, value: Any, data: bytes
) -> None:
    result = await predict(cluster, value)
    assert result.unwrap() == value
    ((number, received),) = node.received
    assert number == node.dialect.numbers[name]
    assert received.replace(b" ", b"") == data.replace(b" ", b"")
    assert node.methods == ["Setup", "Infer"]


@pytest.mark.parametrize("name", ["PARQUET", "ARROW"])
async def test_a_frame_goes_and_comes_back_by_its_number(
    node: InferNode, cluster: Cluster, name: str
) -> None:
    table = pyarrow.table({"price": [1.5, None], "name": ["a", "b"]})
    result = await predict(cluster, encode(table, DataType[name]))
    assert result.unwrap().to_pydict() == table.to_pydict()
    ((number, received),) = node.received
    assert number == node.dialect.numbers[name]
    assert received.startswith(b"PAR1" if name == "PARQUET" else b"\xff\xff\xff\xff")


async def test_a_pandas_frame_keeps_its_index(node: InferNode) -> None:
    frame = pandas.DataFrame({"price": [1.5, 2.5]}, index=pandas.Index([10, 20], name="at"))
    async with joined_by(node, frames="pandas") as cluster:
        pandas.testing.assert_frame_equal((await predict(cluster, frame)).unwrap(), frame)


def written_by_hand(field: int, kind: int, data: bytes) -> bytes:
    """Two fields of a message: a number, left out if it is 0, and bytes in the field after it."""
    varint = bytes([field << 3, kind]) if kind else b""
    return varint + bytes([(field + 1) << 3 | 2, len(data)]) + data


@pytest.mark.parametrize(
    ("service", "value", "request_bytes"),
    [
        (ModelRunnerService(), 1.0, written_by_hand(1, 0, struct.pack("<d", 1.0))),
        (ModelRunnerService(), 1, written_by_hand(1, 1, struct.pack("<q", 1))),
        (ModelRunnerService(), "x", written_by_hand(1, 2, b"x")),
        (ModelRunnerService(), [1], written_by_hand(1, 5, b"[1]")),
        (TrainInferService(), 1.0, b"\x0a\x0c" + written_by_hand(2, 1, struct.pack("<d", 1.0))),
        (TrainInferService(), "x", b"\x0a\x05" + written_by_hand(2, 3, b"x")),
    ],
)
def test_a_request_byte_for_byte(service: InferService, value: Any, request_bytes: bytes) -> None:
    assert b"".join(service.call_request("Infer", Arguments(value)).message) == request_bytes


async def test_one_set_of_arguments_serves_services_that_number_differently(node: InferNode) -> None:
    arguments = Arguments(1.5)
    for dialect in DIALECTS:
        dialect.service.call_request("Infer", arguments)
    async with joined_by(node) as cluster:
        await cluster.call("Infer", arguments)
    assert node.received == [(node.dialect.numbers["DOUBLE"], struct.pack("<d", 1.5))]


async def test_the_node_is_told_the_deadline(node: InferNode, cluster: Cluster) -> None:
    await predict(cluster, 1.5, timeout=7.0)
    (time_left,) = node.time_left
    assert 0 < time_left <= 7.0


async def test_an_exception_in_the_model_is_a_failure(node: InferNode, cluster: Cluster) -> None:
    def model(value: Encoded) -> float:
        number = decode_data(value.data, value.data_type)
        if number < 0:
            raise RuntimeError("can't be negative")
        return math.sqrt(number)

    node.model = model
    result = await predict(cluster, -1.0)
    assert result.status is Status.FAILED
    assert result.detail == "gRPC status INTERNAL: can't be negative"
    assert (await predict(cluster, 4.0)).unwrap() == 2.0


async def test_a_model_that_overruns_times_out_and_sits_out(node: InferNode) -> None:
    def model(value: Encoded) -> Encoded:
        node.release.wait(PATIENT)
        return value

    node.model = model
    async with joined_by(node, health=Health(require_witness=False)) as cluster:
        assert (await predict(cluster, 1.5, timeout=0.2)).status is Status.TIMEOUT
        record = actor_of(cluster.models["m"]).conduct.record
        with trio.fail_after(PATIENT):
            while record.overrun is not None:  # noqa: ASYNC110  nobody tells when the PING is answered
                await trio.sleep(0.01)
        node.release.set()
        assert (await predict(cluster, 1.5)).status is Status.SKIPPED
        assert (await predict(cluster, 1.5)).status is Status.SUCCESS


async def test_without_a_witness_a_model_that_overran_is_called_again(
    node: InferNode, cluster: Cluster
) -> None:
    def model(value: Encoded) -> Encoded:
        node.release.wait(PATIENT)
        return value

    node.model = model
    assert (await predict(cluster, 1.5, timeout=0.2)).status is Status.TIMEOUT
    node.release.set()
    assert (await predict(cluster, 1.5)).status is Status.SUCCESS
    assert counts_of(cluster.models["m"]) == (0, 0, 0)


@pytest.mark.parametrize("arguments", [Arguments(), Arguments(1, 2), Arguments(1, name=2), Arguments(name=2)])
async def test_infer_takes_exactly_one_value(node: InferNode, cluster: Cluster, arguments: Arguments) -> None:
    with pytest.raises(TypeError, match="Infer takes exactly one positional argument"):
        await cluster.call("Infer", arguments)
    assert node.methods == ["Setup"]


async def test_other_methods_are_refused(node: InferNode, cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="this service has only 'Infer', got 'predict'"):
        await cluster.call("predict", Arguments(1.5))
    assert node.methods == ["Setup"]


async def test_each_model_may_get_its_own_value_and_a_wrong_one_is_its_result(
    node: InferNode, cluster: Cluster
) -> None:
    (result,) = (await cluster.call("Infer", lambda model: Arguments(len(model.model_id)))).values()
    assert result.value == 1
    (result,) = (await cluster.call("Infer", lambda model: Arguments())).values()
    assert result.status is Status.FAILED
    assert isinstance(result.error, TypeError)
    assert node.methods == ["Setup", "Infer"]


async def test_a_value_without_a_type_is_no_value_of_the_first_release(
    node: InferNode, cluster: Cluster
) -> None:
    nothing = encode(None, DataType.NONE)
    if isinstance(node.dialect.service, ModelRunnerService):
        with pytest.raises(ValueError, match="this service has no type NONE"):
            await cluster.predict(nothing)
        assert node.methods == ["Setup"]
    else:
        node.answer = b""  # a response without a prediction, and one whose prediction is empty
        node.model = lambda value: 0
        node.dialect = attrs.evolve(node.dialect, numbers={"NONE": 0, **node.dialect.numbers})
        assert (await predict(cluster, nothing)).unwrap() is None
        assert node.received == [(0, b"")]
        node.answer = b"\x0a\x00"
        assert (await predict(cluster, nothing)).unwrap() is None


@pytest.mark.parametrize("broken", ["unknown type", "short number", "malformed"])
async def test_an_answer_that_can_not_be_read_is_invalid(
    node: InferNode, cluster: Cluster, broken: str
) -> None:
    node.answer = {
        "unknown type": node.dialect.write(99, b""),
        "short number": node.dialect.write(node.dialect.numbers["DOUBLE"], b"123"),
        "malformed": b"\x0a\xff",
    }[broken]
    result = await predict(cluster, 1.5)
    assert result.status is Status.FAILED
    assert isinstance(result.error, InvalidAnswer)
    node.answer = None
    assert (await predict(cluster, 1.5)).unwrap() == 1.5


async def test_a_node_of_another_service_is_absent(node: InferNode) -> None:
    others = {dialect.name: dialect for dialect in DIALECTS if dialect.name != node.dialect.name}
    for other in others.values():
        node.dialect = other
        async with joined_by(node) as cluster:
            (result,) = (await cluster.predict(1.5)).values()
            assert result.status is Status.ABSENT
            assert "UNIMPLEMENTED" in result.detail
    assert node.methods == []
