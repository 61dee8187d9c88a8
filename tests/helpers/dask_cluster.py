"""A Dask cluster of processes on this machine, with TLS: a scheduler, and workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs

__all__ = ["DaskCluster", "bound_to_us", "dask_cluster"]

_PATIENT: Final = 60.0
_REGISTERED: Final = "Registered to"


@attrs.frozen
class DaskCluster:
    """The cluster.

    Attributes:
        address: of its scheduler.
        security: for its clients.
        scheduler: its process.
        workers: those it began with.
        directory: has its files.
    """

    address: str
    security: Any
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]
    directory: Path
    _processes: ExitStack

    def start_workers(
        self,
        count: int,
        *words: str,
        python_path: Sequence[str] = (),
        within: Sequence[str] = (),
        nanny: bool = False,
        scheduler: str = "",
    ) -> list[subprocess.Popen[bytes]]:
        """Start workers, and wait until the scheduler knows them.

        Args:
            count: how many.
            words: more of their command.
            python_path: where they look first for what they import.
            within: the command that they run in.
            nanny: each has one, which is what is returned.
            scheduler: the address that they have of the scheduler, if not its own.
        """
        log = self.directory / f"workers-{time.monotonic_ns()}.log"
        command = ["worker", scheduler or self.address, "--nthreads", "1", *words, *_tls(self.directory)]
        command.append("--nanny" if nanny else "--no-nanny")
        started = [
            self._processes.enter_context(_process(*command, log=log, python_path=python_path, within=within))
            for _ in range(count)
        ]
        until = time.monotonic() + _PATIENT
        while log.read_text().count(_REGISTERED) < count:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        return started


@contextmanager
def dask_cluster(directory: Path, workers: int = 2, host: str = "127.0.0.1") -> Iterator[DaskCluster]:
    """Run a cluster while the block lasts.

    Args:
        directory: for its files.
        workers: how many there are at first.
        host: of its scheduler.
    """
    from distributed.security import Security

    made = Security.temporary()
    for name in ("tls_ca_file", "tls_scheduler_cert", "tls_scheduler_key"):
        (directory / name).write_text(getattr(made, name))
    ca, certificate, key = _tls(directory)[1::2]
    security = Security(
        require_encryption=True, tls_ca_file=ca, tls_client_cert=certificate, tls_client_key=key
    )
    file, log = directory / "scheduler.json", directory / "scheduler.log"
    words = ["scheduler", "--host", host, "--port", "0", "--scheduler-file", str(file), *_tls(directory)]
    with ExitStack() as stack:
        scheduler = stack.enter_context(_process(*words, log=log))
        until = time.monotonic() + _PATIENT
        while not file.exists() or not file.read_text().endswith("}"):
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        cluster = DaskCluster(address, security, scheduler, [], directory, stack)
        if workers:
            cluster.workers.extend(cluster.start_workers(workers, "--host", host))
        yield cluster


def bound_to_us(*command: str) -> list[str]:
    """The command of a process that ends with this one, also if this one is killed, where there is `setpriv`.

    It ends with the thread that starts it, so that must be the main one.
    """
    return [*(("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()), *command]


def _tls(directory: Path) -> list[str]:
    files = {"ca-file": "tls_ca_file", "cert": "tls_scheduler_cert", "key": "tls_scheduler_key"}
    return [word for name, file in files.items() for word in (f"--tls-{name}", str(directory / file))]


@contextmanager
def _process(
    role: str, *words: str, log: Path, python_path: Sequence[str] = (), within: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            bound_to_us(
                *within, sys.executable, "-m", f"distributed.cli.dask_{role}", "--no-dashboard", *words
            ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([*python_path, *sys.path]),
                "DASK_DISTRIBUTED__WORKER__DAEMON": "0",
            },
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started
        process.wait()
