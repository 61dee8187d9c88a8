"""The command line: its options, its exit codes, and tables that nothing from outside can garble."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest
import trio
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from trio_model_runner.cli import commands, output, table
from trio_model_runner.cli.events import EventLine, shorter
from trio_model_runner.cli.table import Row, TallyRow, bar, fit, round_table, tally_table
from trio_model_runner.values.results import Status

MAIN = "from trio_model_runner.cli import main; main()"


def run_main(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, as its entry point does."""
    command = [sys.executable, "-W", "error", "-c", f"{before}\n{MAIN}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def written(what: RenderableType, width: int = 100) -> list[str]:
    file = io.StringIO()
    output.write(Console(file=file, width=width, highlight=False, markup=False), what)
    return file.getvalue().splitlines()


# The command line


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_line_says_how_to_get_it(missing: str) -> None:
    ended = run_main("demo", before=f"import sys; sys.modules[{missing!r}] = None")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert f"needs {missing}" in ended.stderr
    assert "pip install '.[cli]' in a clone" in ended.stderr


def test_another_missing_module_is_not_mistaken_for_the_extra() -> None:
    ended = run_main("demo", before="import sys; sys.modules['trio'] = None")
    assert ended.returncode == 1
    assert "ModuleNotFoundError" in ended.stderr


def test_the_version_is_the_package_s() -> None:
    ended = run_main("--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("trio-model-runner ")


def test_without_a_command_the_commands_are_shown() -> None:
    ended = run_main()
    assert ended.returncode == 2
    assert "demo" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rounds", "0"], "'--rounds': 0 is not in the range"),
        (["--rounds", "many"], "'--rounds': 'many' is not a valid integer"),
        (["--timeout", "0"], "'--timeout': 0 is not in the range 0.1<=x<=60 seconds"),
        (["--timeout", "nan"], "'--timeout': nan is not in the range"),
        (["--timeout", "inf"], "'--timeout': inf is not in the range"),
        (["--timeout", "soon"], "'--timeout': 'soon' is not a valid float"),
        (["--seed", "x"], "'--seed': 'x' is not a valid integer"),
        (["--round"], "No such option"),
    ],
)
def test_a_bad_option_is_named_with_what_it_may_be(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(commands.commands, ["demo", *arguments])
    assert result.exit_code == 2
    assert complaint in result.output


def test_a_bad_option_ends_the_process_with_2_and_no_traceback() -> None:
    ended = run_main("demo", "--rounds", "0")
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: Invalid value for '--rounds'")
    assert "Traceback" not in ended.stderr


# How commands end


def test_a_command_that_ends_by_itself_ends_with_0() -> None:
    assert commands.run_until_interrupted(trio.lowlevel.checkpoint) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_command_and_is_its_exit_code(number: signal.Signals, code: int) -> None:
    cleaned_up = False

    async def command() -> None:
        nonlocal cleaned_up
        try:
            os.kill(os.getpid(), number)
            await trio.sleep_forever()
        finally:
            cleaned_up = True

    assert commands.run_until_interrupted(command) == code
    assert cleaned_up


def test_a_second_ctrl_c_does_not_break_into_the_clean_up() -> None:
    cleaned_up = False

    async def command() -> None:
        nonlocal cleaned_up
        try:
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                signal.raise_signal(signal.SIGINT)
                await trio.lowlevel.checkpoint()
            cleaned_up = True

    assert commands.run_until_interrupted(command) == 130
    assert cleaned_up


def test_an_error_of_the_command_leaves_as_itself() -> None:
    async def command() -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        commands.run_until_interrupted(command)


def test_a_reader_who_has_gone_ends_the_command_without_a_traceback() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = (
        "from trio_model_runner.cli import commands, output\n"
        "async def command():\n    output.write(output.open_console(color=True), 'unheard')\n"
        "raise SystemExit(commands.run_until_interrupted(command))"
    )
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code], stdout=write_end, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write_end)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "files", "code", "out", "err"),
    [
        ("config timeout", ">&-", 2, "", "Error: standard output is closed, and results go there"),
        ("config timeout", ">/dev/full", 1, "", "Error: standard output can't be written: No space left"),
        ("timeline /dev/null -o -", "2>&-", 1, "", ""),
        ("config nonsense", "2>&-", 2, "", ""),
        ("call predict - --all --class a.B --crunch-id c", "<&-", 2, "", "standard input is closed"),
    ],
)
def test_a_standard_file_that_is_closed_or_full_is_a_line(
    arguments: str, files: str, code: int, out: str, err: str
) -> None:
    command = f"exec {sys.executable} -W error -m trio_model_runner {arguments} {files}"
    ended = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, err in ended.stderr) == (code, out, True), ended.stderr
    assert "should not happen" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


