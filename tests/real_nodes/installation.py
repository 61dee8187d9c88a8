"""The real node software, installed once into a virtual environment of its own.

Its dependencies have nothing to do with ours, so it must not share our environment. The environment is kept
under the repository's `.cache`, since it takes half a minute to make. It is made under another name, and gets
its own only when it is complete: one whose making was interrupted is never found again.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["RELEASE", "InstallationError", "installed_python"]

RELEASE = "0.4.2"
CACHE = Path(__file__).parents[2] / ".cache"
STEP_TIMEOUT = 900.0  # seconds


class InstallationError(Exception):
    """The node software can't be installed; the text has the output of what failed."""


def installed_python() -> Path:
    """The interpreter of an environment with the node software, which is made if there is none.

    The environment is moved after it is made, so its scripts are no use; run `python -m`.

    Raises:
        InstallationError: making it failed.
    """
    environment = CACHE / f"crunch-model-runner-{RELEASE}-{sys.implementation.cache_tag}"
    python = environment / "bin" / "python"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{environment.name}.lock").open("w") as lock:  # other processes run tests, too
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not python.exists():
            shutil.rmtree(environment, ignore_errors=True)  # its base interpreter is gone, if it is there
            install(environment)
    return python


def install(environment: Path) -> None:
    """Make an environment with the node software, complete or not at all."""
    with tempfile.TemporaryDirectory(prefix=f"{environment.name}-", dir=CACHE) as temporary:
        unfinished = Path(temporary) / "environment"
        run(sys.executable, "-m", "venv", str(unfinished))
        python = str(unfinished / "bin" / "python")
        run(python, "-m", "pip", "install", "-q", f"crunch-model-runner=={RELEASE}")
        run(python, "-c", "import model_runner.server")
        unfinished.rename(environment)


def run(*command: str) -> None:
    """Run a step of the installation."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=STEP_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode(errors="replace")
        raise InstallationError(f"{' '.join(command)}: not done in {STEP_TIMEOUT:g} s\n{output}") from error
    if done.returncode:
        raise InstallationError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")
