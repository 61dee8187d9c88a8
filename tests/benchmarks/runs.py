"""The processes whose figures the table is made of: clients doing a job, and bare imports.

Each run is a fresh process, so nothing of an earlier one is in its memory or its caches. One run yields
several figures (joining, calls, memory), and each is measured in as few runs as will do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from clients import HERE, Client
from job import Job
from platform_processes import FleetName, Platform

__all__ = [
    "ClientRun",
    "Environment",
    "FloorRun",
    "ImportRun",
    "Result",
    "Run",
    "RunError",
    "Workload",
]

TIMEOUT = 600.0  # seconds

Result: TypeAlias = dict[str, Any]
"""What a run prints: times in seconds, sizes in bytes."""

_MEASURE_IMPORT = """
from time import perf_counter, process_time
begun, begun_cpu = perf_counter(), process_time()
exec({statement!r})
elapsed, cpu = perf_counter() - begun, process_time() - begun_cpu
print('{{"seconds": %r, "cpu": %r}}' % (elapsed, cpu))
"""


class RunError(Exception):
    """A run has failed; the text has its output."""


@dataclass(frozen=True)
class Environment:
    """What runs need: an interpreter for each client, and the other side.

    Attributes:
        pythons: the interpreters, by client.
        platform: the nodes and the orchestrator.
        long: measure for the record, not for a glance.
    """

    pythons: Mapping[Client, Path]
    platform: Platform
    long: bool


@dataclass(frozen=True)
class Workload:
    """What a client does, however long it is done.

    Attributes:
        models: how many it joins.
        rounds: how many rounds are measured when it must be quick, and when it is for the record.
        warm_up: how many rounds come before.
        timeout: of a round, s.
        payload_bytes: of the argument; 0 for a small JSON object.
        hesitating: whether some calls are never answered.
        watching: whether stalls of the event loop are watched; of the asyncio clients alone.
        fleet: the nodes that it joins.
    """

    models: int
    rounds: tuple[int, int]
    warm_up: int
    timeout: float = 30
    payload_bytes: int = 0
    hesitating: bool = False
    watching: bool = False
    fleet: FleetName = "grpcio"

    def __str__(self) -> str:
        return f"{self.models} models" + ("" if self.fleet == "grpcio" else f", {self.fleet}")

    def job(self, environment: Environment) -> Job:
        """The same for a client's command line."""
        return Job(
            port=environment.platform.port,
            fleet=self.fleet,
            models=self.models,
            warm_up=self.warm_up,
            rounds=self.rounds[environment.long],
            timeout=self.timeout,
            payload_bytes=self.payload_bytes,
            hesitating=self.hesitating,
            watching=self.watching,
            credentials=environment.platform.credentials(self.fleet),
        )


@dataclass(frozen=True)
class ClientRun:
    """One client with one workload."""

    client: Client
    workload: Workload

    def __str__(self) -> str:
        return f"{self.client.name}, {self.workload}"

    def perform(self, environment: Environment) -> Result:
        """Run it.

        Raises:
            RunError: it fails.
        """
        python = environment.pythons[self.client]
        return measured(str(python), str(self.client.script), self.workload.job(environment).as_argument())


@dataclass(frozen=True)
class ImportRun:
    """One import, before anything else."""

    client: Client
    statement: str

    def __str__(self) -> str:
        return f"{self.client.name}, {self.statement}"

    def perform(self, environment: Environment) -> Result:
        """Run it.

        Raises:
            RunError: it fails.
        """
        program = _MEASURE_IMPORT.format(statement=self.statement)
        # With -P, so that a package in the current directory is not what gets imported.
        return measured(str(environment.pythons[self.client]), "-P", "-c", program)


@dataclass(frozen=True)
class FloorRun:
    """The system calls of a workload alone; see `floor`. `client` is who is measured beside it."""

    client: Client
    workload: Workload

    def __str__(self) -> str:
        return f"floor, {self.workload}"

    def perform(self, environment: Environment) -> Result:
        """Run it.

        Raises:
            RunError: it fails.
        """
        entries = environment.platform.entries[self.workload.fleet][: self.workload.models]
        ports = json.dumps([entry["port"] for entry in entries])
        job = self.workload.job(environment)
        return measured(sys.executable, str(HERE / "floor.py"), job.as_argument(), given=ports + "\n")


Run: TypeAlias = ClientRun | FloorRun | ImportRun


def measured(*command: str, given: str = "") -> Result:
    """What a process prints as its last line.

    Args:
        command: the process.
        given: its standard input.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT, env=environment, input=given
    )
    if done.returncode:
        raise RunError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    time.sleep(0.1)  # the fleet still closes this one's connections
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result
