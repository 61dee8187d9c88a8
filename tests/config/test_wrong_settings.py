"""Whatever is wrong with settings is one ConfigError that names every wrong field, wherever it stands.

The grid walks over all fields and all ways in: the constructors, a TOML file, the environment.
"""

from __future__ import annotations

import datetime
import decimal
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy
import pytest
import trio
from helpers.coordinating import Model, coordinating
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_model_runner import Arguments, ClusterConfig, ConfigError
from trio_model_runner.config import Backoff, Health, Keepalive, Limits, OrchestratorConfig
from trio_model_runner.config.settings_file import _options
from trio_model_runner.config.together import rule_of
from trio_model_runner.config.validators import Number, WholeNumber
from trio_model_runner.network import TCPNetwork

PREFIX = "TRIO_MODEL_RUNNER_"
PARTS: dict[str, type] = {
    "backoff": Backoff,
    "orchestrator": OrchestratorConfig,
    "health": Health,
    "limits": Limits,
    "keepalive": Keepalive,
    "network": TCPNetwork,
}
FIELDS = [("", ClusterConfig, field.name) for field in attrs.fields(ClusterConfig)] + [
    (f"{part}.", kind, field.name) for part, kind in PARTS.items() for field in attrs.fields(kind)
]
NAMES = [section + name for section, _, name in FIELDS]
LOADABLE = list(_options(ClusterConfig))
"""Private: the dotted names that a file and the environment may have."""

WITH_OFF = {
    "max_consecutive_failures",
    "max_consecutive_timeouts",
    "limits.max_queued_calls",
    "limits.max_simultaneous_connects",
    "allowed_networks",
    "gateway_hosts",
}


class Odd:
    """Neither text nor a number, and nothing that settings may be compared with."""

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError

    __hash__ = None  # type: ignore[assignment]


ODD_VALUES: list[Any] = [
    None,
    [],
    {},
    object,
    Odd(),
    b"x",
    "\0",
    "abc/def",
    -1,
    math.nan,
    10**400,
    numpy.array([1, 2]),
    numpy.int64(-1),
    decimal.Decimal("NaN"),
    datetime.timedelta(-1),
    Path("/does/not/exist"),
]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def problems_of(make: Any, *values: Any, **fields: Any) -> tuple[str, ...]:
    """The problems that are told; none if nothing is wrong. Another exception fails the test."""
    try:
        make(*values, **fields)
    except ConfigError as error:
        return error.problems
    return ()


def construct(section: str, kind: type, name: str, value: Any) -> tuple[str, ...]:
    others = {"crunch_id": "c"} if kind is ClusterConfig else {}
    return problems_of(kind, **others | {name: value})


def written(value: str) -> str:
    """TOML's basic string."""
    return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'


