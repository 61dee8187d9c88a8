"""What a configuration says of security, and that it never becomes less than was asked for."""

from __future__ import annotations

import ipaddress
import logging
import os
import ssl
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from helpers.documents import block
from helpers.secure_nodes import write_credentials

from trio_model_runner import Cluster, TrainInferService
from trio_model_runner.config import ClusterConfig
from trio_model_runner.errors import ConfigError
from trio_model_runner.network import MemoryNetwork, RestrictedNetwork, TCPNetwork, UnixNetwork
from trio_model_runner.network.named_hosts import NamedHosts
from trio_model_runner.security import GatewayCredentials, SecureCredentials
from trio_model_runner.security.node_security import GatewaySecurity, NodeSecurity, SecureSecurity

PREFIX = "TRIO_MODEL_RUNNER_"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_credentials(tmp_path_factory.mktemp("credentials"), trustme.CA())
    key = rsa.generate_private_key(65537, 2048)
    path = directory / "key.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return directory


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv(f"{PREFIX}CRUNCH_ID", "c")


def refusal(make: Any = ClusterConfig.load, **fields: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        make(**fields)
    return str(raised.value)


def refuse(**fields: Any) -> str:
    return refusal(ClusterConfig, crunch_id="c", **fields)


def test_the_orchestrator_is_spoken_to_in_plaintext_unless_told_otherwise() -> None:
    assert ClusterConfig("c").tls is False
    assert ClusterConfig("c").orchestrator_tls() is None


def test_tls_trusts_the_system_or_a_file_or_what_a_context_does(directory: Path) -> None:
    system = ClusterConfig("c", tls=True).orchestrator_tls()
    assert system is not None
    assert system.verify_mode is ssl.CERT_REQUIRED
    context = ssl.create_default_context()
    assert ClusterConfig("c", tls=context).orchestrator_tls() is context
    for config in (
        ClusterConfig("c", tls_ca_file=str(directory / "ca.crt")),
        ClusterConfig("c", tls_ca_file=directory / "ca.crt", tls=True),
    ):
        assert config.tls is True
        own = config.orchestrator_tls()
        assert own is not None
        assert len(own.get_ca_certs()) == 1
        assert own.check_hostname


def test_tls_that_contradicts_itself_is_refused(directory: Path) -> None:
    path = directory / "ca.crt"
    assert (
        refuse(tls=False, tls_ca_file=path)
        == "tls: is false, and tls_ca_file asks for TLS: leave out one of them"
    )
    assert "leave out tls_ca_file" in refuse(tls=ssl.create_default_context(), tls_ca_file=path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    assert refuse(tls=server) == "tls: must be a context for clients, got one for servers"


def test_an_authorities_file_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    assert refuse(tls_ca_file=path) == f"tls_ca_file: cannot read {str(path)!r}: No such file or directory"
    path.write_text("nothing")
    assert refuse(tls_ca_file=path) == f"tls_ca_file: {str(path)!r}: holds no certificate in PEM format"
    assert refuse(tls_ca_file="").startswith("tls_ca_file: must be the path of a file")


def test_an_authorities_file_that_goes_away_is_an_error_and_not_plaintext(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    trustme.CA().cert_pem.write_to_path(path)
    config = ClusterConfig("c", tls_ca_file=path)
    path.unlink()
    with pytest.raises(ConfigError, match="cannot read"):
        config.orchestrator_tls()


def test_what_stands_in_the_place_of_credentials_is_not_shown() -> None:
    rule = "credentials: must be an instance of SecureCredentials or GatewayCredentials, or None"
    assert refuse(credentials={"key": "secret"}) == f"{rule}, got a value of type dict"
    assert refuse(credentials=SecureCredentials) == f"{rule}, got the class SecureCredentials itself"
    assert "secret" not in refuse(credentials="secret")


def test_a_configuration_with_credentials_shows_no_secret(directory: Path) -> None:
    for credentials in (
        SecureCredentials.from_directory(directory),
        GatewayCredentials.from_directory(directory),
    ):
        config = ClusterConfig("c", credentials=credentials)
        assert config == attrs.evolve(config)
        assert "BEGIN" not in repr(config)
        assert "PrivateKey" not in repr(config)


def test_everything_is_loaded_from_a_file(tmp_path: Path, directory: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        f"""
        [trio-model-runner]
        tls = "yes"
        tls_ca_file = '{directory / "ca.crt"}'
        credentials-mode = "secure"
        credentials-path = '{directory}'
        clock_leeway = 3
        allowed_networks = ["10.0.0.0/8", "fd00::/8"]
        """
    )
    config = ClusterConfig.load(path)
    assert config.tls is True
    assert config.tls_ca_file == directory / "ca.crt"
    assert config.credentials == SecureCredentials.from_directory(directory)
    assert config.clock_leeway == 3.0
    assert config.allowed_networks == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("fd00::/8"),
    )


def test_everything_is_loaded_from_the_environment(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setenv(f"{PREFIX}TLS", "true")
    monkeypatch.setenv(f"{PREFIX}CREDENTIALS_MODE", "gateway")
    monkeypatch.setenv(f"{PREFIX}CREDENTIALS_PATH", str(directory))
    monkeypatch.setenv(f"{PREFIX}ALLOWED_NETWORKS", "10.0.0.0/8, 192.0.2.7")
    config = ClusterConfig.load()
    assert config.tls is True
    assert config.credentials == GatewayCredentials.from_directory(directory)
    assert config.allowed_networks == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("192.0.2.7/32"),
    )
    monkeypatch.setenv(f"{PREFIX}ALLOWED_NETWORKS", "off")
    assert ClusterConfig.load().allowed_networks is None


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CREDENTIALS_MODE": "secure"}, "credentials_mode: needs a credentials_path"),
        (
            {"CREDENTIALS_MODE": "secure", "CREDENTIALS_PATH": ""},
            "credentials_mode: needs a credentials_path",
        ),
        ({"CREDENTIALS_PATH": "/etc"}, "credentials_path: needs a credentials_mode, 'secure' or 'gateway'"),
        (
            {"CREDENTIALS_MODE": "none", "CREDENTIALS_PATH": "/etc"},
            "credentials_mode: must be 'secure' or 'gateway', got another value (not shown) (from",
        ),
        (
            {"CREDENTIALS_MODE": "Gateway", "CREDENTIALS_PATH": "/etc"},
            "credentials_mode: must be 'secure' or 'gateway', got another value (not shown) (did you mean",
        ),
        (
            {"CREDENTIALS_MODE": "secure", "CREDENTIALS_PATH": "/nowhere"},
            "credentials_path: cannot read '/nowhere/ca.crt': No such file or directory",
        ),
        (
            {"CREDENTIALS_MODE": "gateway", "CREDENTIALS_PATH": "/nowhere"},
            "credentials_path: cannot read '/nowhere/key.pem': No such file or directory",
        ),
        ({"TLS_CA_FILE": "/nowhere"}, "tls_ca_file: cannot read '/nowhere': No such file or directory"),
        (
            {"TLS": "false", "TLS_CA_FILE": "{ca}"},
            "tls: is false, and tls_ca_file asks for TLS: leave out one of them",
        ),
        ({"TLS": "maybe"}, "tls: must be true or false, or an ssl.SSLContext, got 'maybe'"),
        ({"ALLOWED_NETWORKS": ""}, "allowed_networks: must be networks such as '10.0.0.0/8', or 'off'"),
        ({"ALLOWED_NETWORKS": "10.0.0.1/8"}, "allowed_networks: must be networks"),
        ({"ALLOWED_NETWORKS": "10.0.0.0/8;"}, "allowed_networks: must be networks"),
        ({"CLOCK_LEEWAY": "inf"}, "clock_leeway: must be a finite number of seconds >= 0"),
        ({"CREDENTIALS": "x"}, "unknown in the environment"),
    ],
)
def test_what_can_not_be_loaded_is_an_error_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, directory: Path, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value.format(ca=directory / "ca.crt"))
    text = refusal()
    assert text.startswith(said)
    assert "environment" in text


