"""The command `timeline`: what it writes where, what it says, and how it ends."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers.records import Crunch, line

from trio_model_runner.cli import commands

COMMAND = [sys.executable, "-W", "error", "-c", "from trio_model_runner.cli import main; main()", "timeline"]

Timeline = Callable[..., Result]


@pytest.fixture
def timeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Timeline:
    """Runs the command, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(commands.commands, ["timeline", *map(str, arguments)])


def write(name: str, *lines: str, packed: bool = False) -> Path:
    text = "".join(f"{each}\n" for each in lines).encode()
    Path(name).write_bytes(gzip.compress(text) if packed else text)
    return Path(name)


def test_the_page_goes_beside_the_record(timeline: Timeline) -> None:
    write("rounds.jsonl", *Crunch(9, 3, each=0).lines())
    ended = timeline("rounds.jsonl")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "", "the page is in rounds.html\n")
    assert "predict: 3 models, 9 rounds" in Path("rounds.html").read_text()


def test_parts_make_one_page_that_is_no_part_the_next_time(timeline: Timeline) -> None:
    lines = list(Crunch(9, 3, each=0).lines())
    write("rounds.jsonl.2.gz", *lines[:3], packed=True)
    write("rounds.jsonl.1.gz", *lines[3:6], packed=True)
    write("rounds.jsonl", *lines[6:])
    for _ in range(2):
        parts = sorted(Path().glob("rounds.jsonl*"), reverse=True)
        ended = timeline(*parts)
        assert (ended.exit_code, ended.stderr) == (0, "the page is in rounds.html\n")
        assert "9 rounds" in Path("rounds.html").read_text()


def test_the_page_goes_where_it_is_wanted(timeline: Timeline) -> None:
    write("rounds.jsonl", line(statuses="S"))
    ended = timeline("rounds.jsonl", "-o", "-")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.startswith("<!DOCTYPE html>")
    ended = timeline("rounds.jsonl", "--output", "other.html")
    assert Path("other.html").read_text() == timeline("rounds.jsonl", "-o", "-").stdout
    assert not Path("rounds.html").exists()


def test_the_method_with_most_troubles_is_shown_unless_told_otherwise(timeline: Timeline) -> None:
    tick = [line(id=number, method="tick", statuses="SSSS") for number in range(9)]
    write("rounds.jsonl", *tick, line(method="predict", statuses="STTS"), line(method="predict"))
    ended = timeline("rounds.jsonl")
    assert ended.stderr.splitlines()[0] == "the page shows predict; --method shows another: tick (9)"
    assert "predict: 4 models, 2 rounds" in (text := Path("rounds.html").read_text())
    assert "Also in the record: tick (9 rounds)." in text
    assert timeline("rounds.jsonl", "--method", "tick").stderr == "the page is in rounds.html\n"
    assert "tick: 4 models, 9 rounds" in Path("rounds.html").read_text()
    write("rounds.jsonl", *tick, line(method="predict", statuses="S"))
    timeline("rounds.jsonl")
    assert "tick: 4 models" in Path("rounds.html").read_text()  # without troubles, the one with most results


def test_what_is_left_out_is_told(timeline: Timeline) -> None:
    write("rounds.jsonl", line(statuses="S"), "{", line(v=3), '{"level":"info"}', "{", '{"v":1')
    Path("part.gz").write_bytes(gzip.compress(line(statuses="SS").encode() + b"\n" * 2000)[:-20])
    ended = timeline("rounds.jsonl", "part.gz")
    assert ended.exit_code == 0
    left_out, damaged, _ = ended.stderr.splitlines()
    assert left_out == "lines that were left out: 3 torn, 1 of a later version, 1 no round"
    assert damaged.startswith("the rest of a file could not be read: part.gz: Compressed file ended")
    assert left_out in Path("rounds.html").read_text()


