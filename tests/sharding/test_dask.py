"""Shards on a Dask cluster: where they go, and what happens when a worker or the driver does not answer."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from distributed.security import Security
from helpers.coordinating import SERVICE, Model
from helpers.dask_cluster import DaskCluster
from helpers.dask_cluster import dask_cluster as open_dask_cluster
from helpers.served_shards import SCRIPTED

import trio_model_runner
from trio_model_runner.errors import ConfigError
from trio_model_runner.sharding import ShardedCluster, dask
from trio_model_runner.sharding.dask import DaskEngine, DaskShard
from trio_model_runner.sharding.engine import ShardLost
from trio_model_runner.testing import LocalCrunch

DRIVER = """
import sys, trio
from distributed import Security
from trio_model_runner.sharding.dask import DaskEngine
from helpers.served_shards import SCRIPTED

async def main():
    security = Security(**dict(zip(
        ["tls_ca_file", "tls_client_cert", "tls_client_key"], sys.argv[3:]
    )), require_encryption=True)
    engine = DaskEngine(sys.argv[1], security=security, serve=SCRIPTED)
    async with engine.running():
        shard = await engine.launch(0, sys.argv[2].encode())
        print((await shard.receive()).decode(), flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@asynccontextmanager
async def running(cluster: DaskCluster, serve: str = SCRIPTED) -> AsyncIterator[DaskEngine]:
    engine = DaskEngine(cluster.address, security=cluster.security, serve=serve)
    with trio.fail_after(60):
        async with engine.running():
            yield engine


async def launch(engine: DaskEngine, index: int, first_message: bytes) -> DaskShard:
    shard = await engine.launch(index, first_message)
    assert isinstance(shard, DaskShard)
    return shard


async def test_each_shard_has_a_worker_of_its_own(dask_cluster: DaskCluster) -> None:
    async with running(dask_cluster) as engine:
        shards = [await launch(engine, index, b"deaf") for index in range(2)]
        processes = {await shard.receive() for shard in shards}
        assert {str(worker.pid).encode() for worker in dask_cluster.workers} == processes
        with pytest.raises(
            ShardLost,
            match=r"^shard 2 can't be started: the Dask cluster has 2 workers, and each has a shard: ",
        ):
            await engine.launch(2, b"deaf")
        await shards[0].aclose()
        await launch(engine, 2, b"deaf")


async def test_with_too_few_workers_nothing_is_called(dask_cluster: DaskCluster) -> None:
    engine = DaskEngine(dask_cluster.address, security=dask_cluster.security)
    with trio.fail_after(60):
        async with LocalCrunch({"model": Model}) as crunch:
            with pytest.raises(ShardLost, match="the Dask cluster has 2 workers, "):
                async with ShardedCluster(crunch.config(), SERVICE, shards=3, engine=engine):
                    raise AssertionError("it was entered")
            assert (crunch.orchestrator.connections, crunch.node("model").connections) == (0, 0)
            assert not crunch.node("model").setups


async def test_workers_without_this_package_or_with_another_release(tmp_path: Path) -> None:
    lacking, other = tmp_path / "lacking", tmp_path / "other"
    lacking.mkdir()
    (lacking / "trio_model_runner.py").write_text("raise ModuleNotFoundError('there is none')")
    package = Path(trio_model_runner.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__")
    messages = shutil.copytree(package, other / package.name, ignore=ignored) / "sharding" / "messages.py"
    messages.write_text(re.sub(r"(?m)^VERSION = \d+$", "VERSION = 99", messages.read_text()))
    with open_dask_cluster(tmp_path, workers=0) as cluster:
        workers = [
            cluster.start_workers(1, "--host", "127.0.0.1", python_path=[str(each)])[0]
            for each in (lacking, other)
        ]
        errors = []
        async with running(cluster) as engine:
            for _ in workers:  # a worker that has failed is the last choice
                with pytest.raises(ShardLost, match=r"^shard 0 can't be started: its worker ") as caught:
                    await engine.launch(0, b"echo")
                errors.append(str(caught.value))
        assert [worker.poll() for worker in workers] == [None, None]
    assert any(
        "can't import this package: ModuleNotFoundError: there is none; it must have the same" in e
        for e in errors
    )
    assert any("speaks version 99 of the messages between driver and shards, and this" in e for e in errors)


async def test_a_scheduler_without_this_package(
    dask_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask, "_VERSION", "no_such_package:VERSION")
    with pytest.raises(
        ShardLost, match=r"the Dask scheduler at tls:.* can't import this package: .*; it must have the same"
    ):
        async with running(dask_cluster):
            pass


async def test_certificates_of_another_authority(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async def refusal(security: Security | None) -> str:
        with trio.fail_after(20), pytest.raises(ShardLost) as caught:  # Dask would try for 30 s
            async with DaskEngine(dask_cluster.address, security=security).running():
                pass
        assert "PRIVATE KEY" not in str(caught.value)
        return str(caught.value)

    strange = Security.temporary()
    said = await refusal(strange)
    assert said.startswith(f"no connection to the Dask scheduler at {dask_cluster.address}: ")
    assert said.endswith("is the certificate in `security` of its authority?")
    security = Security(
        require_encryption=True,
        tls_ca_file=dask_cluster.security.tls_ca_file,
        tls_client_cert=strange.tls_client_cert,
        tls_client_key=strange.tls_client_key,
    )
    assert (await refusal(security)).endswith("is the certificate in `security` of its authority?")
    assert (await refusal(None)).endswith(
        "`security` must have tls_ca_file, tls_client_cert and tls_client_key"
    )


async def test_a_driver_that_is_cancelled_can_still_say_goodbye(dask_cluster: DaskCluster) -> None:
    heard = []
    with trio.CancelScope() as scope:
        async with running(dask_cluster) as engine:
            shard = await launch(engine, 0, b"echo hello")
            heard.append(await shard.receive())
            scope.cancel()
            with trio.move_on_after(10, shield=True):
                await shard.send(b"goodbye")
                heard.append(await shard.receive())
    assert heard == [b"hello", b"goodbye"]  # out here, where no cancellation replaces what is raised


async def test_what_a_worker_can_not_import_is_said(dask_cluster: DaskCluster) -> None:
    async with running(dask_cluster, "no.such:thing") as engine:
        shard = await launch(engine, 0, b"")
        with pytest.raises(ShardLost, match=r"(?s)shard 0 ended.*No module named 'no'"):
            await shard.receive()
        assert not shard.failed


async def test_a_lost_worker_is_no_ended_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "_RETRY_SECONDS", 0.5)
    monkeypatch.setattr(dask, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(dask, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(dask, "_END_SECONDS", 0.1)
    monkeypatch.setattr(dask, "_CANCEL_SECONDS", 0.1)
    with open_dask_cluster(tmp_path) as cluster:
        async with running(cluster) as engine:
            first = await launch(engine, 0, b"deaf")
            process = int(await first.receive())
            os.kill(process, signal.SIGKILL)
            with pytest.raises(ShardLost, match="shard 0: "):
                await first.receive()
            assert first.failed
            second = await launch(engine, 0, b"deaf")
            other = int(await second.receive())
            assert other != process
            os.kill(other, signal.SIGSTOP)
            with pytest.raises(ShardLost, match="shard 0: its worker does not answer"):
                await second.receive()
            for shard in (first, second):
                await shard.aclose()
                assert not shard.exited.is_set()
            os.kill(other, signal.SIGKILL)
            gone = r"its worker .* (is gone|can't be reached: .*)|.* no worker"
            with pytest.raises(ShardLost, match=rf"shard 1 can't be started: ({gone})$"):
                await engine.launch(1, b"echo")
            with pytest.raises(ShardLost, match=rf"shard 1 can't be started: ({gone})$"):  # when it knows
                await engine.launch(1, b"echo")


async def test_an_actor_that_was_made_anew_is_another(dask_cluster: DaskCluster) -> None:
    async with running(dask_cluster) as engine:
        shard = await launch(engine, 0, b"echo a")
        assert await shard.receive() == b"a"
        shard._name, name = "another's", shard._name
        await shard.send(b"b")
        with pytest.raises(ShardLost, match="made anew"):
            await shard.receive()
        assert not shard.exited.is_set()
        shard._name = name
        await shard.aclose()
        assert shard.exited.is_set()


async def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "_CONNECT_SECONDS", 0.2)
    with pytest.raises(
        ShardLost, match=r"no connection to the Dask scheduler at tcp://127\.0\.0\.1:1: OSError: "
    ):
        async with DaskEngine("tcp://127.0.0.1:1").running():
            pass


def test_without_the_extra_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install '.\[dask\]'"):
        DaskEngine("tcp://127.0.0.1:1")


async def test_a_shard_ends_with_its_driver(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    file = tmp_path / "said"
    security = dask_cluster.security
    certificates = [security.tls_ca_file, security.tls_client_cert, security.tls_client_key]
    driver = await trio.lowlevel.open_process(
        [sys.executable, "-c", DRIVER, dask_cluster.address, f"until_lost {file}", *certificates],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert driver.stdout is not None
    with trio.fail_after(60):
        await driver.stdout.receive_some()
        driver.kill()
        await driver.wait()
        while not file.exists() or not file.read_text():  # noqa: ASYNC110 - nothing tells of files
            await trio.sleep(0.05)
    await driver.stdout.aclose()
    assert file.read_text() == "the driver has let go of it"
