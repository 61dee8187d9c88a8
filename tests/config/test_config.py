"""Every setting is checked when it is made, and a wrong one is named, with where it was read."""

from __future__ import annotations

import inspect
import itertools
import math
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.config import (
    Backoff,
    ClusterConfig,
    Health,
    Keepalive,
    Limits,
    OrchestratorConfig,
)
from trio_model_runner.config.validators import is_host
from trio_model_runner.errors import ConfigError
from trio_model_runner.network import MemoryNetwork, TCPNetwork

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "TRIO_MODEL_RUNNER_"
PARTS = {
    "backoff": Backoff,
    "orchestrator": OrchestratorConfig,
    "health": Health,
    "limits": Limits,
    "keepalive": Keepalive,
}


def message_of(make: Any, **fields: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make(**fields)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def test_defaults() -> None:
    config = ClusterConfig("bird-game")
    assert (config.host, config.port, config.timeout) == ("localhost", 9091, 10.0)
    assert (config.max_consecutive_failures, config.max_consecutive_timeouts) == (3, 3)
    assert config.network == TCPNetwork()
    assert list(config.backoff.delays()) == [2, 4, 8, 16]


def test_positional_arguments_end_after_the_port() -> None:
    assert ClusterConfig("c", "example.org", 1).port == 1
    with pytest.raises(TypeError):
        ClusterConfig("c", "example.org", 1, 10.0)  # type: ignore[call-arg]


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        ClusterConfig("c").timeout = 1.0  # type: ignore[misc]


def test_whole_numbers_become_floats_where_a_float_is_asked_for() -> None:
    config = ClusterConfig("c", timeout=3)
    assert config.timeout == 3.0
    assert isinstance(config.timeout, float)
    assert ClusterConfig("c", timeout=10**400).timeout == math.inf


def test_off_is_no_limit() -> None:
    config = ClusterConfig("c", max_consecutive_failures="off", max_consecutive_timeouts=None)
    assert config.max_consecutive_failures is None
    assert config.max_consecutive_timeouts is None


def all_fields() -> list[tuple[type, attrs.Attribute[Any]]]:
    return [(kind, field) for kind in (ClusterConfig, *PARTS.values()) for field in attrs.fields(kind)]


@pytest.mark.parametrize(
    ("kind", "field"), all_fields(), ids=lambda item: getattr(item, "name", None) or item.__name__
)
def test_every_field_is_documented(kind: type, field: attrs.Attribute[Any]) -> None:
    assert f"\n    {field.name}: " in (inspect.getdoc(kind) or "")


NUMBERS = [(kind, field) for kind, field in all_fields() if isinstance(field.default, int | float)]


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind, field in NUMBERS if not isinstance(field.default, bool)],
    ids=lambda item: getattr(item, "name", None) or item.__name__,
)
@pytest.mark.parametrize("wrong", [True, -1, math.nan, "10", -math.inf])
def test_numbers_refuse_booleans_text_and_negatives(
    kind: type, field: attrs.Attribute[Any], wrong: Any
) -> None:
    fields = {"crunch_id": "c"} if kind is ClusterConfig else {}
    assert message_of(kind, **fields | {field.name: wrong}).endswith(f", got {wrong!r}") or wrong == -1


@pytest.mark.parametrize("crunch_id", ["", "a/b", "a b", "a\tb", "a\nb", "\x1b[31m", "\u2003", "\ud800"])
def test_crunch_id_is_one_segment_of_a_path(crunch_id: str) -> None:
    assert "crunch_id: must be a name" in message_of(ClusterConfig, crunch_id=crunch_id)


@pytest.mark.parametrize("port", [0, 65536, 9091.0])
def test_port_is_in_range(port: Any) -> None:
    assert "port: must be a whole number >= 1 and <= 65535" in message_of(
        ClusterConfig, crunch_id="c", port=port
    )


HOSTS = [
    "localhost",
    "example.org",
    "a_b",
    "10.0.0.1",
    "::1",
    "fe80::1%eth0",
    "bücher.example",
    "example.org.",
]
NOT_HOSTS = [
    "",
    "localhost:9091",
    "[::1]",
    "ws://x",
    "a b",
    "a..b",
    "x" * 64,
    "a\0b",
    "a\n",
    "user@host",
    "1::2::3",
]


@pytest.mark.parametrize("host", HOSTS)
def test_hosts(host: str) -> None:
    assert ClusterConfig("c", host).host == host