def in_file(path: Path, name: str, value: str) -> Path:
    """A file with one setting; `value` is TOML."""
    part, _, key = name.rpartition(".")
    table = f"[trio-model-runner.{part}]\n" if part else ""
    crunch = "" if name == "crunch_id" else "crunch_id = 'c'\n"
    path.write_text(f"[trio-model-runner]\n{crunch}{table}{key} = {value}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("section", "kind", "name"), FIELDS, ids=NAMES)
def test_constructors_raise_nothing_but_errors_that_name_the_field(
    section: str, kind: type, name: str
) -> None:
    told = [construct(section, kind, name, value) for value in ODD_VALUES]
    assert all(text.startswith(f"{section}{name}: ") for texts in told for text in texts)
    assert sum(map(bool, told)) >= 10


@pytest.mark.parametrize("name", LOADABLE)
def test_files_and_the_environment_raise_nothing_but_errors_that_name_the_field(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "settings.toml"
    variable = PREFIX + name.replace(".", "_").upper()
    told = []
    for value in ("[]", "'abc/def'", "{a = 1}", "-1", "nan", "''", "2026-01-01", "'off'", "[[1]]"):
        told.append(problems_of(ClusterConfig.load, in_file(path, name, value)))
        assert all(text.endswith(f" (from file {str(path)!r})") for text in told[-1])
    for value in ("abc/def", "-1", "nan", "", "\u2603", "1" * 5000):
        monkeypatch.setenv("TRIO_MODEL_RUNNER_CRUNCH_ID", "c")
        monkeypatch.setenv(variable, value)
        told.append(problems_of(ClusterConfig.load))
        assert all(text.endswith(f" (from environment variable {variable})") for text in told[-1])
    assert all(text.startswith(f"{name}: ") for texts in told for text in texts)
    assert sum(map(bool, told)) >= 5


@given(name=st.sampled_from(LOADABLE), value=st.text(st.characters(codec="utf-8"), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_for_any_setting_is_taken_or_refused_by_name(name: str, value: str, tmp_path: Path) -> None:
    path = in_file(tmp_path / "settings.toml", name, written(value))
    assert all(text.startswith(f"{name}: ") for text in problems_of(ClusterConfig.load, path))


@given(field=st.sampled_from(FIELDS), value=st.one_of(st.none(), st.floats(), st.integers(), st.binary()))
def test_any_number_for_any_setting_is_taken_or_refused_by_name(
    field: tuple[str, type, str], value: Any
) -> None:
    section, _, name = field
    assert all(text.startswith(f"{section}{name}: ") for text in construct(*field, value))


@pytest.mark.parametrize(("section", "kind", "name"), FIELDS, ids=NAMES)
def test_what_may_be_off_is_what_the_readme_says(section: str, kind: type, name: str) -> None:
    if section + name == "gateway_hosts":
        return  # it needs credentials
    told = construct(section, kind, name, "off")
    # A crunch and a host may have this name.
    assert (not told) == (section + name in WITH_OFF | {"crunch_id", "host"})
    if section + name in WITH_OFF:
        assert (
            getattr(kind(**({"crunch_id": "c"} if kind is ClusterConfig else {}) | {name: "off"}), name)
            is None
        )


def test_all_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        ClusterConfig("a b", port=0, timeout="soon", frames="polars")  # type: ignore[arg-type]
    assert str(caught.value).splitlines() == [
        "4 problems with the settings:",
        "  crunch_id: must be a name without '/' or white space, and not empty, got 'a b'",
        "  port: must be a whole number >= 1 and <= 65535, got 0",
        "  timeout: must be a number of seconds > 0, got 'soon'",
        "  frames: must be 'arrow' or 'pandas', got 'polars'",
    ]
    assert [text.partition(":")[0] for text in caught.value.problems] == [
        "crunch_id",
        "port",
        "timeout",
        "frames",
    ]


def test_one_wrong_field_is_told_without_a_headline() -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(max_queued_calls=0, max_detail_length=5)
    text = "limits.max_queued_calls: must be a whole number >= 1 or 'off', got 0"
    assert str(caught.value) == text
    assert caught.value.problems == (text,)


def test_all_problems_of_files_and_environment_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        """
        [trio-model-runner]
        tiemout = 3
        port = 0
        limits = 3
        max-consecutive-failures = 1
        max_consecutive_failures = 2
        credentials_mode = "secur"
        gateway_hosts = [".example.org"]
        [trio-model-runner.network]
        happy_eyeballs_delay = "quick"
        [trio-model-runner.backof]
        attempts = 3
        """
    )
    monkeypatch.setenv(f"{PREFIX}HEALTH_TIMEOUT", "never")
    monkeypatch.setenv(f"{PREFIX}LIMITS_MAX_QUEUED", "3")
    file = f"(from file {str(path)!r})"
    variable = f"{PREFIX}LIMITS_MAX_QUEUED"
    told = problems_of(ClusterConfig.load, path)
    assert told[:2] == (
        f"limits: must be a table, [trio-model-runner.limits], got 3 {file}",
        f"max_consecutive_failures: is there twice, with '-' and with '_' {file}",
    )
    assert told[2].endswith("'backof' (did you mean 'backoff'?), 'tiemout' (did you mean 'timeout'?)")
    assert told[3] == f"unknown in the environment: {variable!r} (did you mean '{variable}_CALLS'?)"
    assert told[4].startswith("crunch_id: is required, in a file or as TRIO_MODEL_RUNNER_CRUNCH_ID")
    modes = "must be 'secure' or 'gateway', got another value (not shown) (did you mean 'secure'?)"
    assert told[5] == f"credentials_mode: {modes} {file}"
    delay = "must be a finite number of seconds > 0, got 'quick'"
    assert told[6] == f"network.happy_eyeballs_delay: {delay} {file}"
    assert told[7].startswith(
        "health.timeout: must be a number of seconds > 0, got 'never' (from environment"
    )
    assert told[8:] == (f"port: must be a whole number >= 1 and <= 65535, got 0 {file}",)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"timeout": "off"}, "timeout: must be a number of seconds > 0, got 'off': inf is no limit"),
        ({"shutdown_grace": "off"}, "shutdown_grace: must be a finite number of seconds >= 0, got 'off'"),
        ({"timeout": numpy.int64(3)}, r"timeout: .*, got .*3.*: give int\(\.\.\.\) of it"),
        ({"timeout": decimal.Decimal(3)}, r"timeout: .*, got Decimal\('3'\): give float\(\.\.\.\) of it"),
        ({"timeout": datetime.timedelta(0, 3)}, r"timeout: .*: give its \.total_seconds\(\)"),
        ({"timeout": numpy.timedelta64(3, "s")}, r"timeout: .*: divide it by numpy\.timedelta64\(1, 's'\)"),
        ({"timeout": numpy.array([1])}, r"timeout: .*, got array\(\[1\]\) of type ndarray"),
        ({"allowed_networks": ["10.0.0.1/8"]}, r"allowed_networks: .*'10.0.0.1/8': that is a host in 10"),
        ({"allowed_networks": ["x", "10.0.0.0/8", "y"]}, r"allowed_networks: .*, got \['x', 'y'\]$"),
        ({"allowed_networks": []}, r"allowed_networks: .*, got \(\): 'off' allows all"),
        ({"host": "ws://example.org"}, "host: must be a host name or an IP address, without scheme, "),
        ({"credentials": "secure"}, "credentials: must be .*, or None, got a value of type str"),
        ({"gateway_hosts": ["x"]}, "gateway_hosts: needs GatewayCredentials as credentials; with "),
    ],
)  # fmt: skip
def test_an_error_says_what_to_do(fields: dict[str, Any], said: str) -> None:
    (text,) = problems_of(ClusterConfig, "c", **fields)
    assert re.match(said, text)


