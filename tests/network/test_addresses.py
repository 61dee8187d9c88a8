"""Host names are sent in the spelling of IDNA 2008; what no resolver takes is an OSError."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_model_runner import (
    ChangeKind,
    Cluster,
    ClusterConfig,
    DynamicSubclassService,
    OrchestratorUnavailable,
    Status,
)
from trio_model_runner.config import Backoff
from trio_model_runner.config.validators import is_host
from trio_model_runner.network import (
    MemoryNetwork,
    Network,
    RestrictedNetwork,
    TCPNetwork,
    ascii_host,
    authority_host,
)
from trio_model_runner.testing import LocalCrunch

SERVICE = DynamicSubclassService("any.Name")
ANYWHERE = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
# These pass the check of the configuration and of what an orchestrator says; the others do not.
UNRESOLVABLE = {
    "snowman": "\N{SNOWMAN}.example",
    "emoji": "\N{PILE OF POO}.la",
    "hyphens in the third and fourth place": "ab--cd.\xfc.example",
    "a name that is too long": ".".join(["a" * 63] * 6),
    "a zone that is not ASCII": "fe80::1%\xe9",
}
NO_HOSTS = {
    "a label that is too long in ASCII": "\xfc" * 60 + ".example",
    "a label that is too long": "a" * 64 + ".example",
    "an empty label": "a..b",
    "an empty name": "",
    "a control character": "a\0b",
    "a control character beside a colon": ":\x1f",
    "a surrogate": "\ud800",
}
EITHER = [*UNRESOLVABLE.values(), *NO_HOSTS.values()]


class Model:
    def predict(self) -> float:
        return 1.0


class Unasked(trio.abc.HostnameResolver):
    """A resolver that nobody must ask."""

    async def getaddrinfo(self, host: object, *more: object) -> list[object]:  # type: ignore[override]
        raise AssertionError(f"the resolver was asked for {host!r}")

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:  # type: ignore[override]
        raise AssertionError("the resolver was asked for a name")


@pytest.fixture
async def unasked() -> None:
    trio.socket.set_custom_hostname_resolver(Unasked())


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("localhost", "localhost"),
        ("Example.ORG.", "Example.ORG."),
        ("a_b", "a_b"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("b\xfccher.example", "xn--bcher-kva.example"),
        ("B\xdcCHER.example.", "xn--bcher-kva.example."),
        ("stra\xdfe.example", "xn--strae-oqa.example"),  # by the rules of 2003: strasse.example
    ],
)
def test_a_name_is_sent_in_ascii(host: str, sent: str) -> None:
    assert ascii_host(host) == sent
    assert ascii_host(sent) == sent


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("localhost", "localhost"),
        ("node.example.", "node.example"),
        ("B\xdcCHER.example.", "xn--bcher-kva.example"),
        ("b\xfccher.example\u3002", "xn--bcher-kva.example"),  # a final dot of Japanese
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%eth0.100", "fe80::1"),
        ("fe80::1%wlan.", "fe80::1"),
    ],
)
def test_the_other_end_is_told_no_final_dot_and_no_zone(host: str, told: str) -> None:
    assert authority_host(host) == told
    assert authority_host(told) == told


@pytest.mark.parametrize("host", EITHER, ids=[*UNRESOLVABLE, *NO_HOSTS])
def test_what_has_no_spelling_in_ascii_is_an_error_of_the_network(host: str) -> None:
    with pytest.raises(socket.gaierror, match="can't be a host's name") as caught:
        ascii_host(host)
    assert caught.value.errno == socket.EAI_NONAME
    assert str(caught.value).isprintable()
    with pytest.raises(socket.gaierror, match="can't be a host's name"):
        authority_host(host)


@given(st.text() | st.from_regex(r"[a-z\xfc.:%-]*", fullmatch=True))
@example(":\x1f")
@example("..:")
@example(f":{'a' * 64}")
def test_any_text_has_a_spelling_or_is_an_error_of_the_network(host: str) -> None:
    try:
        sent = ascii_host(host)
    except OSError:
        return
    assert sent.isascii()
    assert sent.isprintable()
    told = authority_host(host)
    assert sent.startswith(told)
    assert not told.endswith(".") or ":" in told
    sent.encode("idna")  # which Python's own resolver does with it


@pytest.mark.parametrize("host", EITHER, ids=[*UNRESOLVABLE, *NO_HOSTS])
@pytest.mark.parametrize(
    "network", [TCPNetwork(), RestrictedNetwork(MemoryNetwork(), ANYWHERE)], ids=["tcp", "restricted"]
)
async def test_no_resolver_is_asked_for_it(unasked: None, network: Network, host: str) -> None:
    with pytest.raises(socket.gaierror, match="can't be a host's name"):
        await network.connect(host, 1)


@pytest.mark.parametrize("host", UNRESOLVABLE.values(), ids=UNRESOLVABLE)
async def test_a_model_at_such_a_host_is_the_only_one_in_trouble(host: str) -> None:
    assert is_host(host)  # or the orchestrator's entry would be skipped
    entry = {"model_id": "bad", "deployment_id": "d", "state": "RUNNING", "ip": host, "port": 1}
    async with LocalCrunch({"good": Model()}) as crunch:
        config = crunch.config(backoff=Backoff(attempts=1))
        async with Cluster(config, SERVICE) as cluster, cluster.changes() as changes:
            crunch.orchestrator.announce(entry)
            async for change in changes:
                if change.kind is ChangeKind.FAILED:
                    break
            assert change.model is cluster.announced["bad"]
            assert "can't be a host's name" in str(change.error)
            results = (await cluster.call("predict")).by_id
            assert results["good"].value == 1.0
            assert results["bad"].status is Status.ABSENT


@pytest.mark.parametrize("host", UNRESOLVABLE.values(), ids=UNRESOLVABLE)
@pytest.mark.parametrize("network", [TCPNetwork(), MemoryNetwork()], ids=["tcp", "memory"])
async def test_an_orchestrator_at_such_a_host_is_unavailable(
    host: str, network: Network, autojump_clock: MockClock
) -> None:
    config = ClusterConfig("crunch", host, orchestrator_timeout=3, network=network)
    with pytest.raises(OrchestratorUnavailable, match="can't be a host's name"):
        async with Cluster(config, SERVICE):
            pytest.fail("it was entered")


class Renamed(MemoryNetwork):
    """Has a second name for a host, and keeps what it was asked for."""

    def __init__(self, name: str, host: str) -> None:
        super().__init__()
        self.asked: set[str] = set()
        self._name, self._host = name, host

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        self.asked.add(host)
        return await super().connect(self._host if host == self._name else host, port)


@pytest.mark.parametrize(
    ("host", "told"), [("node.example.", "node.example"), ("fe80::1%eth0", "[fe80::1]")], ids=["dot", "zone"]
)
async def test_a_node_is_told_neither_and_the_network_both(
    host: str, told: str, autojump_clock: MockClock
) -> None:
    network = Renamed(host, "node")
    async with LocalCrunch({}, network=network) as crunch, Cluster(crunch.config(), SERVICE) as cluster:
        node = await crunch.add("a", Model(), host="node")
        await cluster.wait_for_models()
        entry = {"model_id": "b", "deployment_id": "d", "state": "RUNNING", "ip": host, "port": node.port}
        crunch.orchestrator.announce(entry)
        await cluster.wait_for_models(count=2)
        await cluster.call("predict", models=[cluster.models["b"]])
        metadata: Any = node.calls[-1].metadata
        assert metadata[":authority"] == f"{told}:{node.port}"
        assert host in network.asked
