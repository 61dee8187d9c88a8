"""The commands beside the node software that is deployed: `check` sets nobody up, and `call` only one."""

from __future__ import annotations

import json
import sys

import trio

from .clusters import announced
from .node_process import NodePool

COMMAND = [sys.executable, "-W", "error", "-m", "trio_model_runner"]


async def test_check_and_call(pool: NodePool) -> None:
    nodes = pool.start("steady", "broken", "empty")
    dead = pool.create("steady", "dead")
    async with announced([*nodes, dead]) as crunch:
        place = ["--crunch-id", crunch.orchestrator.crunch_id, "--port", str(crunch.orchestrator.port)]
        place += ["--host", "127.0.0.1", "--json"]
        ended = await trio.run_process(
            [*COMMAND, "check", *place], capture_stdout=True, capture_stderr=True, check=False
        )
        assert (ended.returncode, ended.stderr) == (1, b"")
        found = {row["model_id"]: row["trouble"] for row in json.loads(ended.stdout)["nodes"]}
        assert found.pop("dead")["what"] == "nothing listens"
        assert found == dict.fromkeys(("steady", "broken", "empty"))
        assert "Setup" not in "".join(node.output for node in nodes)

        arguments = ["call", "echo", "[1.5, null]", "--model", "steady", "--class", "tracker.Tracker"]
        ended = await trio.run_process(
            [*COMMAND, *arguments, *place], capture_stdout=True, capture_stderr=True, check=False
        )
        assert b"'steady' had no instance, so one was made" in ended.stderr
        assert json.loads(ended.stdout)["value"] == [1.5, None]
        assert ended.returncode == 0
        assert "Setup of the model requested" in nodes[0].output
        assert "Setup" not in "".join(node.output for node in nodes[1:])
    assert crunch.reports == []
