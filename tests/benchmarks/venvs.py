"""The two environments that are compared, each as its user would have it: package and dependencies.

The reference is a release from PyPI, installed once. Ours is the working tree, copied as `pip install`
does and not linked, so that an edit in the middle of a run changes nothing; it is installed again when
its files have changed. Tools for development stay out of both: what they bring along would count as
start-up time and memory.

Both are made by the interpreter that runs this, under the repository's `.cache`, and under another name
until they are complete: one whose making was interrupted is never found again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["InstallationError", "installed_versions", "our_python", "reference_python"]

REFERENCE = "model-runner-client"
REFERENCE_RELEASE = "0.14.0"
REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache" / "benchmarks"
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


def our_python(tree: Path = REPOSITORY) -> Path:
    """The interpreter of an environment with our package as it is now.

    Args:
        tree: where the package's source is, for those who compare the working tree with another one.

    Raises:
        InstallationError: making it failed.
    """
    environment = CACHE / f"ours-{sys.implementation.cache_tag}"
    python = environment / "bin" / "python"
    installed = environment / "installed-tree"
    current = fingerprint(tree)
    if not python.exists():
        make(environment, str(tree))
    elif not installed.exists() or installed.read_text() != current:
        installed.unlink(missing_ok=True)
        # The second step replaces what has the same version number; the first one sees to new dependencies.
        pip_install(python, str(tree))
        pip_install(python, "--force-reinstall", "--no-deps", str(tree))
    installed.write_text(current)
    return python


def fingerprint(tree: Path) -> str:
    """What changes with any file that is installed from there."""
    digest = hashlib.sha256()
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