def test_a_bound_on_peers_can_not_be_lifted() -> None:
    assert problems_of(Limits, max_frame_bytes="off") == (
        "limits.max_frame_bytes: must be a whole number >= 1, got 'off': it can't be off",
    )


def test_credentials_of_which_one_half_is_missing(tmp_path: Path) -> None:
    path = in_file(tmp_path / "settings.toml", "credentials_mode", "'secure'")
    (text,) = problems_of(ClusterConfig.load, path)
    assert text.startswith("credentials_mode: needs a credentials_path, the directory with the files (from")
    in_file(path, "credentials_path", "'/etc'")
    (text,) = problems_of(ClusterConfig.load, path)
    assert text.startswith("credentials_path: needs a credentials_mode, 'secure' or 'gateway' (from")
    path.write_text(
        "[trio-model-runner]\ncrunch_id = 'c'\ncredentials_mode = 'secure'\ncredentials_path = '-----BEGIN X'"
    )
    (text,) = problems_of(ClusterConfig.load, path)
    assert text.startswith("credentials_path: holds PEM text; a path is wanted (from file")


def bounds_of(rule: object) -> list[Any]:
    """The largest values that a rule takes, and the smallest of whole numbers."""
    if isinstance(rule, WholeNumber):
        return [rule.at_least, rule.at_most]
    assert isinstance(rule, Number)
    if rule.at_most is not None:
        return [rule.at_most]
    return [sys.float_info.max] if rule.finite else [sys.float_info.max, math.inf]


AT_BOUNDS = [
    pytest.param(part.rstrip("."), kind, field.name, bound, id=f"{part}{field.name}={bound:.3g}")
    for part, kind, field in [
        (part, kind, field)
        for part, kind in [("", ClusterConfig), *PARTS.items()]
        for field in attrs.fields(kind)
    ]
    if field.name != "port" and isinstance(rule_of(field), Number | WholeNumber)
    for bound in bounds_of(rule_of(field))
]