def test_a_part_that_is_given_twice_counts_once(timeline: Timeline) -> None:
    write("rounds.jsonl", line(statuses="S"), "{")
    Path("link").symlink_to("rounds.jsonl")
    Path("hard").hardlink_to("rounds.jsonl")
    ended = timeline("rounds.jsonl", "./rounds.jsonl", "link", "hard")
    assert ended.exit_code == 0
    assert "lines that were left out: 1 torn" in ended.stderr.splitlines()
    assert "given more than once, and read once: rounds.jsonl, link, hard" in ended.stderr.splitlines()
    assert (
        timeline("rounds.jsonl", "rounds.jsonl", "--parquet", "a")
        .stderr.splitlines()[-1]
        .startswith("1 results")
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["empty"], 1, "Error: there is no round in the record; a RoundRecorder writes a line for each"),
        (["foreign"], 1, "Error: there is no round in the record; a RoundRecorder writes a line for each"),
        (["record", "--method", "tock"], 2, "Error: the record has no rounds of 'tock', but of predict (1)"),
        (["record", "-o", "no/such"], 2, "Error: no/such: No such file or directory"),
        (["record", "-o", "/dev/full"], 2, "Error: /dev/full: No space left on device"),
        (["record", "-o", "record"], 2, "Error: record is the record; say where to write with -o"),
        (["record", "--parquet", "./record"], 2, "Error: record is the record; say where to write with -o"),
        (["record", "-o", "a", "--parquet", "b"], 2, "Error: -o is for the page, and with --parquet"),
        (["empty", "--parquet", "b"], 1, "Error: there is no round in the record"),
        (["record", "--parquet", "no/such"], 2, "Error: no/such: No such file or directory"),
        (["record", "--parquet", "-"], 2, "Error: --parquet - : a table can't be written to standard output"),
        (["record", "-", "-o", "a"], 2, "Error: /dev/stdin is no file, so it must be the only part"),
        (["/dev/null"], 2, "Error: /dev/null is no file that a page could lie beside; say where with -o"),
        (["/dev/null", "-o", "a"], 1, "Error: there is no round in the record"),
        (["missing"], 2, "Error: Invalid value for 'RECORD...': File 'missing' does not exist."),
        (["."], 2, "Error: Invalid value for 'RECORD...': File '.' is a directory."),
        ([], 2, "Error: Missing argument 'RECORD...'."),
    ],
)  # fmt: skip
def test_errors_are_a_line_that_says_what_to_do(
    timeline: Timeline, arguments: list[str], code: int, said: str
) -> None:
    write("record", line(statuses="S"))
    write("empty")
    write("foreign", '{"level":"info"}')
    before = set(Path().iterdir())
    ended = timeline(*arguments)
    assert (ended.exit_code, ended.stdout) == (code, "")
    assert ended.stderr.splitlines()[-1].startswith(said)
    assert set(Path().iterdir()) == before
    assert Path("record").read_text() == line(statuses="S") + "\n"


def test_a_table_replaces_a_file_and_nothing_else(timeline: Timeline) -> None:
    """A rename would put the table in a device's place, too."""
    write("rounds.jsonl", line(statuses="S"))
    os.mkfifo("pipe")
    Path("link").symlink_to("pipe")
    for name in ("pipe", "link"):
        ended = timeline("rounds.jsonl", "--parquet", name)
        said = f"Error: {name}: is no file; a table can't be written there\n"
        assert (ended.exit_code, ended.stderr) == (2, said)
    assert Path("link").is_fifo()
    Path("out").touch()
    Path("other").symlink_to("out")
    assert timeline("rounds.jsonl", "--parquet", "other").exit_code == 0
    assert Path("other").is_symlink()
    assert Path("out").read_bytes().startswith(b"PAR1")


def test_a_record_can_come_by_standard_input(timeline: Timeline) -> None:
    whole = subprocess.run(
        [*COMMAND, "-", "-o", "-"], input=line(statuses="S").encode(), capture_output=True, check=False
    )
    assert (whole.returncode, whole.stderr) == (0, b"")
    assert whole.stdout.startswith(b"<!DOCTYPE html>")


def test_the_help_has_examples(timeline: Timeline) -> None:
    ended = timeline("--help")
    assert ended.exit_code == 0
    assert "  trio-model-runner timeline rounds.jsonl* --method tick -o tick.html\n" in ended.stdout
    assert "timeline" in CliRunner().invoke(commands.commands, ["--help"]).stdout


def test_without_pyarrow_a_line_says_how_to_get_it(
    timeline: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    write("rounds.jsonl", line(statuses="S"))
    ended = timeline("rounds.jsonl", "--parquet", "out")
    assert (ended.exit_code, ended.stderr) == (
        2, "Error: --parquet needs pyarrow, which is not installed: pip install pyarrow\n",
    )  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("parquet", [True, False])
def test_a_signal_ends_it_and_leaves_nothing_behind(
    timeline: Timeline, number: signal.Signals, code: int, parquet: bool
) -> None:
    """It reads from a pipe that has no more to say."""
    out = ["--parquet", "out"] if parquet else ["-o", "out"]
    with subprocess.Popen(
        [*COMMAND, "/dev/stdin", *out], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        whole = line(statuses="S").encode() + b"\n"
        process.stdin.write(whole * (1 + (1 << 18) // len(whole)))  # a pipe holds 64 KiB: it reads by now
        process.stdin.flush()
        process.send_signal(number)
        assert process.wait(30) == code
        assert process.stderr.read().strip() == b""  # after Ctrl-C the prompt has a line of its own
    assert list(Path().iterdir()) == []


def test_a_reader_who_has_gone_is_no_traceback(timeline: Timeline) -> None:
    write("rounds.jsonl", *Crunch(9, 40, each=2).lines())
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        ended = subprocess.run(
            [*COMMAND, "rounds.jsonl", "-o", "-"], stdout=write_end, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(write_end)
    assert (ended.returncode, ended.stderr) == (1, b"")
