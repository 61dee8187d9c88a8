"""The environments that are compared, each as its user would have it: package and dependencies.

The reference is a release from PyPI, installed once. A source tree of ours is copied as `pip install` does,
and not linked, so that an edit in the middle of a run changes nothing. Each content of a tree has an
environment of its own: it is found again while no file has changed, wherever the tree is. The few that
were used last are kept. Tools for development stay out of all: what they bring along would count as
start-up time and memory.

They are made by the interpreter that runs this, under the repository's `.cache`, and under another name
until they are complete: one whose making was interrupted is never found again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["REPOSITORY", "InstallationError", "installed_versions", "our_python", "reference_python"]

REFERENCE = "model-runner-client"
REFERENCE_RELEASE = "0.14.0"
REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache" / "benchmarks"
EXTRAS = "[compat,secure]"
"""What our environments have beside the package: the door from asyncio, and secure and gateway mode."""
KEPT_TREES = 6
"""How many environments of our own trees are kept: about 45 MB each."""
STEP_TIMEOUT = 900.0  # seconds

_LIST_VERSIONS = """
import importlib.metadata, json
print(json.dumps({each.name: each.version for each in importlib.metadata.distributions()}))
"""


class InstallationError(Exception):
    """An environment can't be made; the text has the output of what failed."""


def reference_python() -> Path:
    """The interpreter of the environment with the reference client, which is made if there is none.

    Raises:
        InstallationError: making it failed.
    """
    environment = CACHE / f"reference-{REFERENCE_RELEASE}-{sys.implementation.cache_tag}"
    if not (environment / "bin" / "python").exists():
        make(environment, f"{REFERENCE}=={REFERENCE_RELEASE}")
    return environment / "bin" / "python"


def our_python(tree: Path) -> Path:
    """The interpreter of an environment with our package as it is in a tree now.

    Args:
        tree: where the package's source is.

    Raises:
        InstallationError: making it failed, or the tree changed meanwhile.
    """
    try:
        content = fingerprint(tree)
    except OSError as error:
        raise InstallationError(f"{tree} is no source tree of ours: {error}") from error
    environment = CACHE / f"ours-{sys.implementation.cache_tag}-{content[:16]}"
    if not (environment / "bin" / "python").exists():
        make(environment, f"{tree.resolve()}{EXTRAS}")  # pip takes a bare name for a package's
        if fingerprint(tree) != content:
            shutil.rmtree(environment)
            raise InstallationError(f"{tree} changed while it was installed")
    os.utime(environment)
    remove_long_unused()
    return environment / "bin" / "python"


def remove_long_unused() -> None:
    """Remove the environments of our own trees, but for the few that were used last."""
    ours = CACHE.glob(f"ours-{sys.implementation.cache_tag}-*/")
    latest_first = sorted(ours, key=lambda path: path.stat().st_mtime, reverse=True)
    for environment in latest_first[KEPT_TREES:]:
        shutil.rmtree(environment, ignore_errors=True)


def fingerprint(tree: Path) -> str:
    """What changes with any file that is installed from there, and with the extras."""
    digest = hashlib.sha256(EXTRAS.encode())
    package = (tree / "trio_model_runner").rglob("*.py")
    for path in [tree / "pyproject.toml", *sorted(package)]:
        digest.update(str(path.relative_to(tree)).encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def installed_versions(python: Path) -> dict[str, str]:
    """The distributions of an environment, and their versions."""
    versions: dict[str, str] = json.loads(run(str(python), "-c", _LIST_VERSIONS))
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))


def make(environment: Path, requirement: str) -> None:
    """Make an environment with one requirement, complete or not at all."""
    shutil.rmtree(environment, ignore_errors=True)  # its base interpreter is gone, if it is there
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{environment.name}-", dir=CACHE) as temporary:
        unfinished = Path(temporary) / "environment"
        run(sys.executable, "-m", "venv", str(unfinished))
        pip_install(unfinished / "bin" / "python", requirement)
        unfinished.rename(environment)


def pip_install(python: Path, *arguments: str) -> None:
    """Install something into an environment."""
    run(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments)


def run(*command: str) -> str:
    """Run a step, and return what it printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise InstallationError(f"{' '.join(command)}: not done in {STEP_TIMEOUT:g} s") from error
    if done.returncode:
        output = done.stdout + done.stderr
        raise InstallationError(f"{' '.join(command)}: exit code {done.returncode}\n{output}")
    return done.stdout