@pytest.mark.parametrize("host", NOT_HOSTS)
def test_what_no_resolver_can_be_asked_for_is_no_host(host: str) -> None:
    assert "host: must be a host name" in message_of(ClusterConfig, crunch_id="c", host=host)


@given(st.text())
def test_any_text_is_a_host_or_not(text: str) -> None:
    assert is_host(text) in (True, False)


def test_bounds() -> None:
    assert ClusterConfig("c", startup_timeout=0, scope_margin=0, timeout=math.inf).timeout == math.inf
    assert message_of(ClusterConfig, crunch_id="c", timeout=0) == (
        "timeout: must be a number of seconds > 0, got 0.0"
    )
    assert "finite" in message_of(ClusterConfig, crunch_id="c", shutdown_grace=math.inf)
    assert "frames: must be 'arrow' or 'pandas'" in message_of(ClusterConfig, crunch_id="c", frames="polars")
    assert "instance of Limits" in message_of(ClusterConfig, crunch_id="c", limits={})
    assert message_of(Limits, max_queued_calls=0) == (
        "limits.max_queued_calls: must be a whole number >= 1 or 'off', got 0"
    )
    assert message_of(Backoff, jitter=1.5) == "backoff.jitter: must be a number >= 0 and <= 1, got 1.5"


def test_a_wrong_value_is_shown_in_part() -> None:
    assert len(message_of(ClusterConfig, crunch_id="/" * 10_000)) < 300


def test_backoff_gives_one_wait_fewer_than_attempts() -> None:
    assert list(Backoff(attempts=1).delays()) == []
    assert list(Backoff(attempts=4, initial=1, factor=3, maximum=5).delays()) == [1, 3, 5]
    assert list(Backoff(attempts=3, initial=9, maximum=5).delays()) == [5, 5]


def test_jitter_stays_in_its_fraction() -> None:
    waits = itertools.islice(OrchestratorConfig(reconnect_initial=1, reconnect_jitter=0.25).delays(), 2000)
    bounds = itertools.chain((1, 2, 4, 8), itertools.repeat(10))
    for wait, bound in zip(waits, bounds, strict=False):
        assert 0.75 * bound <= wait <= 1.25 * bound


def test_load_reads_every_kind_of_setting(write: Any) -> None:
    path = write(
        """
        [trio-model-runner]
        crunch_id = "bird-game"
        port = "9092"
        timeout = 3
        startup_timeout = inf
        max_consecutive_failures = "off"
        max-consecutive-timeouts = 20
        report_failures = false
        frames = "pandas"
        [trio-model-runner.limits]
        max-queued-calls = 8
        [trio-model-runner.network]
        happy_eyeballs_delay = 1
        [something.else]
        unknown = true
        """
    )
    assert ClusterConfig.load(path) == ClusterConfig(
        "bird-game",
        port=9092,
        timeout=3.0,
        startup_timeout=math.inf,
        max_consecutive_failures=None,
        max_consecutive_timeouts=20,
        report_failures=False,
        frames="pandas",
        limits=Limits(max_queued_calls=8),
        network=TCPNetwork(1.0),
    )


def test_the_environment_wins_over_the_file(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        "[trio-model-runner]\ncrunch_id='a'\nport=1\n[trio-model-runner.limits]\nmax_detail_length=5"
    )
    monkeypatch.setenv(f"{PREFIX}PORT", "2")
    monkeypatch.setenv(f"{PREFIX}TIMEOUT", "inf")
    monkeypatch.setenv(f"{PREFIX}MAX_CONSECUTIVE_TIMEOUTS", "off")
    monkeypatch.setenv(f"{PREFIX}REPORT_FAILURES", "No")
    monkeypatch.setenv(f"{PREFIX}LIMITS_MAX_QUEUED_CALLS", "9")
    config = ClusterConfig.load(path)
    assert (config.crunch_id, config.port, config.timeout) == ("a", 2, math.inf)
    assert config.max_consecutive_timeouts is None
    assert config.report_failures is False
    assert config.limits == Limits(max_detail_length=5, max_queued_calls=9)


def test_load_without_a_file_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRUNCH_CRUNCH_ID", "a")
    assert ClusterConfig.load(env_prefix="CRUNCH_") == ClusterConfig("a")


def test_a_nested_section(write: Any) -> None:
    path = write("[tool.runner]\ncrunch_id='a'")
    assert ClusterConfig.load(path, section="tool.runner") == ClusterConfig("a")


