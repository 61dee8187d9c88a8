"""How the commands end, and their options for settings: one line about what is wrong, and the right code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import click
import pytest
from helpers.documents import chapter
from helpers.secure_crunch import AUTHORITY
from helpers.secure_nodes import write_credentials

from trio_model_runner import ClusterConfig, ConfigError, OrchestratorUnavailable, SecureCredentials
from trio_model_runner.cli.commands import commands, run
from trio_model_runner.cli.options import Chosen
from trio_model_runner.cli.running import Exit, Failure
from trio_model_runner.cli.settings_list import all_settings
from trio_model_runner.config import Backoff, Health, Keepalive, Limits, OrchestratorConfig

RunHere = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunHere:
    """Runs a command as its entry point does: its exit code, and what it writes."""

    def run_it(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trio-model-runner", *arguments])
        code = run()
        return (code, *capsys.readouterr())

    return run_it


# Ends


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("port: must be a number"), 2, "Error: port: must be a number\n"),
        (OrchestratorUnavailable("no init"), 3, "Error: no init (trio-model-runner check says more)\n"),
        (Failure("a\x1b[31m finding\nhere"), 1, "Error: a\\x1b[31m finding here\n"),
        (ExceptionGroup("", [Failure("alone", Exit.USAGE)]), 2, "Error: alone\n"),
        (LookupError("ours"), 1, "Error: LookupError: ours (this should not happen; --debug shows where it"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    run_here: RunHere, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, text: str
) -> None:
    def load(self: Chosen) -> ClusterConfig:
        raise error

    monkeypatch.setattr(Chosen, "load", load)
    ended_with, out, err = run_here("check")
    assert (ended_with, out, err[: len(text)]) == (code, "", text)
    assert "Traceback" not in err
    assert "Traceback" in run_here("check", "--debug")[2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            "demo --rounds 0",
            "Invalid value for '--rounds': 0 is not in the range 1<=x<=1000 (see {} demo --help)",
        ),
        (
            "check --timeout x",
            "Invalid value for '--timeout': 'x' is not a valid number of seconds (see {} check --help)",
        ),
        ("watch", "give one of SOCKET, --record FILE and --observe (see {} watch --help)"),
        ("wacth", "No such command 'wacth'. Did you mean 'watch'? (see {} --help)"),
        (
            "timeline no\nwhere",
            "Invalid value for 'RECORD...': File 'no\\nwhere' does not exist (see {} timeline --help)",
        ),
        ("call predict", "Missing option '--class' (see {} call --help)"),
        ("call predict x --all --class a.B", "Invalid value: 'x' is no JSON: Expecting"),
    ],
)
def test_wrong_use_is_one_line_that_says_where_help_is(run_here: RunHere, arguments: str, text: str) -> None:
    code, out, err = run_here(*arguments.split(" "))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"Error: {text.format('trio-model-runner')}")
    assert err.endswith("--help)\n")


def test_the_hint_at_help_outlives_a_long_text(run_here: RunHere) -> None:
    code, _, err = run_here("watch", "--" + "x" * 100_000)
    assert (code, len(err) < 3000) == (2, True)
    assert err.endswith("... (see trio-model-runner watch --help)\n")


def test_without_a_command_the_whole_help_is_shown(run_here: RunHere) -> None:
    code, out, err = run_here()
    assert (code, out) == (2, "")
    assert "\nCommands:\n" in err


@pytest.mark.parametrize("name", sorted(commands.commands))
def test_every_command_teaches_with_an_example(run_here: RunHere, name: str) -> None:
    code, out, err = run_here(name, "--help")
    assert (code, err) == (0, "")
    assert name == "demo" or f"\n    trio-model-runner {name} " in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_rooms_readme_lists_the_commands() -> None:
    table = chapter("cli/README.md", "All commands")
    assert sorted(re.findall(r"^\| `(\w+)[ `](?!\.)", table, re.MULTILINE)) == sorted(commands.commands)


def test_it_runs_as_a_module_and_completes_words_in_shells() -> None:
    environment = {**os.environ, "_TRIO_MODEL_RUNNER_COMPLETE": "bash_complete"}
    environment |= {"COMP_WORDS": "trio-model-runner st", "COMP_CWORD": "1"}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "trio_model_runner"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("plain,status\n", "")


# Options for settings


def test_an_option_wins_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[trio-model-runner]\ncrunch_id = "file"\nhost = "file"\nport = 1\n')
    monkeypatch.setenv("TRIO_MODEL_RUNNER_HOST", "environment")
    monkeypatch.setenv("TRIO_MODEL_RUNNER_PORT", "2")
    config = Chosen(str(file), {"port": "3"}, None).load()
    assert (config.crunch_id, config.host, config.port) == ("file", "environment", 3)
    assert os.environ["TRIO_MODEL_RUNNER_PORT"] == "2"


def test_a_wrong_option_is_named_as_such(run_here: RunHere) -> None:
    code, _, err = run_here("check", "--crunch-id", "birds", "--port", "70000")
    assert code == 2
    assert "port: must be a whole number >= 1 and <= 65535, got 70000 (from --port)" in err


def test_without_a_crunch_the_option_is_named_too(run_here: RunHere) -> None:
    code, _, err = run_here("check")
    assert code == 2
    assert "crunch_id: is required" in err
    assert "(or give --crunch-id)" in err


def test_the_kind_of_credentials_is_seen_from_their_files(tmp_path: Path) -> None:
    directory = write_credentials(tmp_path / "secure", AUTHORITY)
    config = Chosen(None, {"crunch_id": "birds"}, str(directory)).load()
    assert isinstance(config.credentials, SecureCredentials)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (None, "is no directory"),
        ([], "has none of the files"),
        (["key.pem", "tls.key"], "has the files of both kinds"),
    ],
)
def test_credentials_of_no_kind_are_a_wrong_configuration(
    run_here: RunHere, tmp_path: Path, files: list[str] | None, reason: str
) -> None:
    directory = tmp_path / "credentials"
    if files is not None:
        directory.mkdir()
        for name in files:
            (directory / name).touch()
    code, _, err = run_here("check", "--crunch-id", "birds", "--credentials", str(directory))
    assert code == 2
    assert f"{directory}' {reason}" in err


# config


def test_config_lists_every_setting_with_unit_default_variable_and_meaning(run_here: RunHere) -> None:
    settings = {setting.name: setting for setting in all_settings()}
    fields = {field.name for field in attrs.fields(ClusterConfig)}
    assert {name for name in settings if "." not in name} == (
        fields - {"backoff", "orchestrator", "health", "limits", "keepalive", "network", "credentials"}
        | {"credentials_mode", "credentials_path"}
    )
    parts = {"backoff": Backoff, "orchestrator": OrchestratorConfig, "health": Health}
    parts |= {"limits": Limits, "keepalive": Keepalive}
    for part, kind in parts.items():
        assert {f"{part}.{field.name}" for field in attrs.fields(kind)} <= settings.keys()
    assert all(setting.meaning for setting in settings.values())
    assert settings["timeout"].unit == settings["network.happy_eyeballs_delay"].unit == "seconds"
    assert settings["limits.max_frame_bytes"].unit == "bytes"
    assert settings["limits.max_frame_bytes"].default == "268435456"
    assert settings["frames"].default == '"arrow"'
    assert settings["crunch_id"].default == "required"
    assert settings["health.mass_window"].variable == "TRIO_MODEL_RUNNER_HEALTH_MASS_WINDOW"
    code, out, err = run_here("config")
    assert (code, err) == (0, "")
    assert all(setting.variable in out and setting.name in out for setting in settings.values())
    assert max(map(len, out.splitlines())) <= 80


def test_config_can_be_asked_for_some_and_for_json(run_here: RunHere) -> None:
    code, out, _ = run_here("config", "keepalive", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == ["keepalive.interval", "keepalive.timeout"]
    code, _, err = run_here("config", "keepsake")
    assert code == 2
    assert "no setting has keepsake in its name" in err


def test_every_variable_that_config_lists_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in all_settings():
        if setting.default.replace(".", "").isdigit():
            monkeypatch.setenv(setting.variable, setting.default)
    config = Chosen(None, {"crunch_id": "birds"}, None).load()
    assert config == ClusterConfig("birds")


def test_config_checks_a_file(run_here: RunHere, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[trio-model-runner]\ncrunch_id = "birds"\ntimeout = 5\n')
    code, out, err = run_here("config", "--check", str(file))
    assert (code, err) == (0, "")
    lines = ["The settings are good.", '  crunch_id = "birds"', "  timeout = 5.0  (default 10.0)"]
    assert out.splitlines() == lines
    code, out, _ = run_here("config", "--check", str(file), "--json", "--port", "1")
    assert json.loads(out) == {"crunch_id": "birds", "port": 1, "timeout": 5.0}
    file.write_text('[trio-model-runner]\ncrunch_id = "birds"\ntimeout = -5\n')
    code, out, err = run_here("config", "--check", str(file))
    assert (code, out) == (2, "")
    assert "timeout: must be a number of seconds > 0, got -5" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--check", "a", "--config", "b"], "give one of them"),
        (["--check", "a", "timeout"], "NAMEs are for the list of settings"),
        (["--crunch-id", "birds", "timeout"], "NAMEs are for the list of settings"),
    ],
)
def test_config_is_asked_for_one_thing(run_here: RunHere, arguments: list[str], complaint: str) -> None:
    code, out, err = run_here("config", *arguments)
    assert (code, out) == (2, "")
    assert complaint in " ".join(err.split())


def test_options_are_those_of_all_commands() -> None:
    assert all("--debug" in {o for each in c.params for o in each.opts} for c in commands.commands.values())
    for name in ("check", "call", "watch", "config"):
        options = {option for each in commands.commands[name].params for option in each.opts}
        assert {"--config", "--crunch-id", "--host", "--port", "--credentials", "--debug"} <= options
    assert isinstance(commands, click.Group)
