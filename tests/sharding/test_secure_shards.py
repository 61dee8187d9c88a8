"""Shards that are processes, with TLS, proofs and gateways: each loads the credentials for itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model, until

from trio_model_runner import Arguments, GatewayCredentials, ProofFailed
from trio_model_runner.security import SecureCredentials
from trio_model_runner.sharding import ShardedCluster, ShardLost
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.values.results import ModelState

IDS = "abcdef"


def credentials_in(crunch: LocalCrunch, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The crunch's credentials, loaded from files, as a coordinator has them."""
    crunch.write_credentials(directory)
    if (directory / "tls.key").exists():
        return SecureCredentials.from_directory(directory)
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "gateway-ca.crt"))  # shards inherit it
    return GatewayCredentials.from_directory(directory)


def key_of(directory: Path) -> Path:
    (key,) = (path for path in directory.iterdir() if path.name.endswith(("tls.key", "key.pem")))
    return key


def cut_short(path: Path) -> None:
    path.write_text(path.read_text()[:-200])


def check_secret(key: str, text: str) -> None:
    """No line of a key is in a text."""
    assert not [line for line in key.splitlines() if "---" not in line and line in text]


@pytest.mark.parametrize("security", ["secure", "gateway"])
async def test_calls_and_redeployments(
    security: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    joins: list[str] = []

    async def on_join(join: Any) -> None:
        joins.append(join.model.model_id)
        (await join.model.call("tick", Arguments("joined"))).unwrap()

    with trio.fail_after(60):
        async with LocalCrunch(dict.fromkeys(IDS, Model), security=security) as crunch:
            if security == "secure":
                crunch.node("f").faults.wrong_proof = "other wallet"
            else:
                await crunch.remove("f")
            config = crunch.config(credentials=credentials_in(crunch, tmp_path, monkeypatch))
            async with ShardedCluster(config, SERVICE, shards=2, on_join=on_join) as cluster:
                await until(cluster, lambda: len(cluster.models) == 5)
                assert len((await cluster.call("tick", Arguments("a round"))).succeeded) == 5
                if security == "secure":
                    await until(cluster, lambda: cluster.announced["f"].state is ModelState.FAILED)
                    assert isinstance(cluster.announced["f"].error, ProofFailed)
                await crunch.redeploy("a", Model)
                await until(cluster, lambda: joins.count("a") == 2)
                await until(cluster, lambda: len(cluster.models) == 5)
                results = await cluster.call("tick", Arguments("another"))
                assert results.by_id["a"].value == 2
                assert {results.by_id[each].value for each in "bcde"} == {3}
                if security == "secure":
                    assert not crunch.node("f").calls
            assert sorted(joins) == ["a", *"abcde"]
    check_secret(key_of(tmp_path).read_text(), caplog.text)


@pytest.mark.parametrize(("security", "damage"), [("secure", Path.unlink), ("gateway", cut_short)])
async def test_a_key_that_a_shard_can_not_read(
    security: Any,
    damage: Callable[[Path], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The coordinator has read it before, as where a shard's machine has other files."""
    caplog.set_level(logging.DEBUG)
    with trio.fail_after(60):
        async with LocalCrunch({"a": Model}, security=security) as crunch:
            config = crunch.config(credentials=credentials_in(crunch, tmp_path, monkeypatch))
            path = key_of(tmp_path)
            key = path.read_text()
            damage(path)
            with pytest.raises(ShardLost, match=r"shard \d could not be launched: .*ConfigError: ") as caught:
                async with ShardedCluster(config, SERVICE, shards=2):
                    raise AssertionError
    assert str(path) in str(caught.value)
    check_secret(key, str(caught.value) + caplog.text)
