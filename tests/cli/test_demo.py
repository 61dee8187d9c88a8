"""The demo: it ends by itself, shows what it promises, and can be interrupted; and the game that it plays."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.cli.bird_game import BirdGame, Density, read_density
from trio_model_runner.cli.birds import make_birds

COMMAND = [sys.executable, "-W", "error", "-c", "from trio_model_runner.cli import main; main()", "demo"]
ENVIRONMENT = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"}
STATUSES = re.compile(r"^  (\w+) +(SUCCESS|FAILED|TIMEOUT|SKIPPED|ABSENT) ", re.MULTILINE)


def statuses_by_round(text: str) -> list[dict[str, str]]:
    parts = re.split(r"^Round \d+ of \d+", text.partition("\nSummary")[0], flags=re.MULTILINE)
    return [dict(STATUSES.findall(part)) for part in parts[1:]]


@pytest.fixture(scope="module")
def shown() -> str:
    """What three rounds write into a pipe."""
    arguments = ["--rounds", "3", "--timeout", "1"]
    ended = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        encoding="utf-8",
        env=ENVIRONMENT,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_each_round_has_a_result_from_every_model(shown: str) -> None:
    names = [bird.name for bird in make_birds(1.0)]
    first, second, third = statuses_by_round(shown)
    assert list(first) == [name for name in names if name != "heron"]
    assert list(second) == list(third) == names


def test_the_models_behave_as_they_are_described(shown: str) -> None:
    first, second, third = statuses_by_round(shown)
    for each in (first, second, third):
        assert {
            name: each[name] for name in ("kestrel", "merlin", "osprey", "goshawk", "buzzard", "swift")
        } == (dict.fromkeys(("kestrel", "merlin", "osprey", "goshawk", "buzzard", "swift"), "SUCCESS"))
        assert each["owl"] in ("TIMEOUT", "SKIPPED")
        assert (each["cuckoo"], each["parrot"], each["dodo"]) == ("FAILED", "FAILED", "ABSENT")
    assert first["owl"] == "TIMEOUT"
    assert [each["magpie"] for each in (first, second, third)] == ["SUCCESS", "SUCCESS", "TIMEOUT"]
    assert [each["phoenix"] for each in (first, second, third)] == ["FAILED", "ABSENT", "SUCCESS"]
    assert second["heron"] == "SUCCESS"


def test_what_happens_between_rounds_is_told(shown: str) -> None:
    for line in (
        "+ 11 models joined",
        "! dodo     given up: Setup failed: extinct in 1662",
        "! phoenix  crashed, and is being restarted",
        "+ heron    joined, and was told the 1 tick so far",
        "+ phoenix  is back, and was told the 2 ticks so far",
        "~ swift    replaced by a new deployment, which was told the 1 tick so far",
    ):
        assert f"\n  {line}\n" in shown


def test_it_is_summed_up(shown: str) -> None:
    summary = shown.partition("\nSummary")[2]
    assert re.search(r"^  kestrel +3 +- +- +- +- +0\.\d{3}  quick$", summary, re.MULTILINE)
    assert re.search(r"^  cuckoo +- +3 +- +- +- +-  raises an exception$", summary, re.MULTILINE)
    assert re.search(r"^  phoenix +1 +1 +- +- +1 +0\.\d{3}  crashes", summary, re.MULTILINE)


def test_in_a_pipe_it_writes_plain_lines_of_a_sensible_width(shown: str) -> None:
    lines = shown.splitlines()
    assert all(line.isprintable() and line == line.rstrip() for line in lines)
    assert max(map(len, lines)) <= 100
    assert "N(" in shown
    assert "params" not in shown


def test_it_does_without_unicode_where_there_is_none() -> None:
    ended = subprocess.run(
        [*COMMAND, "--rounds", "1", "--timeout", "0.2"],
        capture_output=True,
        env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"},
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"?" not in ended.stdout
    assert b"####" in ended.stdout


def test_ctrl_c_in_the_middle_ends_it_at_once_without_a_traceback() -> None:
    with subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("Round 1 of"):
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
        assert "Traceback" not in process.stdout.read()
        assert process.stderr.read() == ""
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def run_on_terminal(*arguments: str, interrupt_at: bytes | None = None) -> tuple[int, bytes]:
    """Run the demo on a terminal of 80 by 30; the exit code, and all that it wrote."""
    screen, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (30, 80))
    environment = {key: value for key, value in ENVIRONMENT.items() if key not in ("COLUMNS", "NO_COLOR")}
    environment["TERM"] = "xterm-256color"
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=its_end, stdout=its_end, stderr=its_end, env=environment
    )
    os.close(its_end)
    shown = b""
    with process, contextlib.suppress(OSError):  # reading fails when nobody has the other end any more
        while read := os.read(screen, 4096):
            shown += read
            if interrupt_at is not None and interrupt_at in shown:
                process.send_signal(signal.SIGINT)
                interrupt_at = None
    os.close(screen)
    return process.returncode, shown


def test_on_a_terminal_the_table_fills_and_the_cursor_is_given_back() -> None:
    code, shown = run_on_terminal("--rounds", "1", "--timeout", "0.4")
    assert code == 0
    assert b"waiting" in shown
    assert b"Summary" in shown
    assert b"\x1b[32m" in shown
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") == 1


def test_on_a_terminal_colours_can_be_left_out() -> None:
    code, shown = run_on_terminal("--rounds", "1", "--timeout", "0.2", "--no-color")
    assert code == 0
    assert b"Summary" in shown
    assert b"\x1b[32m" not in shown


def test_ctrl_c_while_the_table_fills_gives_the_cursor_back() -> None:
    code, shown = run_on_terminal(interrupt_at=b"waiting")
    assert code == 130
    assert b"Traceback" not in shown
    assert shown.rstrip().endswith(b"\x1b[?25h")


# The game


def test_ctrl_z_while_the_table_fills_gives_the_cursor_back_and_draws_on_below() -> None:
    screen, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (30, 80))
    process = subprocess.Popen(
        [*COMMAND, "--rounds", "1"], stdin=its_end, stdout=its_end, stderr=its_end,
        env={**ENVIRONMENT, "TERM": "xterm-256color"},
    )  # fmt: skip
    with process:
        read_until(screen, b"waiting")
        process.send_signal(signal.SIGTSTP)
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        os.write(its_end, b"mark")  # what a shell writes meanwhile
        os.close(its_end)
        before = read_until(screen, b"mark")
        assert before.removesuffix(b"mark").endswith(b"\x1b[?25h")
        process.send_signal(signal.SIGCONT)
        after = read_until(screen, b"Summary")
        up = after.find(b"\x1b[1A")
        assert 0 < after.find(b"Round 1 of 1") < (up if up >= 0 else len(after))  # nothing is drawn over
        with contextlib.suppress(OSError):
            while read := os.read(screen, 4096):
                after += read
    os.close(screen)
    assert process.returncode == 0
    assert after.count(b"\x1b[?25l") == after.count(b"\x1b[?25h") == 1


def read_until(file: int, what: bytes) -> bytes:
    """What a terminal shows, up to something."""
    shown = b""
    while what not in shown:
        shown += os.read(file, 4096)
    return shown


def test_the_same_seed_is_the_same_flight() -> None:
    first, again, other = (
        [game.next_payload() for _ in range(5)] for game in (BirdGame(1), BirdGame(1), BirdGame(2))
    )
    assert first == again
    assert first != other


@given(st.integers())
def test_a_payload_is_what_the_game_s_models_expect(seed: int) -> None:
    game = BirdGame(seed)
    payloads = list(islice(iter(game.next_payload, None), 20))
    for payload in payloads:
        assert {key: type(value) for key, value in payload.items()} == {
            "falcon_location": float,
            "falcon_id": int,
            "dove_location": float,
            "dove_id": int,
            "time": float,
        }
    times = [payload["time"] for payload in payloads]
    assert times == sorted(set(times))


def component(loc: Any = 1.0, scale: Any = 0.5, weight: Any = 1, name: Any = "normal") -> dict[str, Any]:
    return {"density": {"name": name, "params": {"loc": loc, "scale": scale}}, "weight": weight}


def test_a_density_is_written_short() -> None:
    assert str(read_density(component(20.314, 0.051))) == "N(20.31, 0.05)"
    assert str(read_density([component(20, 0.051)])) == "N(20.00, 0.05)"
    mixture = [component(1.0, weight=1), component(2.0, weight=3, name="t")]
    assert str(read_density(mixture)) == "75% t(2.00, 0.50) + 1 more"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("pretty Polly", "a str is no density"),
        (None, "a NoneType is no density"),
        ([], "1 to 1000 components, not 0"),
        ([component()] * 1001, "not 1001"),
        ({}, "lacks its density"),
        ({"density": {"name": "normal"}}, "its params"),
        ({"density": {"params": {}}}, "lacks its name"),
        (component(name=3), "lacks its name"),
        (component(loc="x"), "loc is no number"),
        (component(loc=True), "loc is no number"),
        (component(loc=float("nan")), "loc is not finite"),
        (component(scale=10**400), "scale is not finite"),
        (component(scale=0), "must be > 0"),
        (component(weight=-1), "must be > 0"),
    ],
)
def test_what_is_no_density_is_refused_with_a_reason(answer: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_density(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
NUMBER = st.integers() | st.floats() | JSON


@given(JSON | st.lists(st.builds(component, NUMBER, NUMBER, NUMBER, st.text(max_size=3)), max_size=3))
def test_any_answer_is_a_density_or_refused(answer: Any) -> None:
    try:
        density = read_density(answer)
    except ValueError:
        return
    assert isinstance(density, Density)
    assert str(density)
