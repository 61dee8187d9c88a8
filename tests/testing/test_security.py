"""A local crunch with certificates, wallets and tokens, in memory and on sockets, and what can be wrong."""

from __future__ import annotations

import base64
import json
import logging
import stat
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, get_args

import pytest
from helpers.coordinating import SERVICE, Model

from trio_model_runner import Cluster, ConfigError, FailureCode, GatewayCredentials, SecureCredentials, Status
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.security.delegation import ConnectionProof
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.faults import WrongCertificate, WrongProof
from trio_model_runner.testing.security import GatewayMode, check_token

if TYPE_CHECKING:
    from pathlib import Path

MODELS = {"a": Model, "b": Model}
REASONS = {
    "missing": "without a proof",
    "expired": "has expired",
    "other wallet": "the node's wallet is",
    "other key": "another TLS key",
    "other model": "has the model_id",
    "other authority": "unable to get local issuer",
    "other name": "is not valid for",
}


def files_in(directory: Path) -> list[Path]:
    return list(directory.rglob("*"))


@pytest.mark.parametrize("network", [MemoryNetwork, lambda: None], ids=["memory", "sockets"])
@pytest.mark.parametrize("security", ["secure", "gateway"])
async def test_models_are_called_in_memory_as_on_sockets(security: Any, network: Any) -> None:
    async with (
        LocalCrunch(MODELS, network=network(), security=security) as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
    ):
        results = await cluster.call("predict")
        assert [result.unwrap() for result in results.values()] == [1.5, 1.5]
        crunch.assert_no_reports()


@pytest.mark.parametrize("when", ["from the start", "later"])
@pytest.mark.parametrize("wrong", get_args(WrongProof))
async def test_a_wrong_proof_is_what_deployed_nodes_would_send(
    autojump_clock: Any, wrong: WrongProof, when: str
) -> None:
    async with LocalCrunch(MODELS, network=MemoryNetwork(), security="secure") as crunch:
        if when == "from the start":
            crunch.node("a").faults.wrong_proof = wrong
        async with Cluster(crunch.config(), SERVICE) as cluster:
            crunch.node("a").faults.wrong_proof = wrong
            results = await cluster.call("predict")
            assert results.by_id["a"].status is (Status.FAILED if when == "later" else Status.ABSENT)
            assert REASONS[wrong] in results.by_id["a"].detail
            assert results.by_id["b"].unwrap() == 1.5
            report = await crunch.wait_for_report("a", FailureCode.CONNECTION_FAILED)
            assert REASONS[wrong] in (report.reason or "")
    assert crunch.node("a").call_count == (when == "later")


@pytest.mark.parametrize("wrong", get_args(WrongCertificate))
@pytest.mark.parametrize("security", ["secure", "gateway"])
async def test_a_wrong_certificate_is_shown_to_new_connections(
    autojump_clock: Any, security: Any, wrong: WrongCertificate
) -> None:
    async with LocalCrunch(MODELS, network=MemoryNetwork(), security=security) as crunch:
        crunch.node("a").faults.wrong_certificate = wrong
        async with Cluster(crunch.config(), SERVICE) as cluster:
            assert REASONS[wrong] in (await cluster.call("predict")).by_id["a"].detail
            crunch.node("a").faults.wrong_certificate = None
            crunch.announce("a")
            await cluster.wait_for_models(2)
            crunch.node("a").faults.wrong_certificate = wrong
            assert len((await cluster.call("predict")).succeeded) == 2


