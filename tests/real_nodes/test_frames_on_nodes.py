"""Data frames to a real node and back: what pandas users expect to find again."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import numpy
import pandas
import polars
import pyarrow
import pytest
from helpers.frame_trips import NodeReader, assert_that_it_arrives
from helpers.frames_to_send import frames_to_send
from hypothesis import HealthCheck, given, settings

from trio_model_runner import Arguments, Cluster, InvalidAnswer, Status

from .clusters import joined_by
from .installation import installed_python
from .node_process import NodePool, NodeProcess

DAYS = pandas.DatetimeIndex(["2026-01-01", "2026-01-02", "2026-01-03"], name="at")
PAIRS = pandas.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)], names=["kind", "number"])

FRAMES = {
    "a range with a step": pandas.DataFrame({"a": [1, 2, 3]}, index=pandas.RangeIndex(5, 11, 2, name="r")),
    "an index of pairs": pandas.DataFrame({"a": [1, 2, 3]}, index=PAIRS),
    "labels that come twice": pandas.DataFrame({"a": [1, 2, 3]}, index=[1, 1, 2]),
    "text as index": pandas.DataFrame({"a": [1, 2]}, index=pandas.Index(["p", "q"], name="id")),
    "times as index": pandas.DataFrame({"a": [1, 2, 3]}, index=DAYS),
    "times of a zone as index": pandas.DataFrame({"a": [1, 2, 3]}, index=DAYS.tz_localize("Europe/Paris")),
    "categories": pandas.DataFrame(
        {"a": pandas.Categorical(["x", None, "y"], categories=["y", "x", "z"], ordered=True)}
    ),
    "times of a zone": pandas.DataFrame({"a": DAYS.tz_localize("UTC").tz_convert("Asia/Tokyo")}),
    "times": pandas.DataFrame({"a": pandas.to_datetime(["2026-01-01", None])}),
    "nanoseconds": pandas.DataFrame({"a": numpy.array(["2026-01-01T00:00:00.123456789"], "M8[ns]")}),
    "durations": pandas.DataFrame({"a": pandas.to_timedelta([1, None], unit="s")}),
    "whole numbers, some missing": pandas.DataFrame({"a": pandas.array([1, None, 3], dtype="Int64")}),
    "small numbers, some missing": pandas.DataFrame({"a": pandas.array([1, None], dtype="UInt8")}),
    "floats, some missing": pandas.DataFrame({"a": pandas.array([1.5, None], dtype="Float32")}),
    "booleans, some missing": pandas.DataFrame({"a": pandas.array([True, None], dtype="boolean")}),
    "numbers of all sizes": pandas.DataFrame(
        {kind: numpy.array([1, 2], kind) for kind in ("int8", "uint16", "float16", "float32", "uint64")}
    ),
    "numbers that are none": pandas.DataFrame({"a": [1.5, numpy.nan, -numpy.inf]}),
    "text": pandas.DataFrame({"a": ["x", "ü", None]}),
    "text of its own type": pandas.DataFrame({"a": pandas.array(["x", None], dtype="string")}),
    "numbers as columns": pandas.DataFrame({0: [1], 1: [2]}),
    "pairs as columns": pandas.DataFrame(
        [[1, 2]], columns=pandas.MultiIndex.from_tuples([("a", "x"), ("a", "y")], names=["u", "v"])
    ),
    "columns with a name": pandas.DataFrame({"a": [1]}).rename_axis(columns="all"),
    "dates": pandas.DataFrame({"a": [datetime.date(2026, 1, 1), None]}),
    "decimals": pandas.DataFrame({"a": [decimal.Decimal("1.10"), decimal.Decimal("2.00")]}),
    "lists and objects": pandas.DataFrame({"a": [[1, 2], []], "b": [{"x": 1}, {"x": 2}]}),
    "bytes": pandas.DataFrame({"a": [b"x", b"\xff"]}),
    "periods": pandas.DataFrame({"a": pandas.period_range("2026-01", periods=2, freq="M")}),
    "intervals": pandas.DataFrame({"a": pandas.interval_range(0, 2)}),
    "Arrow's own numbers": pandas.DataFrame(
        {"a": pandas.array([1, None], dtype=pandas.ArrowDtype(pyarrow.int32()))}
    ),
    "columns without rows": pandas.DataFrame(
        {"a": pandas.Series(dtype="float32"), "b": pandas.Series(dtype="Int64")}
    ),
    "nothing": pandas.DataFrame(),
}


@pytest.fixture(scope="module")
def node(shared_pool: NodePool) -> NodeProcess:
    (node,) = shared_pool.start("steady")
    return node


@pytest.fixture
async def cluster(node: NodeProcess) -> AsyncIterator[Cluster]:
    async with joined_by([node], frames="pandas") as cluster:
        yield cluster


async def echo(cluster: Cluster, value: Any) -> Any:
    (result,) = (await cluster.call("echo", Arguments(value))).values()
    return result.unwrap()


async def test_a_pandas_frame_comes_back_the_same(cluster: Cluster) -> None:
    for name, frame in FRAMES.items():
        echoed = await echo(cluster, frame)
        pandas.testing.assert_frame_equal(echoed, frame, obj=name)


async def test_what_parquet_or_the_node_does_not_have_becomes_the_next_best(
    cluster: Cluster,
) -> None:
    with_frequency = pandas.DataFrame({"a": [1, 2]}, index=pandas.date_range("2026-01-01", periods=2))
    assert (await echo(cluster, with_frequency)).index.freq is None
    seconds = pandas.DataFrame({"a": numpy.array(["2026-01-01"], "M8[s]")})
    assert str((await echo(cluster, seconds))["a"].dtype) == "datetime64[ms]"
    labels = pandas.DataFrame([[1]], columns=DAYS[:1].tz_localize("UTC").as_unit("us"))
    assert str((await echo(cluster, labels)).columns.dtype) == "datetime64[ns, UTC]"
    arrow_text = pandas.DataFrame({"a": pandas.array(["x"], dtype=pandas.ArrowDtype(pyarrow.string()))})
    assert str((await echo(cluster, arrow_text))["a"].dtype) == "string"


@pytest.fixture(scope="module")
def reader() -> Iterator[NodeReader]:
    reader = NodeReader(installed_python())
    yield reader
    reader.close()


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(frames_to_send())
def test_the_pandas_of_a_node_reads_what_is_sent_as_it_was(reader: NodeReader, frame: Any) -> None:
    assert_that_it_arrives(frame, reader)


async def test_a_polars_frame_arrives_with_its_columns(cluster: Cluster) -> None:
    frame = polars.DataFrame(
        {
            "text": ["a", None],
            "lists": [["x"], []],
            "kind": polars.Series(["u", "v"], dtype=polars.Categorical),
            "at": [datetime.datetime(2026, 1, 1)] * 2,
        }
    )
    echoed = await echo(cluster, frame)
    assert [str(dtype) for dtype in echoed.dtypes[2:]] == ["category", "datetime64[us]"]
    assert echoed["text"].tolist()[:1] == ["a"]
    assert [list(items) for items in echoed["lists"]] == [["x"], []]


async def test_a_stream_of_batches_arrives_whole(cluster: Cluster) -> None:
    batches = pyarrow.table({"a": list(range(1000))}).to_batches(max_chunksize=100)
    echoed = await echo(cluster, pyarrow.RecordBatchReader.from_batches(batches[0].schema, batches))
    assert echoed["a"].tolist() == list(range(1000))


async def test_a_large_history_arrives_whole(cluster: Cluster) -> None:
    history = [{"time": index, "price": index / 7, "side": "links ü"} for index in range(20_000)]
    assert await echo(cluster, history) == history


@attrs.frozen
class Forecast:
    a: list[float | None]
    inf: float


async def test_an_answer_becomes_the_type_that_was_asked_for(cluster: Cluster) -> None:
    (result,) = (await cluster.call("echo", Arguments({"a": [1, None], "inf": 2}), returns=Forecast)).values()
    assert result.unwrap() == Forecast([1.0, None], 2.0)
    (result,) = (await cluster.call("answer", Arguments("bool"), returns=bool)).values()
    assert result.unwrap() is True
    (result,) = (await cluster.call("echo", Arguments(FRAMES["text"]), returns=pandas.DataFrame)).values()
    assert result.status is Status.SUCCESS
    (refused,) = (await cluster.call("answer", Arguments("dict"), returns=Forecast)).values()
    assert refused.status is Status.FAILED
    assert isinstance(refused.error, InvalidAnswer)
    assert refused.detail == ("the answer does not fit: $.a[2]: must be float or None, got dict")
