"""A Dask cluster of processes on this machine, with TLS: a scheduler, and two workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

__all__ = ["DaskCluster", "dask_cluster"]

_PATIENT = 60.0


@attrs.frozen
class DaskCluster:
    """The cluster.

    Attributes:
        address: of its scheduler.
        security: for its clients.
        workers: the processes.
    """

    address: str
    security: Any
    workers: tuple[subprocess.Popen[bytes], ...]


@contextmanager
def dask_cluster(directory: Path) -> Iterator[DaskCluster]:
    from distributed.security import Security

    made = Security.temporary()
    files = {}
    for name in ("tls_ca_file", "tls_scheduler_cert", "tls_scheduler_key"):
        files[name] = directory / name
        files[name].write_text(getattr(made, name))
    tls = ["--tls-ca-file", files["tls_ca_file"], "--tls-cert", files["tls_scheduler_cert"]]
    tls += ["--tls-key", files["tls_scheduler_key"]]
    security = Security(
        require_encryption=True,
        tls_ca_file=str(files["tls_ca_file"]),
        tls_client_cert=str(files["tls_scheduler_cert"]),
        tls_client_key=str(files["tls_scheduler_key"]),
    )
    file = directory / "scheduler.json"
    with ExitStack() as stack:
        stack.enter_context(
            _process("scheduler", "--scheduler-file", file, "--port", "0", *tls, directory=directory)
        )
        workers = tuple(
            stack.enter_context(
                _process(
                    "worker",
                    "--scheduler-file",
                    file,
                    "--no-nanny",
                    "--nthreads",
                    "1",
                    *tls,
                    directory=directory,
                )
            )
            for _ in range(2)
        )
        until = time.monotonic() + _PATIENT
        while not file.exists() or len((directory / "log").read_text().split("Registered to")) < 3:
            assert time.monotonic() < until, (directory / "log").read_text()
            time.sleep(0.05)
        yield DaskCluster(json.loads(file.read_text())["address"], security, workers)


@contextmanager
def _process(role: str, *words: object, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", f"distributed.cli.dask_{role}", "--host", "127.0.0.1", "--no-dashboard"]
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [*command, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "DASK_DISTRIBUTED__WORKER__DAEMON": "0",
            },
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
