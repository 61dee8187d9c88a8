"""The process from which all others are forked, and which takes them along when it ends.

Thirty interpreters that each import everything would take longer to start than the test may take. This one
has imported it, and forks a node in milliseconds; so a script can kill and restart nodes as it likes. It runs
no event loop and no threads, which fork would break.

It never collects the dead before the end: so a process id that was handed out stays its process's, and a
signal can't hit a stranger. When the other end of its socket closes, for whatever reason, it kills them all,
whatever state they are in, collects them, and ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from . import node_process, orchestrator_process, relay_process

__all__ = ["MAX_REQUEST_BYTES"]

MAX_REQUEST_BYTES = 65536


def main() -> None:
    """Fork a process for each request: a JSON object, and the socket that is to be its control channel."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    processes: list[int] = []
    try:
        while True:
            data, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, 1)
            if not data:
                break
            process = os.fork()
            if process == 0:
                become(json.loads(data), requests, descriptors[0])
            processes.append(process)
            os.close(descriptors[0])
            requests.send(str(process).encode())
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for process in processes:
            os.waitpid(process, 0)


def become(request: dict[str, Any], requests: socket.socket, descriptor: int) -> NoReturn:
    """Be the process that is asked for, to the end; what comes after this call is for the parent alone."""
    status = 1
    try:
        requests.close()
        control = socket.socket(fileno=descriptor)
        if request["role"] == "orchestrator":
            orchestrator_process.run(request, control)
        elif request["role"] == "relay":
            relay_process.run(request, control)
        elif request["role"] == "grpcio-node":
            from . import grpcio_node  # not before: gRPC's own threads don't survive a fork

            grpcio_node.run(request, control)
        else:
            node_process.run(request, control)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
