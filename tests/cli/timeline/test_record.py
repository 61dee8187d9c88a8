"""Reading a record: every round that is whole is read, whatever is between; what is left out is counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.records import BEGIN, Crunch, line
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.cli.timeline import record
from trio_model_runner.cli.timeline.record import Round, Skipped, read_record


def read(*paths: Path) -> tuple[list[Round], Skipped]:
    skipped = Skipped()
    return list(read_record(paths, skipped)), skipped


def read_lines(tmp_path: Path, *lines: str | bytes) -> tuple[list[Round], Skipped]:
    path = tmp_path / "rounds.jsonl"
    path.write_bytes(b"".join(each if isinstance(each, bytes) else each.encode() for each in lines))
    return read(path)


def test_a_line_is_a_round(tmp_path: Path) -> None:
    told = line(
        id=7, statuses="SSTFKA", timeout=None, details={"m3": "no"}, values=[1, None, None, None, 2.5, {}]
    )
    (found,), skipped = read_lines(tmp_path, told, "\n")
    assert skipped == Skipped()
    assert (found.id, found.method, found.timeout, found.statuses) == (7, "predict", None, "SSTFKA")
    assert found.model_ids == ["m0", "m1", "m2", "m3", "m4", "m5"]
    assert found.elapsed == [0.25, 0.25, 0.25, 0.25, None, None]
    assert (found.details, found.values) == ({"m3": "no"}, [1, None, None, None, 2.5, {}])


@given(st.data())
def test_whole_lines_are_read_wherever_a_crash_cut_others(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A cut line may have its end, or the next line right behind it."""
    path = tmp_path_factory.mktemp("record")
    lines: list[bytes] = []
    whole, torn = [], 0
    for number in range(data.draw(st.integers(1, 6))):
        told = line(
            id=number, statuses="SFT", details={"m1": '{"v":1}'}, values=[{"v": 1}, None, '"{"v":']
        ).encode()
        if data.draw(st.booleans()):
            whole.append(number)
            lines.append(told + b"\n")
        else:
            torn += 1
            cut = told[: data.draw(st.integers(1, len(told) - 1))]
            is_followed = lines and not lines[-1].endswith(b"\n")
            torn -= bool(is_followed)  # two halves on one line
            lines.append(cut + data.draw(st.sampled_from([b"\n", b""])))
    rounds, skipped = read_lines(path, *lines)
    assert [each.id for each in rounds] == whole
    assert (skipped.torn, skipped.later, skipped.foreign) == (torn, 0, 0)


@pytest.mark.parametrize(
    "told",
    [
        "3", "null", "[]", '"text"', "{}", '{"v":1}', '{"v":"1"}', '{"level":"info","msg":"started"}',
        line(v=0), line(method=None), line(id=1.5), line(id=1 << 70), line(statuses="SX"),
        line(statuses="S", elapsed=[None]), line(statuses="S", elapsed=[-0.1]),
        line(statuses="S", elapsed=["1"]), line(statuses="S", elapsed=[True]),
        line(statuses="S", elapsed=[10**400]), line(statuses="S").replace("0.25", "1e999"),
        line(statuses="SS", model_ids=["m0"]), line(statuses="S", model_ids=[3]),
        line(statuses="S", values=[]), line(statuses="S", deployment_ids=[17]), line(statuses="S", sent="2"),
        line(started=-1), line(started=1e300), line(timeout=1e12), line(seconds=None),
        line(details={"m0": 3}), line(details=[]),
    ],
)  # fmt: skip
def test_what_is_json_but_no_round_is_left_out(tmp_path: Path, told: str) -> None:
    rounds, skipped = read_lines(tmp_path, told, "\n", line(id=2), "\n")
    assert [each.id for each in rounds] == [2]
    assert str(skipped) == "1 no round"


@pytest.mark.parametrize(
    "told",
    ["{", line()[:-1], line()[:40], b"\xff\xfe", b"\x00" * 99, "\u2028x"],
)
def test_what_is_no_json_is_torn(tmp_path: Path, told: str | bytes) -> None:
    rounds, skipped = read_lines(tmp_path, told, "\n\n  \n", line(id=2), "\n")
    assert [each.id for each in rounds] == [2]
    assert str(skipped) == "1 torn"


@pytest.mark.parametrize(
    "told", ["NaN", line(seconds=float("nan")), line(timeout=float("inf")), "1" * 5000, "[" * 100_000]
)
def test_a_whole_line_that_can_not_be_read_is_not_called_torn(tmp_path: Path, told: str) -> None:
    rounds, skipped = read_lines(tmp_path, told, "\n", line(id=2), "\n")
    assert [each.id for each in rounds] == [2]
    assert str(skipped) == "1 unreadable"


def test_lines_of_a_later_version_are_counted_by_themselves(tmp_path: Path) -> None:
    rounds, skipped = read_lines(tmp_path, line(v=2, columns={}), "\n", line(new_key=[1]), "\n", line(v=2))
    assert len(rounds) == 1
    assert str(skipped) == "2 of a later version"


def test_a_line_without_an_end_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_LONGEST_LINE", 1000)
    rounds, skipped = read_lines(tmp_path, line(id=1), "\n", b"x" * 5500, "\n", line(id=2), "\n", b"y" * 2000)
    assert [each.id for each in rounds] == [1, 2]
    assert str(skipped) == "2 no round"


def test_parts_are_read_in_the_order_of_their_times(tmp_path: Path) -> None:
    """What a part is called, and whether it says that it is gzipped, is of no interest."""
    paths = [tmp_path / name for name in ("rounds.jsonl", "rounds.jsonl.1.gz", "no.gz", "empty", "zipped")]
    for path, parts in zip(paths, ([5, 6], [3, 4], [1, 2], [], [7]), strict=True):
        text = "".join(f"{line(id=number, started=BEGIN + number)}\n" for number in parts).encode()
        path.write_bytes(gzip.compress(text) if path.name in ("rounds.jsonl.1.gz", "zipped") else text)
    rounds, skipped = read(*paths)
    assert [each.id for each in rounds] == [1, 2, 3, 4, 5, 6, 7]
    assert skipped == Skipped()


@given(st.data())
def test_a_damaged_gzip_gives_what_it_can(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("record")
    text = "".join(f"{each}\n" for each in Crunch(30, 3, each=0).lines()).encode()
    packed = bytearray(gzip.compress(text))
    if data.draw(st.booleans(), "cut"):
        del packed[data.draw(st.integers(3, len(packed) - 1)) :]
    else:
        packed[data.draw(st.integers(3, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (directory / "part.gz").write_bytes(packed)
    (directory / "whole").write_text(line(id=99, started=BEGIN + 9e6) + "\n")
    rounds, skipped = read(directory / "part.gz", directory / "whole")
    assert rounds[-1].id == 99
    assert len(rounds) == 31 or skipped.damaged or str(skipped)
    assert all("part.gz" in each for each in skipped.damaged)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(json.loads(line(statuses="SA", values=[1, 2])))), JSON)
def test_no_field_can_break_the_reader(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: object
) -> None:
    told = json.dumps(json.loads(line(statuses="SA", values=[1, 2])) | {field: value})
    rounds, skipped = read_lines(tmp_path_factory.mktemp("record"), told, "\n")
    assert len(rounds) + skipped.later + skipped.foreign == 1