@pytest.mark.parametrize("value", [(), ["10.0.0.0/8", 7], [None], "nonsense", 7, {"10.0.0.0/8"}])
def test_allowed_networks_are_networks(value: Any) -> None:
    assert refuse(allowed_networks=value).startswith("allowed_networks: must be networks")


def test_nodes_are_reached_through_the_allowed_networks_alone() -> None:
    network = TCPNetwork()
    assert ClusterConfig("c", network=network).node_network is network
    config = ClusterConfig("c", network=network, allowed_networks=["10.0.0.0/8"])
    assert isinstance(config.node_network, RestrictedNetwork)
    assert config.network is network


@pytest.fixture(scope="module")
def gateway(directory: Path) -> GatewayCredentials:
    return GatewayCredentials.from_directory(directory)


def test_gateways_are_reached_by_the_given_names_alone(gateway: GatewayCredentials) -> None:
    network = TCPNetwork()
    hosts = ["Gateway.example.org.", ".bücher.example", "::ffff:10.0.0.1"]
    config = ClusterConfig("c", network=network, credentials=gateway, gateway_hosts=hosts)
    assert config.gateway_hosts == ("gateway.example.org", ".xn--bcher-kva.example", "10.0.0.1")
    assert isinstance(config.node_network, NamedHosts)
    assert config == attrs.evolve(config)
    both = attrs.evolve(config, allowed_networks=["10.0.0.0/8"])
    assert isinstance(both.node_network, NamedHosts)
    assert isinstance(both.node_network._network, RestrictedNetwork)


