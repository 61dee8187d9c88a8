"""`trio_model_runner.testing` says what to install where that is missing."""

from __future__ import annotations

import subprocess
import sys


def test_without_h2_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['h2'] = None; from trio_model_runner.testing import Faults, LocalCrunch"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: trio_model_runner.testing needs h2, which is not installed: "
        "pip install '.[testing]' in a clone"
    )
