"""`trio_model_runner.testing` says which extra to install where that is missing."""

from __future__ import annotations

import subprocess
import sys


def test_without_h2_the_error_names_the_extra() -> None:
    program = "import sys; sys.modules['h2'] = None; import trio_model_runner.testing"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: trio_model_runner.testing needs h2, which is not installed: "
        "pip install '.[testing]' in a clone"
    )
