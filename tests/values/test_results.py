"""Results and rounds say what came of each model, need no network to be made, and never show a value."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import attrs
import pandas
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.errors import InvalidAnswer
from trio_model_runner.values.prediction_round import PredictionRound
from trio_model_runner.values.results import ModelError, ModelIdentity, PredictResult, Status


@attrs.frozen(eq=False)
class FakeModel:
    model_id: str
    deployment_id: str | None = None
    name: str = ""


@dataclasses.dataclass
class Prediction:
    value: float
    side: tuple[str, ...] = ()


def round_of(results: Mapping[Any, PredictResult[Any]], **changes: Any) -> PredictionRound[Any]:
    settings: dict[str, Any] = {
        "id": "7f3a",
        "method": "predict",
        "started_at": 1.7e9,
        "elapsed": 0.9984,
        "timeout": 1.0,
    }
    return PredictionRound(results, **(settings | changes))


def round_with(*statuses: Status, **changes: Any) -> PredictionRound[Any]:
    results: list[PredictResult[Any]] = [
        PredictResult(FakeModel(str(index)), status) for index, status in enumerate(statuses)
    ]
    return round_of({result.model: result for result in results}, **changes)


def test_statuses_are_their_names() -> None:
    assert [str(status) for status in Status] == ["SUCCESS", "FAILED", "TIMEOUT", "SKIPPED", "ABSENT"]
    assert Status.SUCCESS == "SUCCESS"
    assert json.dumps(Status.ABSENT) == '"ABSENT"'


def test_a_result_needs_no_network() -> None:
    model: ModelIdentity = FakeModel("7")
    result: PredictResult[float] = PredictResult(model, Status.SUCCESS, 1.5, 0.25)
    assert (result.model, result.status, result.value, result.elapsed) == (model, Status.SUCCESS, 1.5, 0.25)
    assert (result.detail, result.error) == ("", None)
    assert PredictResult(model, "TIMEOUT").status is Status.TIMEOUT
    with pytest.raises(ValueError, match="LATE"):
        PredictResult(model, "LATE")


def test_a_result_is_frozen() -> None:
    result = PredictResult(FakeModel("7"), Status.SUCCESS, [1])
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        result.value = [2]  # type: ignore[misc]
    with pytest.raises(AttributeError):
        result.note = 1  # type: ignore[attr-defined]


def test_results_compare_by_content_and_hash_whatever_the_value() -> None:
    model = FakeModel("7")
    assert PredictResult(model, Status.SUCCESS, [1]) == PredictResult(model, Status.SUCCESS, [1])
    assert PredictResult(model, Status.SUCCESS, [1]) != PredictResult(model, Status.SUCCESS, [2])
    assert len({PredictResult(model, Status.SUCCESS, [1]), PredictResult(model, Status.SUCCESS, [1])}) == 1


@pytest.mark.parametrize("value", [1.5, None, 0, {"a": []}])
def test_unwrap_returns_the_value(value: Any) -> None:
    assert PredictResult(FakeModel("7"), Status.SUCCESS, value).unwrap() is value


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.SUCCESS])
def test_unwrap_raises_for_every_other_status(status: Status) -> None:
    cause = TimeoutError("late")
    result: PredictResult[Any] = PredictResult(
        FakeModel("7", name="bird"), status, detail="it said why", error=cause
    )
    with pytest.raises(ModelError) as caught:
        result.unwrap()
    assert str(caught.value) == f"model bird (7): {status}: it said why"
    assert caught.value.result is result
    assert caught.value.__cause__ is cause


def test_unwrap_says_what_is_known() -> None:
    with pytest.raises(ModelError, match=r"^model 7: ABSENT$") as caught:
        PredictResult(FakeModel("7"), Status.ABSENT).unwrap()
    assert caught.value.__cause__ is None


def test_repr_never_shows_the_value() -> None:
    result = PredictResult(FakeModel("7"), Status.SUCCESS, "secret", 0.12345)
    assert repr(result) == "<PredictResult 7: SUCCESS after 0.123 s>"
    failed: PredictResult[Any] = PredictResult(FakeModel("7"), Status.FAILED, detail="a\n" + "b" * 100)
    assert repr(failed) == rf"<PredictResult 7: FAILED after 0.000 s, detail='a\n{'b' * 78}...'>"
    assert "secret" not in repr(round_of({result.model: result}))


def test_to_dict_of_a_success() -> None:
    result = PredictResult(FakeModel("7", "d1", "bird"), Status.SUCCESS, {"a": (1, None)}, 0.25)
    assert result.to_dict() == {
        "model_id": "7",
        "deployment_id": "d1",
        "model_name": "bird",
        "status": "SUCCESS",
        "value": {"a": [1, None]},
        "elapsed": 0.25,
        "detail": "",
        "error": None,
        "sent": True,
    }
    assert type(result.to_dict()["status"]) is str


def test_to_dict_of_a_failure() -> None:
    result: PredictResult[Any] = PredictResult(
        FakeModel("7"), Status.FAILED, detail="no", error=InvalidAnswer("no", 1)
    )
    row = result.to_dict()
    assert (row["status"], row["value"], row["detail"], row["error"]) == (
        "FAILED",
        None,
        "no",
        "InvalidAnswer",
    )


def test_to_dict_is_a_copy() -> None:
    result = PredictResult(FakeModel("7"), Status.SUCCESS, [[1]])
    result.to_dict()["value"][0].append(2)
    assert result.value == [[1]]


def test_to_dict_converts_what_returns_made() -> None:
    result = PredictResult(FakeModel("7"), Status.SUCCESS, Prediction(1.5, ("a",)))
    assert result.to_dict()["value"] == {"value": 1.5, "side": ["a"]}


FRAME = {"shape": [1, 1], "columns": [{"name": "a", "type": "int64"}]}


@pytest.mark.parametrize(
    ("value", "told", "value_type"),
    [
        (pyarrow.table({"a": [1]}), FRAME, "pyarrow.lib.Table"),
        (pandas.DataFrame({"a": [1]}), FRAME, f"{pandas.DataFrame.__module__}.DataFrame"),
        (object(), None, "builtins.object"),
        (print, None, "builtins.builtin_function_or_method"),
    ],
    ids=["arrow", "pandas", "object", "function"],
)
def test_to_dict_names_the_type_of_what_json_can_not_express(value: Any, told: Any, value_type: str) -> None:
    row = PredictResult(FakeModel("7"), Status.SUCCESS, value).to_dict()
    assert (row["value"], row["value_type"]) == (told, value_type)
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize("value", [None, math.nan, 1.5, [math.nan], b"abc", {1: 2}, "", {}, False])
def test_to_dict_names_no_other_type(value: Any) -> None:
    assert "value_type" not in PredictResult(FakeModel("7"), Status.SUCCESS, value).to_dict()


@pytest.mark.parametrize(
    "broken", ["\ud83d", math.nan, object(), 10**5000], ids=lambda each: type(each).__name__
)
def test_to_dict_is_strict_whatever_a_program_puts_into_a_result(broken: Any) -> None:
    result: PredictResult[Any] = PredictResult(
        FakeModel(broken, broken, broken), Status.FAILED, broken, broken, broken
    )
    made = round_of(
        {result.model: result}, id=broken, method=broken, elapsed=broken, started_at=broken, missing=[broken]
    )
    for told in (result.to_dict(), made.to_dict()):
        assert json.loads(json.dumps(told, allow_nan=False, ensure_ascii=False).encode()) == told


def test_a_value_may_be_nested_as_deeply_as_encoders_take() -> None:
    value: Any = 1
    for _ in range(200):
        value = [value]
    result = PredictResult(FakeModel("7"), Status.SUCCESS, value)
    assert round_of({result.model: result}).to_dict()["results"][0]["value"] == value


def test_a_round_is_a_mapping_from_model_to_result() -> None:
    first, second = FakeModel("1"), FakeModel("2")
    results = {
        first: PredictResult(first, Status.SUCCESS, 1.5),
        second: PredictResult(second, Status.TIMEOUT),
    }
    round_ = round_of(results)
    assert dict(round_.items()) == results
    assert list(round_) == [first, second]
    assert len(round_) == 2
    assert round_[second].status is Status.TIMEOUT
    assert FakeModel("1") not in round_
    with pytest.raises(KeyError):
        round_[FakeModel("1")]
    results.clear()
    assert len(round_) == 2
    with pytest.raises(TypeError):
        round_[first] = round_[second]  # type: ignore[index]


def test_a_round_knows_when_and_what() -> None:
    round_ = round_with(missing=iter(["8", "9"]))
    assert (round_.id, round_.method, round_.started_at) == ("7f3a", "predict", 1.7e9)
    assert (round_.elapsed, round_.timeout, round_.missing) == (0.9984, 1.0, ("8", "9"))


@given(st.lists(st.sampled_from(Status)))
def test_every_result_is_in_exactly_one_group(statuses: list[Status]) -> None:
    round_ = round_with(*statuses)
    groups = {
        Status.SUCCESS: round_.succeeded,
        Status.FAILED: round_.failed,
        Status.TIMEOUT: round_.timed_out,
        Status.SKIPPED: round_.skipped,
        Status.ABSENT: round_.absent,
    }
    for status, group in groups.items():
        assert dict(group) == {model: result for model, result in round_.items() if result.status is status}
    assert sum(map(len, groups.values())) == len(round_) == len(statuses)


def test_groups_are_read_only_and_made_once() -> None:
    round_ = round_with(Status.SUCCESS)
    assert round_.succeeded is round_.succeeded
    assert round_.by_id is round_.by_id
    with pytest.raises(TypeError):
        del round_.succeeded[next(iter(round_))]  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        del round_.by_id["0"]  # type: ignore[attr-defined]


def test_by_id_has_the_newer_of_two_deployments() -> None:
    old, new, other = FakeModel("1", "d1"), FakeModel("1", "d2"), FakeModel("2")
    results: dict[FakeModel, PredictResult[Any]] = {
        model: PredictResult(model, Status.SUCCESS) for model in (old, other, new)
    }
    round_ = round_of(results)
    assert len(round_) == 3
    assert dict(round_.by_id) == {"1": results[new], "2": results[other]}


@pytest.mark.parametrize(
    ("round_", "line"),
    [
        (
            round_with(*[Status.SUCCESS] * 45, *[Status.FAILED] * 2, *[Status.TIMEOUT] * 3),
            "round 7f3a: predict: 45 of 50 SUCCESS (2 FAILED, 3 TIMEOUT) in 0.998 s of 1.0 s",
        ),
        (round_with(Status.SUCCESS), "round 7f3a: predict: 1 of 1 SUCCESS in 0.998 s of 1.0 s"),
        (round_with(timeout=math.inf), "round 7f3a: predict: 0 of 0 SUCCESS in 0.998 s"),
        (
            round_with(Status.ABSENT, Status.SKIPPED, missing=["9"], timeout=0.1 + 0.2),
            "round 7f3a: predict: 0 of 2 SUCCESS (1 SKIPPED, 1 ABSENT, 1 missing) in 0.998 s of 0.3 s",
        ),
    ],
)
def test_a_round_is_one_line(round_: PredictionRound[Any], line: str) -> None:
    assert str(round_) == line
    assert repr(round_) == f"<PredictionRound: {line}>"


def test_a_round_as_a_dict_is_for_json() -> None:
    round_ = round_with(Status.SUCCESS, Status.TIMEOUT, missing=["9"])
    told = json.loads(json.dumps(round_.to_dict()))
    assert told == {
        "id": "7f3a",
        "method": "predict",
        "started_at": 1.7e9,
        "elapsed": 0.9984,
        "timeout": 1.0,
        "counts": {"SUCCESS": 1, "FAILED": 0, "TIMEOUT": 1, "SKIPPED": 0, "ABSENT": 0},
        "missing": ["9"],
        "results": [result.to_dict() for result in round_.values()],
    }
    assert round_with(timeout=math.inf).to_dict()["timeout"] is None


def test_a_caller_that_changes_the_dict_changes_nothing_else() -> None:
    result = PredictResult(FakeModel("7"), Status.SUCCESS, {"a": [1]})
    made = round_of({result.model: result}, missing=["9"])
    before = made.to_dict()
    told = made.to_dict()
    told["results"][0]["value"]["a"].append(2)
    told["missing"].append("10")
    told["counts"].clear()
    assert made.to_dict() == before
