"""Streams to hosts of some names only: which names are the same, and which only look so."""

from __future__ import annotations

import contextlib

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.network import MemoryNetwork, Network
from trio_model_runner.network.named_hosts import NamedHosts, host_pattern


class Anywhere(Network):
    """Connects to nothing, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        self.asked.append(host)
        raise ConnectionRefusedError

    async def look_up(self, host: str) -> None:
        self.asked.append(f"look up {host}")


async def allows(host: str, *allowed: str) -> bool:
    network = Anywhere()
    with contextlib.suppress(OSError):
        await NamedHosts(network, [host_pattern(text) for text in allowed]).connect(host, 443)
    assert network.asked in ([host], [])
    return bool(network.asked)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("gateway.example.org", "gateway.example.org"),
        ("GateWay.Example.ORG.", "gateway.example.org"),
        ("gateway.example.org", "Gateway.example.ORG."),
        ("a.example.org", ".example.org"),
        ("a.b.example.org.", ".Example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "BÜCHER.example"),
        ("a.bücher.example", ".xn--bcher-kva.example"),
        ("gateway。example。org", "gateway.example.org"),
        ("gateway_1", "gateway_1"),
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("FE80:0::1%eth0", "fe80::1"),
    ],
)
async def test_a_host_has_several_spellings(host: str, allowed: str) -> None:
    assert await allows(host, "other.example", allowed)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("example.org", ".example.org"),
        ("evilexample.org", ".example.org"),
        ("example.org.evil.example", ".example.org"),
        ("agateway.example.org", "gateway.example.org"),
        ("a.gateway.example.org", "gateway.example.org"),
        ("gateway.example.org.evil.example", "gateway.example.org"),
        ("gateway.exаmple.org", "gateway.example.org"),  # noqa: RUF001 - a letter that looks like another
        ("10.0.0.1", ".example.org"),
        ("10.0.0.1", "10.0.0.10"),
        ("::1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("gateway.example.org\0.example.org", ".example.org"),
        ("evil.example/.example.org", ".example.org"),
        ("evil.example#.example.org", ".example.org"),
        ("user@a.example.org", ".example.org"),
        ("a..example.org", ".example.org"),
        ("evil.example%.example.org", ".example.org"),
        ("*.example.org", ".example.org"),
        ("-a.example.org", ".example.org"),
        ("a-.example.org", ".example.org"),
        ("a.-b.example.org", ".example.org"),
        (".example.org", ".example.org"),
        ("x" * 300 + ".example.org", ".example.org"),
        ("", "gateway.example.org"),
    ],
)
async def test_what_looks_like_an_allowed_host_is_not_connected_to(host: str, allowed: str) -> None:
    assert not await allows(host, allowed)


async def test_a_host_that_is_not_allowed_is_named() -> None:
    network = NamedHosts(MemoryNetwork(), [".example.org"])
    with pytest.raises(PermissionError) as raised:
        await network.connect("évil.example", 443)
    assert raised.value.strerror == r"'\xe9vil.example' is not among the allowed hosts"


async def test_a_name_is_looked_up_if_it_is_allowed() -> None:
    network = Anywhere()
    named = NamedHosts(network, [".example.org"])
    await named.look_up("a.example.org")
    with pytest.raises(PermissionError):
        await named.look_up("example.net")
    assert network.asked == ["look up a.example.org"]


def test_it_is_as_secure_as_what_it_connects_through() -> None:
    network = MemoryNetwork()
    assert NamedHosts(network, []).secure is network.secure


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no host name"),
        (".", "no host name"),
        ("..example.org", "no host name"),
        ("a..b", "no host name"),
        ("*.example.org", "without '*'"),
        ("a b", "no host name"),
        ("example.org:443", "no host name"),
        ("https://example.org", "no host name"),
        ("[::1]", "no host name"),
        ("-a.example", "no host name"),
        ("☃.example", "no host name"),
        (".10.0.0.1", "no suffix fits"),
        ("127.1", "no IP address in full"),
        (".0x7f", "no IP address in full"),
        ("10.0.0.0/8", "no host name"),
    ],
)
def test_what_is_no_pattern(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        host_pattern(text)


@given(st.text())
def test_any_text_is_a_pattern_or_not(text: str) -> None:
    try:
        pattern = host_pattern(text)
    except ValueError:
        return
    assert host_pattern(pattern) == pattern
    assert pattern.isascii()
