"""Keys, tokens and payloads are in no log, repr or error text, however much is logged."""

from __future__ import annotations

import base64
import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization import load_pem_private_key as load
from helpers.insides import actor_of
from helpers.secure_crunch import AUTHORITY, Node, Scene, answer, busy, coordinating
from helpers.secure_nodes import write_credentials

from trio_model_runner import (
    Arguments,
    DynamicSubclassService,
    GatewayCredentials,
    ModelError,
    SecureCredentials,
)
from trio_model_runner.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import grpc

    from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse

PAYLOADS = ("argument-c6a1", "keyword-c6a1", "setup-c6a1", "answer-c6a1")
SERVICE = DynamicSubclassService("crunch.Model", Arguments("setup-c6a1"))
LOGGERS = ("", "trio_model_runner", "hpack", "hpack.hpack", "hpack.table", "grpclib", "trio-websocket", "h2")


def pieces_of_key(pem: bytes) -> Iterator[str]:
    """What a text with a private key in it would have, whichever way it was written down."""
    yield from (line for line in pem.decode().splitlines() if not line.startswith("-----"))
    key: Any = load(pem, None)
    numbers = key.private_numbers()
    secret = numbers.d if isinstance(key, rsa.RSAPrivateKey) else numbers.private_value
    yield str(secret)
    yield f"{secret:x}"
    yield repr(secret.to_bytes((secret.bit_length() + 7) // 8, "big"))[2:-1]


def written(data: bytes) -> list[str]:
    """How bytes could be written down."""
    return [base64.b64encode(data).decode(), data.hex(), repr(data)[2:-1]]


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, name)
    return caplog


def said(caplog: pytest.LogCaptureFixture) -> str:
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    return "\n".join(map(formatter.format, caplog.records))


def shown(scene: Scene, *objects: Any) -> str:
    """All that can be printed of a cluster, what is private among it: a debugger shows that, too."""
    cluster = scene.cluster
    models = list(cluster.announced.values())
    snapshot = cluster.snapshot()
    things = [cluster, cluster.config, cluster._resources.security, snapshot, snapshot.to_dict(), *models]
    things += [actor_of(model)._steps.node for model in models]
    return "\n".join(f"{thing!r} {thing}" for thing in [*things, *objects])


def temper() -> Any:
    """A node's behaviour: it is busy once, answers twice, and fails from then on."""
    calls = 0

    def behave(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        nonlocal calls
        calls += 1
        if calls == 1:
            return busy(context)
        if calls > 3:
            raise RuntimeError
        return answer("answer-c6a1")

    return behave


async def play(scene: Scene) -> str:
    """Call well and badly; all that the results say, but for their values."""
    arguments = Arguments("argument-c6a1", key="keyword-c6a1")
    good = await scene.cluster.call("predict", arguments)
    assert good.by_id["7"].value == "answer-c6a1"
    texts = [repr(arguments), repr(good), str(good), repr(good.by_id["7"])]
    for returns in (float, None):
        bad = await scene.cluster.call("predict", arguments, returns=returns)
        texts += [repr(bad), str(bad), repr(bad.by_id["7"])]
        with pytest.raises(ModelError) as raised:
            bad.by_id["7"].unwrap()
        texts += traceback.format_exception(raised.value)
    # These are private, too, and printed for the same reason.
    request = scene.cluster._resources.service.call_request("predict", arguments)
    texts += [repr(request), repr(scene.cluster._resources.service), repr(SERVICE.setup_request())]
    return "\n".join(texts)


async def test_a_secure_cluster_tells_nothing(tmp_path: Path, everything: pytest.LogCaptureFixture) -> None:
    directory = write_credentials(tmp_path / "c", AUTHORITY)
    pem = (directory / "tls.key").read_bytes()
    credentials = SecureCredentials.from_directory(directory)
    with Node() as node:
        node.behave = temper()
        async with coordinating(node, service=SERVICE, credentials=credentials) as scene:
            texts = await play(scene)
            texts += shown(scene, credentials, credentials.context)
    assert [visit.method for visit in node.visits].count("Call") == 4
    log = said(everything)
    assert "application/grpc" in log  # headers are in it
    for secret in (*pieces_of_key(pem), *PAYLOADS):
        assert secret not in log
        assert secret not in texts


async def test_a_cluster_behind_a_gateway_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everything: pytest.LogCaptureFixture
) -> None:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "authorities.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    credentials = GatewayCredentials.from_pem(pem)
    with Node(names=("localhost", "127.0.0.1"), mutual=False) as node:
        node.proof = lambda method: ()
        node.behave = temper()
        async with coordinating(node, service=SERVICE, credentials=credentials) as scene:
            texts = await play(scene)
            texts += shown(scene, credentials, scene.cluster._resources.security._tokens)  # type: ignore[attr-defined]
    signatures = {visit.metadata["x-gateway-auth-signature"] for visit in node.visits}
    messages = {visit.metadata["x-gateway-auth-message"] for visit in node.visits}
    assert signatures
    log = said(everything)
    assert "application/grpc" in log  # headers are in it
    tokens = [form for text in signatures for form in (*written(base64.b64decode(text)), text)]
    for secret in (*pieces_of_key(pem), *tokens, *messages, *PAYLOADS):
        assert secret not in log
        assert secret not in texts


@pytest.mark.parametrize("where", ["tls.key", "tls.crt", "ca.crt"])
def test_a_key_in_the_place_of_anything_else_is_not_shown(tmp_path: Path, where: str) -> None:
    """Files are mixed up easily, and an error text is copied into a chat as easily."""
    directory = write_credentials(tmp_path / "c", AUTHORITY)
    pem = (directory / "tls.key").read_bytes()
    (directory / where).write_bytes(b"-----BEGIN NONSENSE-----\n" + pem[pem.index(b"\n") + 1 :])
    with pytest.raises(ConfigError) as raised:
        SecureCredentials.from_directory(directory)
    text = "".join(traceback.format_exception(raised.value))
    assert where in text
    assert not any(piece in text for piece in pieces_of_key(pem))