def test_names_of_environment_variables_are_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    from trio_model_runner.config.settings_file import _options

    paths = list(_options(ClusterConfig))
    assert len({path.replace(".", "_") for path in paths}) == len(paths)
    assert not {"credentials", "network"} & set(paths)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[trio-model-runner]", "crunch_id: is required, in a file or as TRIO_MODEL_RUNNER_CRUNCH_ID"),
        ("[trio-model-runer]\ncrunch_id='a'", "did you mean 'trio-model-runer'?"),
        ("trio-model-runner = 3", "no table [trio-model-runner]"),
        ("[trio-model-runner]\ncrunch_id='a'\ntimout=3", "'timout' (did you mean 'timeout'?)"),
        ("[trio-model-runner]\ncrunch_id='a'\n[trio-model-runner.limits]\nqueue=3", "'limits.queue'"),
        (
            "[trio-model-runner]\ncrunch_id='a'\nlimits=3",
            "limits: must be a table, [trio-model-runner.limits], got 3",
        ),
        ("[trio-model-runner]\ncrunch_id='a'\ncredentials='x'", "'credentials'"),
        (
            "[trio-model-runner]\ncrunch_id='a'\ntimeout=true",
            "timeout: must be a number of seconds > 0, got True",
        ),
        ("[trio-model-runner]\ncrunch_id='a'\ntimeout='soon'", "got 'soon' (from file "),
        ("[trio-model-runner]\ncrunch_id='a'\ntimeout={a=1}", "timeout: must be"),
        ("[trio-model-runner]\ncrunch_id=5", "crunch_id: must be a name"),
        (
            "[trio-model-runner]\ncrunch_id='a'\ntls='maybe'",
            "tls: must be true or false, or an ssl.SSLContext",
        ),
        (
            "[trio-model-runner]\ncrunch_id='a'\n[trio-model-runner.network]\nhappy_eyeballs_delay=-1",
            "network.happy_eyeballs_delay: ",
        ),
        (
            "[trio-model-runner]\ncrunch_id='a'\n[trio-model-runner.limits]\nmax_queued_calls=0",
            "limits.max_queued_calls: must be a whole number >= 1 or 'off', got 0 (from file ",
        ),
        ("[trio-model-runner", "cannot read "),
    ],
)
def test_load_says_what_is_wrong_in_a_file(write: Any, text: str, said: str) -> None:
    path = write(text)
    message = message_of(ClusterConfig.load, path=path)
    assert said in message
    assert str(path) in message or "is required" in message


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TIMOUT", "3", f"'{PREFIX}TIMOUT' (did you mean '{PREFIX}TIMEOUT'?)"),
        ("LIMITS_MAX_QUEUED_CALLS", "many", f"got 'many' (from environment variable {PREFIX}LIMITS_MAX_Q"),
        ("PORT", "0", "port: must be a whole number >= 1 and <= 65535, got 0 (from environment variable"),
        ("HOST", "", "host: must be a host name"),
        ("TIMEOUT", "nan", "timeout: must be"),
        ("TIMEOUT", "off", "timeout: must be"),
        ("NETWORK", "tcp", "unknown in the environment"),
    ],
)
def test_load_says_what_is_wrong_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}CRUNCH_ID", "a")
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    assert said in message_of(ClusterConfig.load)


def test_some_of_many_unknown_names_are_listed(write: Any) -> None:
    path = write("[trio-model-runner]\ncrunch_id='a'\n" + "\n".join(f"bird_{n:02} = 1" for n in range(30)))
    text = message_of(ClusterConfig.load, path=path)
    assert text.endswith("'bird_08', 'bird_09', and 20 more")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in message_of(ClusterConfig.load, path=tmp_path / "missing.toml")
    assert "cannot read" in message_of(ClusterConfig.load, path=tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "cannot read" in message_of(ClusterConfig.load, path=tmp_path / "binary.toml")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    assert "nested too deeply" in message_of(ClusterConfig.load, path=tmp_path / "deep.toml")


def test_an_empty_prefix_is_refused() -> None:
    assert message_of(ClusterConfig.load, env_prefix="").startswith("env_prefix: must not be empty")


def test_a_network_of_another_kind_is_for_the_constructor() -> None:
    network = MemoryNetwork()
    assert ClusterConfig("c", network=network).network is network


def test_reading_settings_is_imported_only_to_read_settings() -> None:
    code = "import sys, trio_model_runner.config; print({'typed_settings', 'cattrs'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
