"""A private key that stands where a program names a host, a socket or a class is in no error, log or repr."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from trio_model_runner import Arguments, Cluster, DynamicSubclassService, TrainInferService
from trio_model_runner.channel import Channel
from trio_model_runner.config import ClusterConfig
from trio_model_runner.network import MemoryNetwork, TCPNetwork, UnixNetwork


def pem_of(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


PEM = pem_of(ec.generate_private_key(ec.SECP256R1()))
SHORT_PEM = pem_of(ed25519.Ed25519PrivateKey.generate())
KEYS = {
    "PEM": PEM,
    "short PEM": SHORT_PEM,
    "PEM on one line": PEM.replace("\n", " "),
    "short PEM on one line": SHORT_PEM.replace("\n", ""),
    "one line": PEM.splitlines()[1],
    "body": SHORT_PEM.splitlines()[1],
    "hexadecimal": "9e" * 32,
}
SERVICE = DynamicSubclassService("a.B")
every_key = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)


def said_by(error: BaseException | None) -> Iterator[str]:
    """All that an exception and those behind it say, if they are printed or not."""
    if error is not None:
        yield "".join(traceback.format_exception(error))
        yield from map(str, (error, repr(error), error.args, vars(error), getattr(error, "filename", "")))
        yield from said_by(error.__cause__)
        yield from said_by(error.__context__)


def tells(key: str, text: str) -> bool:
    """Whether a piece of the key is in a text; its first line, and how all keys of a kind begin, are none."""
    lines = (line for line in key.replace(" ", "\n").splitlines() if not line.startswith("-"))
    body = "".join(lines) or key.removeprefix("-----BEGIN PRIVATE KEY-----")
    return any(body[start : start + 12] in text for start in range(0, len(body) - 11, 4))


@every_key
def test_the_search_finds_what_it_looks_for(key: str) -> None:
    assert tells(key, repr(key))


@every_key
@pytest.mark.parametrize(
    "make",
    [
        lambda key: Channel(key),
        lambda key: Channel("localhost", key),
        lambda key: Channel("localhost", ssl=key),
        lambda key: Channel("localhost", ssl=True, server_hostname=key),
        lambda key: DynamicSubclassService(key),
        lambda key: DynamicSubclassService("a.B", key),
        lambda key: DynamicSubclassService("a.B", [key]),
        lambda key: TrainInferService().call_request(key, Arguments(1)),
        lambda key: Cluster(key, SERVICE),
        lambda key: Cluster(ClusterConfig("c"), key),
        lambda key: Cluster(ClusterConfig("c"), [key]),
        lambda key: Cluster(ClusterConfig("c"), SERVICE, on_join=key),
        lambda key: TCPNetwork(key),
        lambda key: UnixNetwork(key.encode()),
        lambda key: UnixNetwork([key]),
    ],
)
def test_what_is_refused_is_not_shown(make: Callable[[Any], object], key: str) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        make(key)
    assert not any(tells(key, text) for text in said_by(raised.value))


@every_key
async def test_a_key_in_place_of_a_sockets_path_is_not_shown(key: str) -> None:
    for make in (UnixNetwork, lambda path: Channel(path=path)):
        if len(key) > 108:  # bytes: no socket has such a path
            with pytest.raises(
                ValueError, match="path: holds PEM text; the path of a socket is wanted"
            ) as raised:
                make(key)
            assert not any(tells(key, text) for text in said_by(raised.value))
        else:
            assert not tells(key, repr(make(key)))
    if len(key) <= 108:
        network = UnixNetwork(key)
        assert not tells(key, repr(ClusterConfig("c", network=network)))
        with pytest.raises(FileNotFoundError, match="not shown") as failed:
            await network.connect("localhost", 1)
        assert not any(tells(key, text) for text in said_by(failed.value))


async def test_a_sockets_path_is_shown(tmp_path: Path) -> None:
    path = "/run/" + "x" * 103
    assert repr(UnixNetwork(path)) == f"UnixNetwork(path={path!r})"
    with pytest.raises(ValueError, match="path: holds 109 characters, more than any socket's path has"):
        UnixNetwork(path + "x")
    assert UnixNetwork(tmp_path).path == str(tmp_path)
    with pytest.raises(TypeError, match="path: must be a str, got bytes"):
        UnixNetwork(b"/run/socket")


@every_key
async def test_a_key_in_place_of_a_host_is_not_shown(key: str) -> None:
    network = TCPNetwork()
    for use in (lambda: network.connect(key, 1), lambda: network.look_up(key)):
        with pytest.raises(socket.gaierror, match="not shown") as raised:
            await use()
        assert not any(tells(key, text) for text in said_by(raised.value))


def test_what_a_channel_needs_is_taken() -> None:
    host = "model-node-13367-of-the-bird-game-2026.crunchdao.internal"
    assert repr(Channel(host, 443, network=MemoryNetwork())) == f"Channel({host!r}, 443)"
    with pytest.raises(TypeError, match="port: must be a whole number, got '443'"):
        Channel("localhost", "443")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"ssl: must be an ssl.SSLContext or True, got str"):
        Channel("localhost", 443, ssl="yes")  # type: ignore[arg-type]
