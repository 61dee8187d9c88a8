"""A Dask worker is cut off for longer than its lease, with both sides alive, and comes back; with mutual TLS.

Between network namespaces it is cut off from everybody. Where there can be none, relays must do: they cut it
off from the driver and from the scheduler, and it can still reach the nodes, which is harder.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from helpers.dask_cluster import dask_cluster as open_dask_cluster
from helpers.namespaces import own_namespace
from helpers.partition import Line, play_partition
from helpers.relays import open_relays

PATIENT = 90


def test_between_network_namespaces(tmp_path: Path) -> None:
    command = own_namespace()
    if command is None:
        pytest.skip("no network namespaces can be made here; the other test needs none")
    program = [*command, sys.executable, "-m", "helpers.namespaces", str(tmp_path)]
    subprocess.run(
        program,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=PATIENT,
        check=True,
    )


async def test_by_relays(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with open_relays() as relays, open_dask_cluster(tmp_path, workers=1) as cluster:
        address = f"tls://127.0.0.1:{relays.open(port)}"
        _, _, scheduler_port = cluster.address.rpartition(":")
        cluster.start_workers(
            1,
            *("--listen-address", f"tls://127.0.0.1:{port}", "--contact-address", address),
            scheduler=f"tls://127.0.0.1:{relays.open(int(scheduler_port))}",
        )
        with trio.fail_after(PATIENT):
            await play_partition(
                cluster, Line(address, relays.passing.clear, relays.passing.set), "127.0.0.1"
            )
