"""What mypy and pyright see of the package: both read a program of assertions and of mistakes.

mypy reads the programs in `examples`, too: what people copy must be well typed.

A mistake carries a ``type: ignore`` for the very error that mypy must give. One that mypy or pyright does not
need is an error, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "typing" / "results.py"
EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[!t_]*.py"))


def check(*command: str) -> str:
    """Run a type checker, with no settings; what it says must be that all is well.

    It finds the package as it is installed, from a directory in which the package is not.
    """
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        cwd=PROGRAM.parents[2],
        env=os.environ
        | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},  # else it looks for a newer release of itself
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_mypy_sees_the_types_that_were_asked_for() -> None:
    said = check("mypy", "--strict", "--config-file=", "--no-pretty", str(PROGRAM), *map(str, EXAMPLES))
    assert f"no issues found in {1 + len(EXAMPLES)} source files" in said
    assert len(EXAMPLES) == 5


def test_pyright_sees_the_types_that_were_asked_for() -> None:
    said = check("pyright", "--pythonpath", sys.executable, str(PROGRAM))
    assert "0 errors, 0 warnings" in said