# Texts from outside


@pytest.fixture
def nasty_rows() -> list[Row]:
    return [
        Row("\x1b[31mred\x1b[0m", Status.SUCCESS, 0.1, "[bold]N(1, 2)[/bold]"),
        Row("two\nlines", Status.FAILED, 0.2, "\x1b]0;title\x07 and\r\nmore"),
        Row("\u202eevil", Status.TIMEOUT, 1.0, "x" * 500),
        Row("鳥" * 40, Status.SKIPPED, 0.0, "鳥" * 100),
        Row(":dove: [/nope]", Status.ABSENT, 0.0, "\x9b2J \u2028 \x00"),
        Row("n" * 99, None, 0.3),
    ]


@pytest.mark.parametrize("width", [40, 56, 80, 100, 120])
def test_nothing_from_outside_garbles_a_table(nasty_rows: list[Row], width: int) -> None:
    lines = written(round_table(nasty_rows, deadline=1.0, width=width), width=200)
    assert len(lines) == 1 + len(nasty_rows)
    assert all(line.isprintable() for line in lines)
    assert "\\x1b[31mred" in lines[1]
    assert "[bold]N" in lines[1]
    assert ":dove: [/nope]" in lines[5]


@pytest.mark.parametrize("width", [78, 98, 118])
def test_a_table_keeps_to_its_width(nasty_rows: list[Row], width: int) -> None:
    lines = written(round_table(nasty_rows, deadline=1.0, width=width), width=width)
    assert len(lines) == 1 + len(nasty_rows)
    assert max(cell_len(line) for line in lines) <= width


def test_a_tally_is_not_garbled_either(nasty_rows: list[Row]) -> None:
    rows = [TallyRow(row.name, {Status.SUCCESS: 3}, None, row.text) for row in nasty_rows]
    lines = written(tally_table(rows, width=98), width=98)
    assert len(lines) == 1 + len(rows)
    assert all(line.isprintable() for line in lines)
    assert max(cell_len(line) for line in lines) <= 98


@given(st.text())
def test_a_clean_text_is_one_printable_line(text: str) -> None:
    assert output.clean(text).isprintable()


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_a_printable_text_stays_as_it_is(text: str) -> None:
    assert output.clean(text) == text


@given(st.text(), st.integers(0, 50), st.booleans())
def test_a_fitted_text_fits(text: str, width: int, ascii_only: bool) -> None:
    text = output.clean(text)
    fitted = fit(text, width, ascii_only=ascii_only)
    assert cell_len(fitted) <= width
    if cell_len(text) <= width:
        assert fitted == text


def test_an_event_is_one_line_that_fits() -> None:
    line = EventLine("!", "red", "evil\x1b[2J\nbird", "given up: [red]" + "x" * 200).render(8, 60)
    assert line.plain.isprintable()
    assert line.cell_len == 60
    assert line.plain.startswith("! evil\\x1…  given up: [red]xx")


# Tables


