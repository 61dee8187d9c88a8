"""Certificates and contexts of servers, whole and broken, with what becomes of the model.

A node that shows a certificate with which it can't be its model's (secure mode) is given up at once, as one
whose proof is wrong. Everything else might be another next time, such as a gateway that is being renewed, and
is tried as often as `Backoff` says. Both are reported as ``CONNECTION_FAILED``, since no other model fails.
No request is sent before the handshake has shown who is there.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import attrs
import pytest
import trio
from helpers.gateways import make_credentials
from helpers.secure_crunch import ALONE, PARTICIPANT, PROMPT, SERVICE
from helpers.secure_nodes import HOTKEY

from trio_model_runner import Cluster, GatewayCredentials, ProofFailed, SecureCredentials
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.security.tls import client_context, node_context
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.authority import (
    CLIENTS,
    DAY,
    Authority,
    Certificate,
    self_signed,
    server_context,
)

if TYPE_CHECKING:
    from pathlib import Path

Mode = Literal["secure", "gateway"]

AUTHORITY = Authority.make()
NAMESAKE = Authority.make()
STRANGERS = Authority.make("another authority")
BELOW = AUTHORITY.below()
NO_AUTHORITY = AUTHORITY.below(authority=False)

NAMES: dict[Mode, str] = {
    "secure": "model-node-7.crunchdao.internal",
    "gateway": "gateway.example.org",
}
PREFACE = b"PRI * HTTP/2.0"


@attrs.frozen
class Case:
    """A server, and what it means.

    Attributes:
        certificate: makes what it shows, from the name that it should have.
        secure: what is said of it in secure mode; None if it is connected to.
        gateway: what is said of it as a gateway.
        proof: whether that is a failed proof, in secure mode.
        options: of `server_context`.
    """

    certificate: Callable[[str], Certificate] = lambda name: AUTHORITY.issue([name])
    secure: str | None = None
    gateway: str | None = None
    proof: bool = True
    options: dict[str, Any] = attrs.field(factory=dict)


def both(said: str, certificate: Callable[[str], Certificate] | None = None, **options: Any) -> Case:
    """A server that neither mode takes."""
    if certificate is None:
        return Case(secure=said, gateway=said, proof=False, options=options)
    return Case(certificate, secure=said, gateway=said, options=options)


def parent(name: str) -> str:
    return name.partition(".")[2]


CASES = {
    "good": Case(),
    "TLS 1.2": Case(options={"version": ssl.TLSVersion.TLSv1_2}),
    "asks for no certificate": Case(options={"clients": None}),
    "name among others": Case(lambda name: AUTHORITY.issue(["a.example", name, f"*.{parent(name)}"])),
    "name in capitals": Case(lambda name: AUTHORITY.issue([name.upper()])),
    "no usage": Case(lambda name: AUTHORITY.issue([name], usage=None)),
    "intermediate": Case(lambda name: BELOW.issue([name])),
    "expired": both("has expired", lambda name: AUTHORITY.issue([name], first=-2 * DAY, last=-DAY)),
    "not yet valid": both("not yet valid", lambda name: AUTHORITY.issue([name], first=DAY, last=2 * DAY)),
    "another authority": both("not to be trusted", lambda name: STRANGERS.issue([name])),
    "authority of the same name": both("not to be trusted", lambda name: NAMESAKE.issue([name])),
    "self-signed": both("not to be trusted: self", self_signed),
    "missing intermediate": both("local issuer", lambda name: BELOW.issue([name], with_chain=False)),
    "signed by no authority": both("not to be trusted", lambda name: NO_AUTHORITY.issue([name])),
    "for clients": both("certificate purpose", lambda name: AUTHORITY.issue([name], usage=CLIENTS)),
    "another name": both("not valid for", lambda name: AUTHORITY.issue([f"other.{parent(name)}"])),
    "name below": both("not valid for", lambda name: AUTHORITY.issue([f"a.{name}"])),
    "part of a wildcard": both(
        "not valid for", lambda name: AUTHORITY.issue([f"{name[:6]}*.{parent(name)}"])
    ),
    "wildcard of two": both("not valid for", lambda name: AUTHORITY.issue([f"*.{parent(parent(name))}"])),
    "IP address": both("not valid for", lambda name: AUTHORITY.issue(["127.0.0.1"])),
    "e-mail": both("not valid for", lambda name: AUTHORITY.issue([f"node@{name}"])),
    "URI": both("not valid for", lambda name: AUTHORITY.issue([f"https://{name}", "a.example"])),
    "no name": both("not valid for", lambda name: AUTHORITY.issue()),
    "wildcard": Case(lambda name: AUTHORITY.issue([f"*.{parent(name)}"]), secure="itself"),
    "wildcard, TLS 1.2": Case(
        lambda name: AUTHORITY.issue([f"*.{parent(name)}"]),
        secure="itself",
        options={"version": ssl.TLSVersion.TLSv1_2},
    ),
    "common name": Case(lambda name: AUTHORITY.issue(common_name=name), secure="not valid for"),
    "common name and IP address": Case(
        lambda name: AUTHORITY.issue(["127.0.0.1"], common_name=name), secure="not valid for"
    ),
    "TLS 1.1": both("refused the TLS handshake", version=ssl.TLSVersion.TLSv1_1),
    "no HTTP/2": both("needs 'h2'", protocol=None),
    "another protocol": both("needs 'h2'", protocol="http/1.1"),
    "wants another certificate, TLS 1.2": Case(
        secure="refused our certificate",
        proof=False,
        options={"clients": STRANGERS, "version": ssl.TLSVersion.TLSv1_2},
    ),
    "wants another certificate": Case(
        secure="refused our certificate", proof=False, options={"clients": STRANGERS}
    ),
}


@attrs.define
class Server:
    """Shakes hands, and hangs up when it has read something.

    Attributes:
        connections: how many there were.
        received: what came through TLS.
    """

    context: ssl.SSLContext
    connections: int = 0
    received: list[bytes] = attrs.field(factory=list)

    async def serve(self, stream: Any) -> None:
        """Not with `trio.SSLStream`, which does not send the alert that says why a handshake failed."""
        self.connections += 1
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
        with contextlib.suppress(trio.BrokenResourceError):
            while (data := read(tls)) is None:
                await stream.send_all(outgoing.read())
                chunk = await stream.receive_some()
                incoming.write(chunk) if chunk else incoming.write_eof()
            if data:
                self.received.append(data)
            await stream.send_all(outgoing.read())
        await stream.aclose()


def read(tls: ssl.SSLObject) -> bytes | None:
    """What has come, after the handshake; None if more is needed, and nothing if it failed."""
    try:
        return tls.read(65536)
    except ssl.SSLWantReadError:
        return None
    except ssl.SSLError:
        return b""


@pytest.fixture(scope="module")
def credentials(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[Mode, SecureCredentials | GatewayCredentials]:
    directory: Path = tmp_path_factory.mktemp("credentials")
    (directory / "ca.crt").write_bytes(AUTHORITY.pem)
    coordinator = AUTHORITY.issue(["coordinator@example.org"], usage=CLIENTS)
    (directory / "tls.crt").write_bytes(coordinator.chain)
    (directory / "tls.key").write_bytes(coordinator.key_pem)
    (directory / "tls.key").chmod(0o600)
    return {"secure": SecureCredentials.from_directory(directory), "gateway": make_credentials()}


def entry(mode: Mode) -> dict[str, Any]:
    return {
        "deployment_id": "d",
        "model_id": "7",
        "state": "RUNNING",
        "ip": NAMES[mode],
        "port": 443,
        "infos": {"cruncher_wallet_pubkey": PARTICIPANT.address, "cruncher_hotkey": HOTKEY},
    }


@pytest.fixture(autouse=True)
def system_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "authorities.pem").write_bytes(AUTHORITY.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))


ROWS = [
    pytest.param(case, mode, id=f"{name}-{mode}")
    for name, case in CASES.items()
    for mode in NAMES
    if mode == "secure" or not case.options.get("clients")  # gateways ask for no certificate
]


@pytest.mark.parametrize(("case", "mode"), ROWS)
async def test_what_becomes_of_a_model_whose_node_shakes_hands_so(
    autojump_clock: Any, credentials: dict[Mode, Any], case: Case, mode: Mode
) -> None:
    clients = AUTHORITY if mode == "secure" else None
    context = server_context(case.certificate(NAMES[mode]), **{"clients": clients} | case.options)
    said = case.secure if mode == "secure" else case.gateway
    server, network = Server(context), MemoryNetwork()
    async with LocalCrunch(network=network) as crunch, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, [network.listen(NAMES[mode], 443)])
        crunch.orchestrator.announce(entry(mode))
        settings = {"backoff": PROMPT, "health": ALONE, "credentials": credentials[mode]}
        async with Cluster(crunch.config(startup_timeout=30.0, **settings), SERVICE) as cluster:
            await crunch.orchestrator.wait_for_reports(1)
            report, error = crunch.reports[0], cluster.announced["7"].error
        nursery.cancel_scope.cancel()
    assert report["failure_code"] == "CONNECTION_FAILED"
    if said is None:  # the server hung up all the same, so the model is reported
        assert server.received
        assert all(each.startswith(PREFACE) for each in server.received)
        assert not isinstance(error, ProofFailed)
        return
    assert said in report["failure_reason"]
    assert server.received == []
    gives_up_at_once = mode == "secure" and case.proof
    assert isinstance(error, ProofFailed) is gives_up_at_once
    assert (server.connections == 1) is gives_up_at_once
    assert server.connections == 1 or server.connections > PROMPT.attempts  # once more, to make sure


@pytest.mark.parametrize("make", [client_context, node_context])
def test_no_context_renegotiates_or_speaks_what_is_outdated(
    make: Callable[..., ssl.SSLContext], tmp_path: Path
) -> None:
    contexts = [make(tmp_path / "authorities.pem")]
    if make is client_context:
        contexts.append(make())
    for context in contexts:
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
    assert make is client_context or not contexts[0].hostname_checks_common_name