async def test_busy_comes_after_the_proof_as_on_deployed_nodes(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proved = []
    verify = ConnectionProof.verify
    monkeypatch.setattr(
        ConnectionProof, "verify", lambda self, *args, **more: proved.append(1) or verify(self, *args, **more)
    )
    async with (
        LocalCrunch({"a": Model}, network=MemoryNetwork(), security="secure") as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
    ):
        before = len(proved)
        crunch.node("a").faults.busy = True
        assert (await cluster.call("predict", timeout=0.001)).by_id["a"].status is Status.TIMEOUT
        assert len(proved) > before


async def test_a_gateway_refuses_what_is_no_token_of_that_coordinator(autojump_clock: Any) -> None:
    async with LocalCrunch(MODELS, network=MemoryNetwork(), security="gateway") as crunch:
        crunch.node("a").faults.lose_token = True
        async with Cluster(crunch.config(), SERVICE) as cluster:
            results = await cluster.call("predict")
            assert "it has no token" in results.by_id["a"].detail
            assert results.by_id["b"].unwrap() == 1.5
            crunch.node("b").faults.lose_token = True
            result = (await cluster.call("predict")).by_id["b"]
            assert "UNAUTHENTICATED: the gateway refuses the call: it has no token" in result.detail
            crunch.assert_no_reports()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"signed": b"other"}, "the signature on its token is wrong"),
        ({"model_id": "b"}, "its token is for the model 'b'"),
        ({"timestamp": 1_700_000_000}, "its token has the timestamp 1700000000"),
        ({"pubkey": b"other"}, "its token is another coordinator's"),
        ({"message": b"\xff"}, "its token can't be read"),
        ({}, None),
    ],
)
async def test_tokens_are_verified(said: dict[str, Any], why: str | None) -> None:
    credentials = GatewayMode().credentials
    token = {"model_id": "a", "timestamp": int(time.time())}
    message = said.get("message") or json.dumps(token | said, default=str).encode()
    signature = credentials.sign(said.get("signed", message))
    parts = (message, signature, said.get("pubkey", credentials.public_key))
    texts = tuple(base64.b64encode(part).decode() for part in parts)
    assert check_token(texts, "a", credentials.public_key) == why


async def test_crunches_trust_each_other_in_nothing(autojump_clock: Any) -> None:
    async with (
        LocalCrunch({"a": Model}, network=MemoryNetwork(), security="secure") as one,
        LocalCrunch({"a": Model}, network=MemoryNetwork(), security="secure") as other,
        Cluster(one.config(credentials=other.config().credentials), SERVICE) as cluster,
    ):
        assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT


async def test_a_redeployed_model_is_the_same_participants() -> None:
    async with (
        LocalCrunch({"a": Model}, network=MemoryNetwork(), security="secure", settle=True) as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
    ):
        infos = dict(cluster.models["a"].infos)
        await crunch.redeploy("a", Model)
        await crunch.retire("a")
        assert (await cluster.call("predict")).by_id["a"].unwrap() == 1.5
        assert cluster.models["a"].infos == infos
        assert {"cruncher_wallet_pubkey", "cruncher_hotkey"} < set(infos)


async def test_credentials_can_be_loaded_from_files(tmp_path: Path) -> None:
    for security, kind in (("secure", SecureCredentials), ("gateway", GatewayCredentials)):
        directory = tmp_path / security
        directory.mkdir()
        async with LocalCrunch({"a": Model}, network=MemoryNetwork(), security=security) as crunch:  # type: ignore[arg-type]
            crunch.write_credentials(directory)
            credentials = kind.from_directory(directory)
            assert isinstance(crunch.config().credentials, kind)
            if security == "secure":
                async with Cluster(crunch.config(credentials=credentials), SERVICE) as cluster:
                    assert len((await cluster.call("predict")).succeeded) == 1
            (key,) = directory.glob("*key*")
            assert stat.S_IMODE(key.stat().st_mode) == 0o600
            with pytest.raises(FileExistsError):
                crunch.write_credentials(directory)


async def test_no_key_is_left_in_a_file_or_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    caplog.set_level(logging.DEBUG)
    for security in ("secure", "gateway"):
        async with (
            LocalCrunch({"a": Model}, network=MemoryNetwork(), security=security) as crunch,  # type: ignore[arg-type]
            Cluster(crunch.config(), SERVICE) as cluster,
        ):
            await cluster.call("predict")
            assert files_in(tmp_path) == []
    assert "PRIVATE" not in caplog.text


async def test_what_needs_security_says_so() -> None:
    async with LocalCrunch(network=MemoryNetwork()) as crunch:
        with pytest.raises(RuntimeError, match="security='secure'"):
            crunch.write_credentials("anywhere")
    async with LocalCrunch(network=MemoryNetwork(), security="secure") as crunch:
        with pytest.raises(ValueError, match="model_id: 'a b' can't be in a certificate"):
            await crunch.add("a b", Model)
        assert crunch.deployments == ()


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "base58", None)
    with pytest.raises(ConfigError, match=r"\[secure\]"):
        LocalCrunch(security="secure")
