"""The other side of the line, kept running while clients come and go: the fleet and the orchestrator."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

__all__ = ["running_platform"]

HERE = Path(__file__).parent


@contextmanager
def running_platform(python: Path, nodes: int) -> Iterator[int]:
    """Run a fleet of so many nodes and its orchestrator; the orchestrator's port.

    Args:
        python: an interpreter with grpcio, websockets and the reference client's messages.
        nodes: how many nodes.
    """
    with ExitStack() as stack:
        fleet = stack.enter_context(running([str(python), str(HERE / "fleet.py"), str(nodes)]))
        ports = json.loads(first_line(fleet))
        orchestrator = stack.enter_context(running([str(python), str(HERE / "orchestrator.py")]))
        assert orchestrator.stdin is not None
        orchestrator.stdin.write(json.dumps(ports) + "\n")
        orchestrator.stdin.flush()
        yield int(first_line(orchestrator))


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
