"""What takes long to encode or to decode is known before it is done, and at little cost."""

from __future__ import annotations

import dataclasses
import sys
import threading
import tracemalloc
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs
import numpy
import pandas
import pyarrow
import pyarrow.parquet
import pytest

from trio_model_runner import Arguments, DataType, Encoded, TrainInferService
from trio_model_runner.services import DynamicSubclassService
from trio_model_runner.values.effort import (
    INLINE_FRAME_BYTES,
    INLINE_JSON_BYTES,
    INLINE_JSON_VALUES,
    INLINE_STRUCTURED_VALUES,
    INLINE_TEXT_BYTES,
    NEVER_LONG_BYTES,
    takes_long_to_decode,
    takes_long_to_encode,
)

T = TypeVar("T")


@attrs.frozen
class Bird:
    track: Any


@dataclasses.dataclass
class Flock:
    birds: Any


POINTS = [{"time": index, "price": 1.5, "side": "left"} for index in range(1000)]


@pytest.mark.parametrize(
    ("value", "large"),
    [
        (None, False),
        (1.5, False),
        (2**62, False),
        ({}, False),
        ({"price": 101.5, "tags": ["a", "b"]}, False),
        ([1.5] * 1000, False),
        ([1.5] * 10_000, True),
        (tuple(range(10_000)), True),
        (["word"] * 100, False),
        (["word" * 100] * 1000, True),
        ({"text": "x" * 100_000}, True),
        (POINTS[:200], False),
        (POINTS * 2, True),
        ({"history": POINTS * 2, "now": 1}, True),
        ({"history": {"BTC": [[1.5, 2.5]] * 1000}}, True),
        (Bird(POINTS * 2), True),
        (Flock([Bird([1.5] * 10_000)]), True),
        (types.MappingProxyType({"a": [1.5] * 10_000}), True),
        (Bird(1), False),
        ("x" * 1000, False),
        ("x" * (INLINE_TEXT_BYTES + 1), True),
        (Encoded(DataType.JSON, b"x" * 1_000_000), False),
        (object(), False),
        (pyarrow.table({"a": [1.5] * 100}), False),
        (pyarrow.table({"a": [1.5] * 10_000}), True),
        (pandas.DataFrame({"a": [1.5] * 100}), False),
        (pandas.DataFrame({"a": [1.5] * 10_000}), True),
        (pyarrow.RecordBatchReader.from_batches(pyarrow.schema([]), []), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_takes_long_to_encode(value: Any, large: bool) -> None:
    assert takes_long_to_encode(value) is large
    assert Arguments(1, value).takes_long_to_encode is large
    assert Arguments(value=value).takes_long_to_encode is large


def test_a_value_that_holds_itself_is_looked_at_for_a_while() -> None:
    loop: list[Any] = ["a"]
    loop.append(loop)
    assert takes_long_to_encode(loop) is False


def test_a_guess_looks_at_few_values() -> None:
    looked_at = 0

    class Watched(list[Any]):
        def __len__(self) -> int:
            nonlocal looked_at
            looked_at += 1
            return super().__len__()

    takes_long_to_encode([[Watched([1, "a"])] for _ in range(1500)])
    assert 0 < looked_at < 1000


def test_arguments_that_are_encoded_take_no_time_any_more() -> None:
    arguments = Arguments([1.5] * 10_000)
    assert arguments.takes_long_to_encode
    arguments.encode()
    assert not arguments.takes_long_to_encode


@pytest.mark.parametrize(
    ("data_type", "limit"),
    [
        (DataType.JSON, INLINE_JSON_BYTES),
        (DataType.STRING, INLINE_TEXT_BYTES),
    ],
)
def test_what_takes_long_to_decode(data_type: DataType, limit: int) -> None:
    assert not takes_long_to_decode(Encoded(data_type, bytes(limit)))
    assert takes_long_to_decode(Encoded(data_type, bytes(limit + 1)))


@pytest.mark.parametrize("data_type", [DataType.PARQUET, DataType.ARROW])
def test_a_frame_takes_long_however_small_it_is(data_type: DataType) -> None:
    assert takes_long_to_decode(Encoded(data_type, b""))


@pytest.mark.parametrize(
    ("structured", "limit"), [(False, INLINE_JSON_VALUES), (True, INLINE_STRUCTURED_VALUES)]
)
@pytest.mark.parametrize(
    ("first", "more", "values"), [("", ",1", 1), ("[]", ",[]", 2), ("{}", ',{"":0}', 3), ('""', ',""', 1)]
)
def test_many_small_values_take_long_to_decode(
    first: str, more: str, values: int, limit: int, *, structured: bool
) -> None:
    def takes_long(count: int) -> bool:
        encoded = Encoded(DataType.JSON, f"[{first}{more * count}]".encode())
        return takes_long_to_decode(encoded, structured=structured)

    assert not takes_long((limit - 4) // values)
    assert takes_long(limit // values + 1)


def test_a_text_in_json_is_one_value_however_long() -> None:
    assert not takes_long_to_decode(Encoded(DataType.JSON, b'"' + b"a" * 30_000 + b'"'), structured=True)


def test_numbers_never_take_long_to_decode() -> None:
    assert not takes_long_to_decode(Encoded(DataType.NONE, b""))
    assert not takes_long_to_decode(Encoded(DataType.INT, b"too long for a number"))


def test_frames_take_long_to_encode_until_pyarrow_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not takes_long_to_encode(pyarrow.table({"a": [1]}))
    monkeypatch.delitem(sys.modules, "pyarrow.parquet")
    assert takes_long_to_encode(pyarrow.table({"a": [1]}))


class Awaiting(Mapping[str, Any]):
    """A mapping that is read only when so many threads want it."""

    def __init__(self, threads: int) -> None:
        self.wanted = threading.Semaphore(0)
        self.reads = 0
        self._threads = threads

    def __getitem__(self, key: str) -> Any:
        return 1

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        self.reads += 1
        for _ in range(self._threads if self.reads == 1 else 0):
            self.wanted.acquire()
        yield "a"


def in_threads(work: Callable[[], T], count: int) -> list[T]:
    results: list[T] = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_arguments_are_encoded_once_in_any_number_of_threads() -> None:
    payload = Awaiting(8)
    arguments = Arguments(payload)
    made = []

    def make(given: Arguments) -> bytes:
        made.append(given)
        return given.positional[0].data

    def use() -> tuple[bytes, Encoded]:
        payload.wanted.release()
        return arguments.once("request", make), arguments.positional[0]

    results = in_threads(use, 8)
    assert made == [arguments]
    assert payload.reads == 1
    assert len(results) == 8
    assert len({(id(request), id(encoded)) for request, encoded in results}) == 1


def test_a_refusal_is_the_same_in_any_number_of_threads() -> None:
    arguments = Arguments({"a": [1.5] * 1000 + [b""]})

    def refuse() -> str:
        try:
            arguments.encode()
        except TypeError as error:
            return str(error)
        return ""

    assert len(set(in_threads(refuse, 8))) == 1
    assert refuse().startswith("argument 1 at a[1000]: bytes can't be sent as JSON")


@pytest.mark.parametrize(
    ("service", "method"),
    [(DynamicSubclassService("module.Name"), "tick"), (TrainInferService(), "Infer")],
    ids=["DynamicSubclassService", "TrainInferService"],
)
def test_a_history_for_300_models_is_encoded_once_and_not_copied(service: Any, method: str) -> None:
    history = numpy.random.default_rng(1).random(200_000).tolist()
    arguments = Arguments(history)
    first = service.call_request(method, arguments)
    assert sum(map(len, first.message)) > 3_000_000
    tracemalloc.start()
    try:
        requests = [service.call_request(method, arguments) for _ in range(300)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300_000
    assert all(
        ours is theirs
        for request in requests
        for ours, theirs in zip(request.message[-1:], first.message[-1:], strict=True)
    )


@pytest.mark.parametrize("data_type", DataType)
def test_what_is_never_long_is_not_long(data_type: DataType) -> None:
    sizes = (0, 1, INLINE_FRAME_BYTES, INLINE_JSON_BYTES)
    never_long = [
        size for size in (*sizes, NEVER_LONG_BYTES[data_type]) if size <= NEVER_LONG_BYTES[data_type]
    ]
    assert [
        size
        for size in never_long
        if 0 <= size < 2**30 and takes_long_to_decode(Encoded(data_type, b"[" * size), structured=True)
    ] == []
