"""The other side of the line, kept running while clients come and go: the fleets and the orchestrator."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from entries import Entry

__all__ = ["FleetName", "Platform", "running_platform"]

HERE = Path(__file__).parent

FleetName: TypeAlias = Literal["grpcio", "cheap", "secure", "gateway"]
"""`fleet`, which is grpcio's server, and the modes of `cheap_fleet`."""


@dataclass(frozen=True)
class Platform:
    """What runs.

    Attributes:
        port: the orchestrator's.
        directory: has a directory of the coordinator's credentials for each fleet that wants some.
        entries: what the orchestrator says of the nodes, by fleet.
    """

    port: int
    directory: Path
    entries: Mapping[str, list[Entry]]

    def credentials(self, fleet: FleetName) -> str:
        """The directory of the coordinator's credentials for a fleet; empty if it wants none."""
        return str(self.directory / fleet) if fleet in ("secure", "gateway") else ""


@contextmanager
def running_platform(python: Path, nodes: Mapping[FleetName, int]) -> Iterator[Platform]:
    """Run fleets of so many nodes and their orchestrator.

    Args:
        python: an interpreter with grpcio, websockets and the reference client's messages.
        nodes: how many nodes, by fleet.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleets = {
            name: stack.enter_context(running(fleet_command(python, name, count, directory)))
            for name, count in nodes.items()
        }
        entries = {name: json.loads(first_line(fleet)) for name, fleet in fleets.items()}
        orchestrator = stack.enter_context(running([str(python), str(HERE / "orchestrator.py")]))
        assert orchestrator.stdin is not None
        orchestrator.stdin.write(json.dumps(entries) + "\n")
        orchestrator.stdin.flush()
        yield Platform(int(first_line(orchestrator)), directory, entries)


def fleet_command(python: Path, name: FleetName, count: int, directory: Path) -> list[str]:
    """What runs a fleet."""
    if name == "grpcio":
        return [str(python), str(HERE / "fleet.py"), str(count)]
    command = [sys.executable, str(HERE / "cheap_fleet.py"), str(count)]
    if name == "cheap":
        return command
    credentials = directory / name
    credentials.mkdir()
    return [*command, name, str(credentials)]


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a process that ends when its standard input does."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    """What a process says when it is ready."""
    output = process.stdout
    assert output is not None
    line = output.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended before it was ready")
    return line
