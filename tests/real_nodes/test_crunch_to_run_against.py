"""The chapter "A crunch to run against": its program leads a coordinator to its own nodes and a real one."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import trio
from helpers.documents import block

import trio_model_runner
from trio_model_runner import Cluster, ClusterConfig, DynamicSubclassService

from .node_process import NodeLauncher, NodePool

PROGRAM = "testing/README.md#a-crunch-to-run-against"
BASE = "testing/README.md#a-crunch-to-run-against/2"
MODEL = "testing/README.md#a-crunch-to-run-against/3"


async def test_a_coordinator_is_led_to_all_nodes(
    launcher: NodeLauncher, pool: NodePool, tmp_path: Path
) -> None:
    code = tmp_path / "robin"
    code.mkdir()
    (code / "bird.py").write_text(block(BASE))
    (code / "main.py").write_text(block(MODEL))
    (tmp_path / "crunch.py").write_text(block(PROGRAM))
    node = pool.create(str(code), "robin")
    node.start()
    await trio.to_thread.run_sync(node.wait_ready)
    paths = [str(Path(trio_model_runner.__file__).parents[1]), *sys.path[1:]]
    with (tmp_path / "config.toml").open("wb") as settings:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-W", "error", "crunch.py", str(node.port)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=settings,
        )
    try:
        with trio.fail_after(60):
            while not (tmp_path / "config.toml").read_text().endswith("\n"):  # noqa: ASYNC110
                await trio.sleep(0.01)
            config = ClusterConfig.load(tmp_path / "config.toml")
            async with Cluster(config, DynamicSubclassService("bird.Tracker")) as cluster:
                ticked = await cluster.call("predict")
                assert sorted(ticked.by_id) == sorted(["robin", "wren", f"real-{node.port}"])
                assert [result.unwrap() for result in ticked.values()] == [0, 0, 0]
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()
