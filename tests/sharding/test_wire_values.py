"""Services, settings and arguments come back from plain values, and no secret is ever among these."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import math
import ssl
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.shard_messages import ENCODED, JSON
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from trio_model_runner import (
    Arguments,
    ClusterConfig,
    ConfigError,
    DynamicSubclassService,
    GatewayCredentials,
    ModelRunnerService,
    SecureCredentials,
    TrainInferService,
    TrainInferStreamService,
)
from trio_model_runner.config import Backoff, Health, Keepalive, Limits, OrchestratorConfig
from trio_model_runner.network import MemoryNetwork, TCPNetwork, UnixNetwork
from trio_model_runner.services import NodeService
from trio_model_runner.sharding.messages import VERSION, Hello
from trio_model_runner.sharding.wire import WireError, decode_from_driver, encode
from trio_model_runner.sharding.wire_values import (
    arguments_from_wire,
    arguments_to_wire,
    config_from_wire,
    config_to_wire,
    service_from_wire,
    service_to_wire,
)
from trio_model_runner.testing.security import GatewayMode, SecureMode

VALUES = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | ENCODED
ARGUMENTS = st.builds(
    lambda positional, keyword: Arguments(*positional, **keyword),
    st.lists(VALUES, max_size=3),
    st.dictionaries(st.text(max_size=9), VALUES, max_size=3),
)
SERVICES: st.SearchStrategy[NodeService] = st.builds(
    DynamicSubclassService, st.just("crunch.Model"), ARGUMENTS
) | st.sampled_from([TrainInferService(), TrainInferStreamService(), ModelRunnerService()])


def sent(plain: Any) -> Any:
    """Plain values, as a shard gets them."""
    hello = decode_from_driver(encode(Hello(VERSION, 0, plain, None)))
    assert isinstance(hello, Hello)
    return hello.config


@given(ARGUMENTS)
def test_arguments_come_back(arguments: Arguments) -> None:
    wire = arguments_to_wire(arguments)
    back = arguments_from_wire(wire)
    assert back.positional == arguments.positional
    assert [*back.keyword.items()] == [*arguments.keyword.items()]
    assert arguments_to_wire(back) == wire
    assert all(
        one.data is other.data for one, other in zip(back.positional, arguments.positional, strict=True)
    )


@given(ARGUMENTS, ARGUMENTS)
def test_two_shapes_are_equal_exactly_if_their_texts_are(one: Arguments, other: Arguments) -> None:
    for second in (other, Arguments(*one.positional, **one.keyword)):
        texts = arguments_to_wire(one).shape, arguments_to_wire(second).shape
        assert (texts[0] == texts[1]) is (one.shape == second.shape)


def test_the_order_of_keywords_makes_no_other_shape() -> None:
    keywords = dict.fromkeys(map(str, range(100)), 1)
    one, other = Arguments(**keywords), Arguments(**dict(reversed(keywords.items())))
    assert arguments_to_wire(one).shape == arguments_to_wire(other).shape


def test_types_with_the_same_name_are_told_apart() -> None:
    def of_new_type() -> Arguments:
        @attrs.frozen
        class Point:
            x: int = 1

        return Arguments(Point())

    one, other = of_new_type(), of_new_type()
    first = arguments_to_wire(one).shape
    assert first != arguments_to_wire(other).shape
    assert first == arguments_to_wire(one).shape
    del one
    gc.collect()
    assert arguments_to_wire(of_new_type()).shape != first


def test_names_that_look_like_types_are_none() -> None:
    """A keyword that spells the end of the text of another shape."""
    assert arguments_to_wire(Arguments(**{'a","builtins.int",0],["b': 1})).shape != (
        arguments_to_wire(Arguments(a=1, b=1)).shape
    )


@given(SERVICES)
def test_services_come_back_and_ask_the_same(service: NodeService) -> None:
    back = service_from_wire(sent(service_to_wire(service)))
    assert back == service
    assert back.instance_name == service.instance_name
    assert b"".join(back.setup_request().message) == b"".join(service.setup_request().message)


@pytest.mark.parametrize(
    "fields",
    [
        {"keyword": [["x", "INT", "AAAAAAAAAAA="], ["x", "INT", "AAAAAAAAAAA="]]},
        {"positional": [["INT", "AAAA!AAAAAAA="]]},
        {"positional": [["NUMBER", "AAAAAAAAAAA="]]},
        {"positional": [[2, "AAAAAAAAAAA="]]},
        {"class_name": "no class"},
        {"more": 1},
        {"": 1},
    ],
)
def test_what_is_no_service_is_refused(fields: dict[str, Any]) -> None:
    plain = service_to_wire(DynamicSubclassService("crunch.Model"))
    with pytest.raises(WireError, match=r"^service: "):
        service_from_wire({**plain, **fields})


@attrs.frozen
class OwnService(TrainInferService):
    pass


def test_a_service_of_the_program_has_no_wire_form() -> None:
    with pytest.raises(TypeError, match="a OwnService has no wire form"):
        service_to_wire(OwnService())


def test_a_service_with_the_name_of_another_has_none_either() -> None:
    kind = type("TrainInferService", (TrainInferService,), {})
    with pytest.raises(TypeError, match="has no wire form"):
        service_to_wire(kind())


@given(SERVICES, st.data())
def test_a_changed_service_is_one_or_refused(service: NodeService, data: DataObject) -> None:
    read_or_refused(service_from_wire, changed(service_to_wire(service), data), WireError)
    read_or_refused(service_from_wire, data.draw(JSON), WireError)


def changed(plain: Any, data: DataObject) -> Any:
    """A copy with another value somewhere, or with one more or fewer."""
    if isinstance(plain, dict) and plain and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(list(plain)))
        return {**plain, key: changed(plain[key], data)}
    if isinstance(plain, list) and plain and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(plain) - 1))
        return [*plain[:place], changed(plain[place], data), *plain[place + 1 :]]
    if isinstance(plain, dict) and data.draw(st.booleans()):
        without = data.draw(st.sampled_from([*plain, "unknown", ""]))
        return {key: value for key, value in plain.items() if key != without} or {without: 1}
    return data.draw(JSON)


def read_or_refused(read: Any, plain: Any, *errors: type[Exception]) -> None:
    with contextlib.suppress(*errors):
        read(plain)


class OwnNetwork(TCPNetwork):
    pass


SECONDS = st.floats(0.001, 1000) | st.just(math.inf)
FINITE = st.floats(0.001, 1000)
PARTS = {
    "backoff": st.builds(Backoff, attempts=st.integers(1, 9), initial=FINITE, connect_timeout=SECONDS),
    "orchestrator": st.builds(OrchestratorConfig, ping_interval=SECONDS, max_models=st.integers(1, 99)),
    "health": st.builds(Health, timeout=SECONDS, require_witness=st.booleans(), unserved=SECONDS),
    "limits": st.builds(
        Limits,
        max_queued_calls=st.just("off") | st.integers(1, 9),
        max_simultaneous_connects=st.none() | st.integers(1, 9),
        max_detail_length=st.integers(1, 9),
    ),
    "keepalive": st.builds(Keepalive, interval=SECONDS, timeout=SECONDS),
}
CONFIGS = st.builds(
    ClusterConfig,
    st.sampled_from(["bird-game", "inf", "off"]),
    st.sampled_from(["localhost", "inf", "::1"]),
    st.integers(1, 65535),
    timeout=SECONDS,
    startup_timeout=SECONDS,
    report_failures=st.booleans(),
    max_consecutive_timeouts=st.none() | st.integers(0, 9),
    allowed_networks=st.none() | st.just(["10.0.0.0/8", ipaddress.ip_network("fd00::/8")]),
    frames=st.sampled_from(["arrow", "pandas"]),
    network=st.builds(TCPNetwork, FINITE),
    **PARTS,
)


@given(CONFIGS)
def test_settings_come_back(config: ClusterConfig) -> None:
    assert config_from_wire(sent(config_to_wire(config))) == config


def test_settings_come_back_once_their_types_are_resolved() -> None:
    """`ClusterConfig.load` has attrs resolve the types of the fields, which are texts before."""
    config = ClusterConfig("inf", timeout=math.inf, backoff=Backoff(connect_timeout=math.inf))
    for kind in (ClusterConfig, *(type(part) for part in (config.backoff, config.health, config.limits))):
        attrs.resolve_types(kind)
    assert config_from_wire(sent(config_to_wire(config))) == config


@given(CONFIGS, st.data())
def test_changed_settings_are_some_or_refused(config: ClusterConfig, data: DataObject) -> None:
    read_or_refused(config_from_wire, changed(config_to_wire(config), data), WireError, ConfigError)
    read_or_refused(config_from_wire, data.draw(JSON), WireError, ConfigError)


@pytest.mark.parametrize("path", ["/\0", "/nowhere", "relative", "/" + "x" * 5000, "", None, 5, "/dev/null"])
@pytest.mark.parametrize("mode", ["secure", "gateway", "none"])
def test_credentials_that_are_not_there_are_refused(mode: str, path: Any) -> None:
    names = {"secure": ["ca_cert_path", "tls_cert_path", "tls_key_path"], "gateway": ["key_path"], "none": []}
    plain = {
        **config_to_wire(ClusterConfig("bird-game")),
        "credentials": {"mode": mode, **dict.fromkeys(names[mode], path)},
    }
    with pytest.raises((ConfigError, WireError), match="credentials"):
        config_from_wire(plain)


def test_what_the_driver_alone_needs_stays_there(tmp_path: Path) -> None:
    SecureMode().write_credentials(tmp_path)
    with_file = ClusterConfig("bird-game", tls_ca_file=tmp_path / "ca.crt")
    with_context = ClusterConfig("bird-game", tls=ssl.create_default_context())
    plain = config_to_wire(ClusterConfig("bird-game"))
    assert config_to_wire(with_file) == config_to_wire(with_context) == plain


def test_secure_credentials_are_loaded_from_their_files(tmp_path: Path) -> None:
    SecureMode().write_credentials(tmp_path)
    config = ClusterConfig("bird-game", credentials=SecureCredentials.from_directory(tmp_path))
    plain = sent(config_to_wire(config))
    assert_no_secret(plain, tmp_path / "tls.key")
    assert config_from_wire(plain) == config
    (tmp_path / "tls.key").unlink()
    with pytest.raises(ConfigError, match=r"^credentials: cannot read .*tls\.key"):
        config_from_wire(plain)


def test_a_gateways_key_is_loaded_from_its_file(tmp_path: Path) -> None:
    GatewayMode().write_credentials(tmp_path)
    for credentials in (
        GatewayCredentials.from_directory(tmp_path),
        GatewayCredentials.from_files(key_path=str(tmp_path / "key.pem")),
    ):
        config = ClusterConfig("bird-game", credentials=credentials, gateway_hosts=[".example.org"])
        plain = sent(config_to_wire(config))
        assert_no_secret(plain, tmp_path / "key.pem")
        assert config_from_wire(plain) == config


def assert_no_secret(plain: Any, key: Path) -> None:
    text = encode(Hello(VERSION, 0, plain, None)).decode(errors="replace")
    assert "PRIVATE" not in text
    assert not any(line in text for line in key.read_text().split())


def test_a_relative_path_is_the_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    GatewayMode().write_credentials(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = ClusterConfig("bird-game", credentials=GatewayCredentials.from_directory("."))
    plain = config_to_wire(config)
    assert plain["credentials"]["key_path"] == str(tmp_path / "key.pem")
    with pytest.raises(WireError, match="absolute"):
        config_from_wire({**plain, "credentials": {"mode": "gateway", "key_path": "key.pem"}})


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        ({"credentials": "a key"}, ["credentials: shards load them from files, and a key that"]),
        ({"credentials": "an SSL context"}, ["credentials: shards load them from files, and an SSL context"]),
        ({"network": MemoryNetwork()}, ["network: shards connect by TCP alone, and a MemoryNetwork"]),
        ({"network": OwnNetwork()}, ["network: shards connect by TCP alone, and a OwnNetwork"]),
        ({"network": UnixNetwork("/x")}, ["network: shards connect by TCP alone"]),
        ({"network": MemoryNetwork(), "credentials": "a key"}, ["credentials: ", "network: "]),
    ],
)
def test_what_can_not_be_sent_is_named(change: dict[str, Any], problems: list[str], tmp_path: Path) -> None:
    GatewayMode().write_credentials(tmp_path)
    pem = (tmp_path / "key.pem").read_bytes()
    if change.get("credentials") == "a key":
        change = {**change, "credentials": GatewayCredentials.from_pem(pem)}
    elif "credentials" in change:
        loaded = GatewayCredentials.from_directory(tmp_path)
        change = {**change, "credentials": attrs.evolve(loaded, tls=ssl.create_default_context())}
    config = ClusterConfig("bird-game", **change)
    with pytest.raises(ConfigError) as refused:
        config_to_wire(config)
    assert len(refused.value.problems) == len(problems)
    for problem, beginning in zip(refused.value.problems, problems, strict=True):
        assert problem.startswith(beginning)


def test_shards_can_have_a_network_of_their_own() -> None:
    network = MemoryNetwork()
    config = ClusterConfig("bird-game", network=network)
    plain = sent(config_to_wire(config, network=False))
    assert config_from_wire(plain, network=network) == config
    with pytest.raises(WireError, match=r"config\.network"):
        config_from_wire(plain)
