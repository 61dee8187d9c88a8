"""Model nodes as processes: started, killed, frozen and started again on ports of their own.

A port is reserved by a socket that is bound to it and does not listen. gRPC's servers share a port with
whoever lets them, so the node can listen on it and nobody else gets it by chance, also while the node is
dead; whoever connects then is refused, as it should be.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

__all__ = ["NodeLauncher", "NodePool", "NodeProcess"]

HOST = "127.0.0.1"
MODELS = Path(__file__).parent / "models"
FORKING = Path(__file__).parent / "forking.py"
START_TIMEOUT = 60.0  # seconds until a node listens
POLL_INTERVAL = 0.01  # seconds

_deployments = itertools.count(1)


class NodeLauncher:
    """Starts processes with the node software, and waits for them: they are children of a process of its own.

    Args:
        python: the interpreter of the node software.
    """

    def __init__(self, python: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment |= {"PYTHONPATH": str(MODELS / "base"), "PYTHONUNBUFFERED": "1"}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._parent = subprocess.Popen(
            [str(python), "-P", str(FORKING)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._asking = threading.Lock()

    def start(self, arguments: Sequence[str], output: Path) -> int:
        """Start a process whose output is appended to a file, and give its id."""
        process = self._ask(do="start", arguments=arguments, output=str(output))
        assert process is not None
        return process

    def wait(self, process: int, options: int = 0) -> int | None:
        """Wait as `os.waitpid` does, and give the status; None if there is none yet, with WNOHANG."""
        return self._ask(do="wait", node=process, options=options)

    def _ask(self, **request: Any) -> int | None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        with self._asking:
            self._parent.stdin.write(json.dumps(request) + "\n")
            self._parent.stdin.flush()
            answer: int | None = json.loads(self._parent.stdout.readline())
            return answer

    def close(self) -> None:
        """End all processes."""
        self._parent.communicate(timeout=10.0)


class NodeProcess:
    """One node, serving the model in `models/TEMPER`.

    Attributes:
        model_id: what the orchestrator calls the model.
        deployment_id: the same for all the lives of this node.
        port: where it listens, on `HOST`.
    """

    def __init__(
        self, launcher: NodeLauncher, temper: str, directory: Path, *, model_id: str | None = None
    ) -> None:
        self.model_id = temper if model_id is None else model_id
        self.deployment_id = f"deployment-{next(_deployments)}"
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reservation.bind((HOST, 0))
        self.port: int = self._reservation.getsockname()[1]
        self._arguments = ["--address", f"{HOST}:{self.port}", "--log-level", "debug"]
        self._arguments += ["--code-directory", str(MODELS / temper)]
        self._output = directory / f"{self.deployment_id}-{self.model_id}.log"
        self._launcher = launcher
        self._pid: int | None = None
        self._ended = True

    def start(self) -> None:
        """Start the process; `wait_ready` waits for it."""
        self._pid, self._ended = self._launcher.start(self._arguments, self._output), False

    def wait_ready(self) -> None:
        """Wait until it listens; not for Trio's thread while Trio has anything else to do."""
        deadline = time.monotonic() + START_TIMEOUT
        while not self._listens():
            assert self.alive, f"the node of {self.model_id} has ended:\n{self.output}"
            assert time.monotonic() < deadline, f"the node of {self.model_id} does not listen:\n{self.output}"
            time.sleep(POLL_INTERVAL)

    def _listens(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), timeout=1.0).close()
        except OSError:
            return False
        return True

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        if not self._ended:
            self._ended = self._launcher.wait(self.pid, os.WNOHANG) is not None
        return not self._ended

    @property
    def pid(self) -> int:
        """The process's id, of its latest life."""
        assert self._pid is not None
        return self._pid

    @property
    def output(self) -> str:
        """What it printed and logged, in all its lives."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def count_holdings(self) -> int:
        """How often its model has begun to hold, or to hang."""
        return self.output.count(" is holding\n")

    def kill(self) -> None:
        """End it as an abrupt death does, frozen or not."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
            self._launcher.wait(self.pid)
            self._ended = True

    def freeze(self) -> None:
        """Stop it in its tracks; its sockets stay open."""
        os.kill(self.pid, signal.SIGSTOP)
        self._launcher.wait(
            self.pid, os.WUNTRACED
        )  # until then, some of its threads may still run, and answer

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it and give up its port."""
        self.kill()
        self._reservation.close()

    def entry(self, state: str = "RUNNING") -> dict[str, Any]:
        """What an orchestrator says of it."""
        return {
            "deployment_id": self.deployment_id,
            "model_id": self.model_id,
            "state": state,
            "ip": HOST if state == "RUNNING" else "",
            "port": self.port if state == "RUNNING" else 0,
            "infos": {"model_name": f"the {self.model_id} one", "cruncher_id": "7", "cruncher_name": "ada"},
        }


class NodePool:
    """Nodes that live until the pool is closed.

    Args:
        launcher: what starts them.
        directory: for their output.
    """

    def __init__(self, launcher: NodeLauncher, directory: Path) -> None:
        self._launcher = launcher
        self._directory = directory
        self._nodes: list[NodeProcess] = []

    @property
    def nodes(self) -> Collection[NodeProcess]:
        """All nodes, also those that have ended."""
        return self._nodes

    def create(self, temper: str, model_id: str | None = None) -> NodeProcess:
        """Make a node, which is not started."""
        node = NodeProcess(self._launcher, temper, self._directory, model_id=model_id)
        self._nodes.append(node)
        return node

    def start(self, *tempers: str, model_ids: Sequence[str] | None = None) -> list[NodeProcess]:
        """Start nodes side by side, and wait until all of them listen; by default, tempers are the ids."""
        nodes = [self.create(*pair) for pair in zip(tempers, model_ids or tempers, strict=True)]
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_ready()
        return nodes

    def close(self) -> None:
        """End all nodes."""
        for node in self._nodes:
            node.close()
