"""The process that all nodes are forked from: it has imported what takes longest, so they start in no time.

It is run by the interpreter of the node software, with nothing of ours on its path, and does nothing but fork
and collect. A forked node then runs the node software's own program from its beginning. Only pandas is there
already: gRPC's own threads would not survive a fork.

It takes requests as lines of JSON, and answers each with a line: the process id of a node that it starts, or
the status of one that it waits for. When its input ends, for whatever reason, it kills and collects them all.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import sys
import traceback
from typing import Any, NoReturn


def main() -> None:
    """Do what is asked, until nobody asks any more."""
    import pandas  # noqa: F401 - nodes find it imported

    nodes: set[int] = set()
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "start":
                answer = os.fork()
                if answer == 0:
                    become(request)
                nodes.add(answer)
            else:
                ended, answer = os.waitpid(request["node"], request["options"])
                if ended == 0:
                    answer = None
                elif not os.WIFSTOPPED(answer):
                    nodes.discard(ended)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        for node in nodes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(node, signal.SIGKILL)
        for node in nodes:
            os.waitpid(node, 0)


def become(request: dict[str, Any]) -> NoReturn:
    """Be a node, to the end; what comes after this call is for the parent alone."""
    status = 1
    try:
        output = os.open(request["output"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for descriptor, own in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
            os.dup2(descriptor, own)
        sys.argv[1:] = request["arguments"]
        runpy.run_module("model_runner.server", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
