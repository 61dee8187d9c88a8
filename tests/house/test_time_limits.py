"""A run of the tests that hangs ends, however it hangs, and shows where.

Pytest's settings see to that, and CI's limit. Each hang is run by a pytest in a process of its own, with
this repository's settings. No alarm is waited for: the tests that hang raise its signal themselves.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENT = 60.0
"""Seconds for what takes three on a machine that is not busy."""

UNDER_HYPOTHESIS = """
import signal, time
from hypothesis import given, strategies

ALARMS = [signal.SIGALRM]

@given(strategies.integers())
def test_it(number):
    while True:
        if ALARMS:
            signal.raise_signal(ALARMS.pop())
        time.sleep(3600)
"""

SWALLOWING = """
import signal, time

def test_it():
    while True:
        try:
            signal.raise_signal(signal.SIGALRM)
        except BaseException:
            time.sleep(3600)
"""

IN_A_FIXTURE = """
import pytest, signal, time

@pytest.fixture(autouse=True)
def hanging():
    while True:
        try:
            signal.raise_signal(signal.SIGALRM)
        except BaseException:
            time.sleep(3600)

def test_it():
    pass
"""

HOLDING_THE_INTERPRETER = """
import itertools

def test_it():
    any(itertools.repeat(False))
"""

IN_NO_TEST = """
import pathlib, time

with open({fifo!r}, "w"):
    pass
time.sleep(3600)
"""


@contextmanager
def running(
    directory: Path, text: str, *words: str, limit: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A pytest that runs a file that hangs."""
    directory.mkdir()
    (directory / "test_hanging.py").write_text(text)
    command = [*limit, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words, "test_hanging.py"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", "."]
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_tests_that_outlast_the_alarm_end_the_run_and_are_shown(tmp_path: Path) -> None:
    in_one_process = [UNDER_HYPOTHESIS, SWALLOWING, IN_A_FIXTURE, HOLDING_THE_INTERPRETER]
    hangs = [(text, "0") for text in in_one_process] + [(HOLDING_THE_INTERPRETER, "1")]
    settings = ["-o", "faulthandler_timeout=2", "-n"]
    with ExitStack() as stack:
        runs = [
            stack.enter_context(running(tmp_path / str(number), text, *settings, processes))
            for number, (text, processes) in enumerate(hangs)
        ]
        for process in runs:
            output, errors = process.communicate(timeout=PATIENT)
            assert process.returncode == 1
            assert errors.startswith("Timeout (0:00:02)!"), output
            assert "/test_hanging.py" in errors


def test_ci_ends_a_run_that_hangs_in_no_test_and_shows_where(tmp_path: Path) -> None:
    script = (ROOT / ".ci" / "run").read_text()
    ((limit, processes),) = re.findall(r"&& (timeout .*) \S+/python -m pytest (-n 3)$", script, re.MULTILINE)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    text = IN_NO_TEST.format(fifo=str(fifo))
    with running(tmp_path / "run", text, *processes.split(), limit=tuple(limit.split())) as process:
        fifo.read_bytes()  # until it is there
        process.send_signal(signal.SIGALRM)  # as when the time is up
        output, errors = process.communicate(timeout=PATIENT)
        assert process.returncode == 124  # which `timeout` gives for what it has ended
        assert errors.startswith("Fatal Python error: "), output
        assert "/test_hanging.py" in errors
