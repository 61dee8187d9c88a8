"""Credentials of the asyncio client are taken for ours, and nodes in secure mode are called with them."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from helpers.from_asyncio import in_asyncio, runner_for
from helpers.secure_crunch import AUTHORITY, Node

from trio_model_runner import ConfigError
from trio_model_runner import GatewayCredentials as OurGatewayCredentials
from trio_model_runner.compat import GatewayCredentials, ModelPredictResult, SecureCredentials
from trio_model_runner.compat.credentials import to_credentials
from trio_model_runner.testing import LocalCrunch


@dataclasses.dataclass(frozen=True)
class TheirSecureCredentials:
    """As `model_runner_client.security.credentials` has them (0.14.0)."""

    ca_bytes: bytes
    cert_bytes: bytes
    key_bytes: bytes


@dataclasses.dataclass(frozen=True)
class TheirGatewayCredentials:
    """As `model_runner_client.security.gateway_credentials` has them (0.14.0)."""

    private_key: rsa.RSAPrivateKey


def made_by(authority: trustme.CA) -> TheirSecureCredentials:
    certificate = authority.issue_cert("coordinator.example.org")
    chain, key = certificate.cert_chain_pems[0], certificate.private_key_pem
    return TheirSecureCredentials(authority.cert_pem.bytes(), chain.bytes(), key.bytes())


def files_in(directory: Path) -> list[Path]:
    return [*directory.iterdir()]


async def test_secure_nodes_are_called_with_their_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def program() -> list[ModelPredictResult]:
        async with runner_for(crunch, secure_credentials=made_by(AUTHORITY)) as runner:
            return list((await runner.call("predict")).values())

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        async with LocalCrunch() as crunch:
            with Node() as node:
                crunch.orchestrator.announce(node.entry())
                (result,) = await in_asyncio(program)
    assert (result.status.name, result.result) == ("SUCCESS", "here")
    assert files_in(tmp_path) == []  # no key was left there
    assert caplog.messages == []  # nor was it open to others


def test_what_can_not_be_used_is_refused_without_a_word_of_the_key() -> None:
    good, other = made_by(AUTHORITY), made_by(trustme.CA())
    mixed = dataclasses.replace(good, key_bytes=other.key_bytes)
    with pytest.raises(ConfigError) as caught:
        to_credentials(mixed, None)
    assert "tls.key" in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_a_gateways_key_signs_as_theirs_does(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    (tmp_path / "key.pem").write_bytes(pem(key))
    (tmp_path / "key.pem").chmod(0o600)
    made_as_theirs = [
        TheirGatewayCredentials(key),
        GatewayCredentials(private_key=key),
        GatewayCredentials.from_pem(pem(key)),
        GatewayCredentials.from_files(
            tmp_path / "none.crt", tmp_path / "key.pem"
        ),  # as there, it is not read
    ]
    for each in made_as_theirs:
        credentials = to_credentials(None, each)
        assert isinstance(credentials, OurGatewayCredentials)
        key.public_key().verify(credentials.sign(b"token"), b"token", padding.PKCS1v15(), SHA256())
        assert to_credentials(None, credentials) is credentials
    assert "private_key" not in repr(made_as_theirs[1:])


def test_a_gateways_key_must_be_rsa(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(TypeError, match=r"gateway_credentials: must be .* with an RSA key"):
        to_credentials(None, TheirGatewayCredentials(other))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be an RSA key"):
        GatewayCredentials.from_pem(pem(other))
    with pytest.raises(ConfigError, match="cannot read"):
        GatewayCredentials.from_files(tmp_path / "cert.pem", tmp_path / "key.pem")


def test_ours_are_taken_as_they_are(tmp_path: Path) -> None:
    theirs = made_by(AUTHORITY)
    for name, content in zip(("ca.crt", "tls.crt", "tls.key"), dataclasses.astuple(theirs), strict=True):
        (tmp_path / name).write_bytes(content)
    ours = SecureCredentials.from_directory(tmp_path)
    assert to_credentials(ours, None) is ours
    assert to_credentials(None, None) is None
