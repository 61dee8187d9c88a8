"""With `gateway_hosts`, a token is for the gateways of these names, whatever the orchestrator says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.gateways import gateway, make_credentials, trust_alone
from helpers.secure_crunch import AUTHORITY, coordinating

from trio_model_runner import GatewayCredentials, Status

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def credentials() -> GatewayCredentials:
    return make_credentials()


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bytes]:
    """What is signed. The system trusts the gateways' authority."""
    trust_alone(AUTHORITY, tmp_path, monkeypatch)
    messages: list[bytes] = []
    sign = GatewayCredentials.sign

    def noting(self: GatewayCredentials, message: bytes) -> bytes:
        messages.append(message)
        return sign(self, message)

    monkeypatch.setattr(GatewayCredentials, "sign", noting)
    return messages


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_another_host_is_not_connected_to_and_nobody_is_blamed(
    credentials: GatewayCredentials, signed: list[bytes], host: str
) -> None:
    hosts = ["gateway.example.org", ".localhost"]
    with gateway() as node:
        entry = node.entry() | {"ip": host}
        async with coordinating(entry, credentials=credentials, gateway_hosts=hosts) as scene:
            assert scene.state(node) == "failed"
            assert "is not among the allowed hosts" in str(scene.error(node))
            assert isinstance(scene.error(node), PermissionError)
            result = (await scene.cluster.call("predict")).by_id["7"]
            assert result.status is Status.ABSENT
            assert "is not among the allowed hosts" in result.detail
            assert scene.connections(node) == 0
            snapshot = scene.cluster.snapshot()
            assert snapshot.reports_pending == snapshot.reports_unsent == 0
        assert scene.crunch.reports == []
        assert node.visits == []
    assert signed == []


@pytest.mark.parametrize(("host", "allowed"), [("127.0.0.1", "127.0.0.1"), ("LocalHost", "localhost")])
async def test_a_host_of_the_list_is_connected_to(
    credentials: GatewayCredentials, signed: list[bytes], host: str, allowed: str
) -> None:
    with gateway() as node:
        entry = node.entry() | {"ip": host}
        async with coordinating(entry, credentials=credentials, gateway_hosts=[allowed]) as scene:
            assert (await scene.cluster.call("predict")).by_id["7"].unwrap() == "here"
    assert signed