@pytest.mark.parametrize(("part", "kind", "name", "bound"), AT_BOUNDS)
async def test_a_cluster_runs_with_every_number_at_its_bounds(
    autojump_clock: MockClock, part: str, kind: type, name: str, bound: float
) -> None:
    settings: dict[str, Any] = {part: kind(**{name: bound})} if part else {name: bound}
    tight = isinstance(bound, int) and bound <= 1  # one byte, one model: not every call can succeed
    if name == "max_message_bytes" and tight:
        return  # not even the orchestrator's list or the Setup can pass
    async with coordinating({"a": Model(), "b": Model()}, **settings) as (crunch, cluster):
        results = await cluster.call("predict")
        await cluster.call("sleep", Arguments(5.0), timeout=1.0)
        await trio.sleep(10)
        await crunch.crash("a")
        await crunch.recover("a")
        await trio.sleep(30)
        again = await cluster.call("predict")
    assert tight or len(results.succeeded) == len(again.succeeded) == 2


def test_a_number_beyond_what_the_machine_can_count_is_refused() -> None:
    (text,) = problems_of(Backoff, attempts=10**19)
    assert text.endswith(f"a whole number >= 1, got {10**19}: the largest is {sys.maxsize}")
    (text,) = problems_of(Limits, max_header_bytes=2**32)
    assert text.endswith(f"a whole number >= 1, got {2**32}: the largest is {2**32 - 1}")


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("[trio-model-runner.limits]\nbar = 1", "'limits.bar'"),
        ("[trio-model-runner.limits]\nmax_queued = 1", "(did you mean 'limits.max_queued_calls'?)"),
        ("max_queued_calls = 1", "(did you mean 'limits.max_queued_calls'?)"),
        ("Host = 'a'", "(did you mean 'host'?)"),
        ("credentials = 'secure'", "(did you mean 'credentials_mode'?)"),
        ("foo = 1", "'foo'"),
    ],
)
def test_a_hint_is_near_to_what_was_written(tmp_path: Path, written: str, hint: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(f"[trio-model-runner]\ncrunch_id = 'c'\n{written}\n")
    (text,) = problems_of(ClusterConfig.load, path)
    assert text.endswith(hint)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("FOO", "'TRIO_MODEL_RUNNER_FOO'"),
        ("LIMITS", "'TRIO_MODEL_RUNNER_LIMITS'"),
        ("Timeout", "(did you mean 'TRIO_MODEL_RUNNER_TIMEOUT'?)"),
        ("CREDENTIALS", "(did you mean 'TRIO_MODEL_RUNNER_CREDENTIALS_MODE'?)"),
    ],
)
def test_a_hint_does_not_count_what_all_variables_begin_with(
    monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}CRUNCH_ID", "c")
    monkeypatch.setenv(PREFIX + name, "1")
    (text,) = problems_of(ClusterConfig.load)
    assert text.endswith(hint)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[tool]\n[x]\n", ": it has [tool], [x]"),
        ("", ": it has no tables"),
        ("trio-model-runner = 'c'", ": trio-model-runner is str, and no table"),
        ("[trio_model_runner]\n", ": it has [trio_model_runner] (did you mean 'trio_model_runner'?)"),
    ],
)
def test_a_file_without_our_table_says_what_it_has(tmp_path: Path, written: str, said: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(written)
    assert problems_of(ClusterConfig.load, path) == (f"no table [trio-model-runner] in {str(path)!r}{said}",)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[trio-model-runner]\ncrunch_id = 'c'\n", encoding="utf-8-sig")
    assert ClusterConfig.load(path).crunch_id == "c"


@pytest.mark.parametrize("field", ["host", "crunch_id", "frames", "port", "timeout"])
@pytest.mark.parametrize(
    "url", ["wss://user:hunter2@example.org", "wss://hunter2@example.org", "user:hunter2@example.org"]
)
def test_nobodys_password_is_shown(field: str, url: str) -> None:
    (text,) = problems_of(ClusterConfig, **{"crunch_id": "c"} | {field: url})
    assert text.startswith(f"{field}: ")
    assert "hunter2" not in text