def test_gateway_hosts_are_loaded_from_a_file_and_the_environment(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "settings.toml"
    table = f"[trio-model-runner]\ncredentials_mode = 'gateway'\ncredentials_path = '{directory}'\n"
    path.write_text(f"{table}gateway_hosts = ['gateway.example.org', '.example.net']")
    assert ClusterConfig.load(path).gateway_hosts == ("gateway.example.org", ".example.net")
    monkeypatch.setenv(f"{PREFIX}GATEWAY_HOSTS", ".Example.org, 192.0.2.7")
    assert ClusterConfig.load(path).gateway_hosts == (".example.org", "192.0.2.7")
    monkeypatch.setenv(f"{PREFIX}GATEWAY_HOSTS", "off")
    assert ClusterConfig.load(path).gateway_hosts is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "got (): 'off' allows all"),
        (7, "got 7"),
        ([None], "got None"),
        ("", "got '': it is no host name"),
        ([".example.org", "*.example.org"], "got '*.example.org': a suffix begins with its dot, without '*'"),
        ("a.example.org;b.example.org", "got 'a.example.org;b.example.org': it is no host name"),
        ("any", "got 'any': it is no host; 'off' alone allows all"),
        ([".example.org", "OFF"], "got 'off': it is no host; 'off' alone allows all"),
        (["127.1"], "got '127.1': it is no host name, and no IP address in full"),
    ],
)
def test_gateway_hosts_are_names(gateway: GatewayCredentials, value: Any, said: str) -> None:
    rule = "gateway_hosts: must be names such as 'gateway.example.org' or '.example.org', or 'off'"
    assert refuse(credentials=gateway, gateway_hosts=value) == f"{rule}, {said}"


def test_gateway_hosts_that_would_have_no_effect_are_refused(directory: Path) -> None:
    for credentials in (None, SecureCredentials.from_directory(directory)):
        text = refuse(credentials=credentials, gateway_hosts=[".example.org"])
        assert text.startswith("gateway_hosts: needs GatewayCredentials")


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("orchestrator.example.org", True),
        ("10.0.0.1", True),
        ("localhost.example.org", True),
        ("localhost", False),
        ("orchestrator.LOCALHOST.", False),
        ("127.8.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", True),
        ("0.0.0.0", False),  # noqa: S104 - the kernel connects it to this machine
        ("localhost6", False),
        ("ip6-localhost", False),
        ("localhost66", True),
    ],
)
def test_credentials_with_an_orchestrator_in_plaintext_are_warned_of_once(
    gateway: GatewayCredentials, caplog: pytest.LogCaptureFixture, host: str, warned: bool
) -> None:
    Cluster(ClusterConfig("c", host, credentials=gateway), TrainInferService())
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warned
    assert all(f"{host!r} is spoken to without TLS" in message for message in caplog.messages)


def test_an_orchestrator_is_not_warned_of_without_credentials_or_with_tls(
    gateway: GatewayCredentials, caplog: pytest.LogCaptureFixture
) -> None:
    class Tunnel(MemoryNetwork):
        secure = True

    for settings in (
        {},
        {"credentials": gateway, "tls": True},
        {"credentials": gateway, "tls": ssl.create_default_context()},
        {"credentials": gateway, "network": Tunnel()},
        {"credentials": gateway, "network": MemoryNetwork()},
        {"credentials": gateway, "network": UnixNetwork("/run/orchestrator")},
    ):
        ClusterConfig("c", "orchestrator.example.org", **settings).orchestrator_tls()  # type: ignore[arg-type]
    assert not caplog.records


def test_a_cluster_speaks_with_its_nodes_as_its_credentials_say(directory: Path) -> None:
    for credentials, kind in (
        (SecureCredentials.from_directory(directory), SecureSecurity),
        (GatewayCredentials.from_directory(directory), GatewaySecurity),
        (None, NodeSecurity),
    ):
        cluster = Cluster(ClusterConfig("c", credentials=credentials), TrainInferService())
        # A cluster that was not entered connects to nobody, and nothing public says how it would.
        assert type(cluster._resources.security) is kind


def test_the_example_in_the_readme_loads(tmp_path: Path, directory: Path) -> None:
    example = block("security/README.md#how-to-set-it/2")
    example = example.replace("/etc/birds/orchestrator-ca.crt", str(directory / "ca.crt"))
    path = tmp_path / "settings.toml"
    path.write_text(example.replace("/etc/birds/credentials", str(directory)))
    config = ClusterConfig.load(path)
    assert config.tls is True
    assert config.credentials == SecureCredentials.from_directory(directory)
    assert config.allowed_networks is not None


def test_the_example_in_python_does(directory: Path) -> None:
    names: dict[str, Any] = {}
    exec(block("security/README.md#how-to-set-it").replace("/etc/birds/credentials", str(directory)), names)
    assert names["config"].tls is True
    assert names["config"].credentials == SecureCredentials.from_directory(directory)
