"""What type checkers see of the package: a program of assertions and of mistakes goes through mypy.

A mistake carries a ``type: ignore`` for the very error that it must give; one that is not needed is an error,
too.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "typing" / "results.py"


def test_results_have_the_types_that_were_asked_for() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-pretty", str(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROGRAM.parent.parent.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found in 1 source file" in done.stdout