def test_a_row_shows_the_model_its_status_its_time_as_a_bar_and_the_answer() -> None:
    rows = [
        Row("kestrel", Status.SUCCESS, 0.25, "N(1.00, 0.10)"),
        Row("owl", Status.TIMEOUT, 1.0, "no answer before the deadline"),
        Row("dodo", Status.ABSENT, 0.0, "failed"),
    ]
    assert written(round_table(rows, deadline=1.0, width=98)) == [
        "model    status   seconds             deadline 1 s  answer",
        "kestrel  SUCCESS    0.250  █████▌                ▏  N(1.00, 0.10)",
        "owl      TIMEOUT    1.000  ██████████████████████▏  no answer before the deadline",
        "dodo     ABSENT                                  ▏  failed",
    ]


def test_a_table_can_do_with_ascii() -> None:
    rows = [Row("kestrel", Status.SUCCESS, 0.5, "x" * 200)]
    lines = written(round_table(rows, deadline=1.0, width=78, ascii_only=True))
    assert all(line.isascii() for line in lines)
    assert "  ########       |  xxx" in lines[1]
    assert lines[1].endswith("x...")


def test_a_tally_shows_counts_and_the_mean_time() -> None:
    rows = [
        TallyRow("kestrel", {Status.SUCCESS: 12, Status.FAILED: 1}, 0.25, "quick"),
        TallyRow("owl", {Status.TIMEOUT: 13}, None, "hangs"),
    ]
    assert written(tally_table(rows, width=98)) == [
        "model    SUCCESS  FAILED  TIMEOUT  SKIPPED  ABSENT   mean s",
        "kestrel       12       1        -        -       -    0.250  quick",
        "owl            -       -       13        -       -        -  hangs",
    ]


def test_a_tally_leaves_out_what_there_is_no_room_for() -> None:
    rows = [TallyRow("kestrel", {Status.SUCCESS: 12}, 0.25, "a temper that takes many words to describe")]
    lines = written(tally_table(rows, width=78), width=78)
    assert lines[1] == "kestrel       12       -        -        -       -    0.250"


@given(st.floats(0, 1), st.integers(1, 60), st.booleans())
def test_a_bar_has_its_width_and_is_in_proportion(fraction: float, width: int, ascii_only: bool) -> None:
    drawn = bar(fraction, width, ascii_only=ascii_only)
    assert cell_len(drawn) == width
    filled = len(drawn.rstrip())
    assert fraction * width - 1 <= filled <= fraction * width + 1.0


def test_a_full_bar_is_the_deadline_and_nothing_is_longer() -> None:
    assert bar(1.0, 8) == bar(7.5, 8) == "█" * 8
    assert bar(0.0, 8) == bar(-1.0, 8) == " " * 8
    assert bar(1e-9, 8).startswith("▏")
    assert bar(0.5, 8, ascii_only=True) == "####    "


def test_columns_stay_where_they_are_from_round_to_round() -> None:
    names = table.name_width(["a", "phoenix"])
    heads = {
        written(round_table([Row(name)], deadline=1.0, width=98, names=names))[0] for name in ("a", "phoenix")
    }
    assert len(heads) == 1


def test_details_are_said_with_fewer_words() -> None:
    assert shorter("MODEL_FAILED: The model raised an exception: no nest") == "raised: no nest"
    assert shorter("the connection broke: [Errno 104] Connection reset by peer") == (
        "lost: Connection reset by peer"
    )
    assert shorter("something else") == "something else"


# Where it is written


def test_in_a_pipe_lines_have_no_control_codes_and_no_spaces_at_the_end() -> None:
    lines = written(round_table([Row("owl", Status.TIMEOUT, 1.0, "late")], deadline=1.0, width=98))
    assert all(line == line.rstrip() and line.isprintable() for line in lines)


def test_a_layout_is_neither_too_wide_nor_too_narrow() -> None:
    widths = [output.layout_width(Console(file=io.StringIO(), width=width)) for width in (20, 100, 400)]
    assert widths == [56, 100, 120]


@pytest.mark.parametrize(("color", "variable"), [(False, None), (True, "1")])
def test_colours_can_be_left_out(monkeypatch: pytest.MonkeyPatch, color: bool, variable: str | None) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not output.open_console(color=True).no_color
    if variable is not None:
        monkeypatch.setenv("NO_COLOR", variable)
    assert output.open_console(color=color).no_color
