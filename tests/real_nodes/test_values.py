"""What goes to a real node and comes back from it: arguments, answers, and the node's texts."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import pandas
import pyarrow
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_model_runner import Arguments, Cluster, DataType, InvalidAnswer, PredictResult, Status, encode

from .clusters import joined_by
from .node_process import NodePool, NodeProcess


@pytest.fixture(scope="module")
def node(shared_pool: NodePool) -> NodeProcess:
    (node,) = shared_pool.start("steady")
    return node


@pytest.fixture
async def cluster(node: NodeProcess) -> AsyncIterator[Cluster]:
    async with joined_by([node]) as cluster:
        yield cluster


async def call(cluster: Cluster, method: str, *args: Any, **kwargs: Any) -> PredictResult[Any]:
    (result,) = (await cluster.call(method, Arguments(*args, **kwargs))).values()
    return result


async def ask(cluster: Cluster, method: str, *args: Any, **kwargs: Any) -> Any:
    return (await call(cluster, method, *args, **kwargs)).unwrap()


async def test_the_constructor_gets_its_arguments(cluster: Cluster) -> None:
    expected = {"args": ["first", [1, None]], "start": 3, "scale": 0.5}
    assert await ask(cluster, "constructor") == expected


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        (1.5, "float", "1.5"),
        (-0.0, "float", "-0.0"),
        (5e-324, "float", "5e-324"),
        (math.nan, "float", "nan"),
        (-math.inf, "float", "-inf"),
        (0, "int", "0"),
        (-(2**63), "int", str(-(2**63))),
        (2**63 - 1, "int", str(2**63 - 1)),
        (True, "int", "1"),
        (False, "int", "0"),
        ("", "str", "''"),
        ("Grüße, 世界 🐦", "str", "'Grüße, 世界 🐦'"),
        (None, "NoneType", "None"),
        ({}, "dict", "{}"),
        ({"ä": [1, 2.5, "x", None, True, {"b": []}]}, "dict", "{'ä': [1, 2.5, 'x', None, True, {'b': []}]}"),
        ({"nan": math.nan, "inf": [math.inf, -math.inf]}, "dict", "{'nan': nan, 'inf': [inf, -inf]}"),
        ([], "list", "[]"),
        ([1, [2, [3]]], "list", "[1, [2, [3]]]"),
        ((1, "two"), "list", "[1, 'two']"),
    ],
    ids=repr,
)
async def test_an_argument_arrives_as_what_it_was(
    cluster: Cluster, value: Any, kind: str, shown: str
) -> None:
    seen = await ask(cluster, "describe", value, second=value, third=value)
    assert seen == [[kind, shown]] * 3


async def test_positional_arguments_keep_their_order(cluster: Cluster) -> None:
    assert await ask(cluster, "describe", 1, "two") == [["int", "1"], ["str", "'two'"], ["NoneType", "None"]]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("float", 2.5),
        ("int", -(2**62)),
        ("str", "Grüße, 世界 🐦"),
        ("list", [1, "two", 3.0, None, True]),
        ("empty dict", {}),
        ("none", None),
    ],
)
async def test_an_answer_arrives_as_what_it_was(cluster: Cluster, kind: str, expected: Any) -> None:
    answer = await ask(cluster, "answer", kind)
    assert answer == expected
    assert type(answer) is type(expected)


async def test_a_true_comes_back_as_one(cluster: Cluster) -> None:
    answer = await ask(cluster, "answer", "bool")
    assert type(answer) is int
    assert answer == 1


async def test_numbers_that_are_none_pass_both_ways(cluster: Cluster) -> None:
    assert math.isnan(await ask(cluster, "answer", "nan"))
    answer = await ask(cluster, "answer", "dict")
    assert math.isnan(answer.pop("nan"))
    assert answer == {"a": [1, None, {"b": 2.0}], "inf": math.inf}
    echoed = await ask(cluster, "echo", [math.nan, -math.inf])
    assert math.isnan(echoed[0])
    assert echoed[1] == -math.inf


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("tuple", "Unsupported data type: <class 'tuple'>"),
        ("set", "Unsupported data type: <class 'set'>"),
        ("series", "Unsupported data type: <class 'pandas.core.series.Series'>"),
        ("not json", "Object of type object is not JSON serializable"),
        ("too large an int", "int too big to convert"),
        ("no such kind", "'no such kind'"),
    ],
)
async def test_an_answer_that_the_node_can_not_send_is_a_failure(
    cluster: Cluster, kind: str, text: str
) -> None:
    result = await call(cluster, "answer", kind)
    assert result.status is Status.FAILED
    assert result.detail.startswith("MODEL_FAILED: The model raised an exception: ")
    assert text in result.detail
    assert await ask(cluster, "predict") == 1.5


async def test_an_answer_that_is_no_text_is_invalid(cluster: Cluster) -> None:
    result = await call(cluster, "answer", "lone surrogate")
    assert result.status is Status.FAILED
    assert isinstance(result.error, InvalidAnswer)


@pytest.mark.parametrize(("value", "data_type"), [(None, DataType.NONE), ("frame", DataType.ARROW)])
async def test_types_that_nodes_do_not_decode_fail_on_the_node(
    cluster: Cluster, value: Any, data_type: DataType
) -> None:
    value = pyarrow.table({"a": [1]}) if value == "frame" else value
    result = await call(cluster, "echo", encode(value, data_type))
    assert result.status is Status.FAILED
    assert f"Unsupported data type: {int(data_type)}" in result.detail


# Frames


def example_frame() -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "price": [1.5, math.nan, 3.0],
            "size": pandas.Series([1, 2, 3], dtype="int32"),
            "count": pandas.Series([1, None, 3], dtype="Int64"),
            "name": ["a", None, "ü"],
            "open": [True, False, True],
            "kind": pandas.Categorical(["x", "y", "x"]),
            "seen": pandas.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03"], utc=True),
        }
    ).set_index(pandas.Index([10, 20, 30], name="at"))


async def test_a_pandas_frame_arrives_with_its_index_and_dtypes(cluster: Cluster) -> None:
    frame = example_frame()
    seen = await ask(cluster, "describe_frame", frame)
    assert seen["columns"] == list(frame.columns)
    assert seen["dtypes"][1:3] == ["int32", "Int64"]
    assert seen["dtypes"][4:6] == ["bool", "category"]
    assert seen["dtypes"][6].endswith("UTC]")
    assert (seen["index"], seen["index_name"], seen["index_dtype"]) == (["10", "20", "30"], "at", "int64")
    assert [row[:2] for row in seen["rows"]] == [["1.5", "1"], ["nan", "2"], ["3.0", "3"]]


async def test_a_pandas_frame_comes_back_as_it_went(node: NodeProcess) -> None:
    frame = example_frame().drop(columns="name")  # pandas' releases differ in how they hold text
    async with joined_by([node], frames="pandas") as cluster:
        echoed = await ask(cluster, "echo", frame)
    assert [str(dtype) for dtype in echoed.dtypes[:5]] == [str(dtype) for dtype in frame.dtypes[:5]]
    pandas.testing.assert_frame_equal(echoed, frame, check_dtype=False)


async def test_an_arrow_table_arrives_as_a_frame_and_comes_back_as_a_table(cluster: Cluster) -> None:
    table = pyarrow.table({"price": [1.5, None], "size": pyarrow.array([1, 2], "int16")})
    seen = await ask(cluster, "describe_frame", frame=table)
    assert (seen["columns"], seen["dtypes"]) == (["price", "size"], ["float64", "int16"])
    echoed = await ask(cluster, "echo", table)
    assert isinstance(echoed, pyarrow.Table)
    assert echoed.column("size").to_pylist() == [1, 2]


async def test_a_frame_that_a_model_made_comes_back(node: NodeProcess) -> None:
    async with joined_by([node], frames="pandas") as cluster:
        frame = await ask(cluster, "answer", "frame")
        empty = await ask(cluster, "answer", "empty frame")
    assert list(frame.columns) == ["price", "size", "name"]
    assert frame["price"].iloc[0] == 1.5
    assert math.isnan(frame["price"].iloc[1])
    assert frame["size"].tolist() == [1, 2]
    assert frame.index.name == "at"
    assert [str(label) for label in frame.index] == ["2026-01-01 00:00:00", "2026-01-02 00:00:00"]
    assert (len(empty), str(empty["price"].dtype)) == (0, "float32")


# Methods


async def test_a_keyword_that_the_method_does_not_take_is_ignored(cluster: Cluster) -> None:
    assert await ask(cluster, "predict", 2.0, factor=3, horizon=7) == 6.0


async def test_an_argument_too_many_is_the_node_s_failure(cluster: Cluster) -> None:
    result = await call(cluster, "predict", 1.0, 2, 3)
    assert result.status is Status.FAILED
    assert "takes from 1 to 3 positional arguments but 4 were given" in result.detail


async def test_predict_calls_the_method_of_that_name(cluster: Cluster) -> None:
    (result,) = (await cluster.predict(4.0, returns=float)).values()
    assert result.value == 4.0
    (model,) = cluster.models.values()
    assert (await model.predict()).unwrap() == 1.5


@pytest.mark.parametrize("optional", [False, True])
async def test_a_method_that_does_not_exist(cluster: Cluster, optional: bool) -> None:
    results = await cluster.call("forecast", optional=optional)
    (result,) = results.values()
    assert result.status is Status.FAILED
    assert result.detail == 'BAD_IMPLEMENTATION: Method "forecast" not found in class "Steady"'
    assert cluster.snapshot().reports_pending == (0 if optional else 1)


async def test_large_messages_pass_both_ways(cluster: Cluster) -> None:
    text = "0123456789abcdef" * (20 * 2**16)  # 20 MiB
    assert await ask(cluster, "echo", text) == text


async def test_an_answer_over_the_node_s_limit_is_a_failure_and_not_called_again(cluster: Cluster) -> None:
    before = await ask(cluster, "ticks")
    result = await call(cluster, "text", 2**26)
    assert result.status is Status.FAILED
    assert result.detail.startswith("gRPC status RESOURCE_EXHAUSTED: ")
    assert await ask(cluster, "ticks") == [*before, "text"]


async def test_calls_side_by_side_on_one_model_run_in_their_order(cluster: Cluster) -> None:
    before = await ask(cluster, "ticks")
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(call, cluster, "tick", number)
            await wait_all_tasks_blocked()
    assert await ask(cluster, "ticks") == [*before, *range(20)]
