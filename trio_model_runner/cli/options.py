"""The options that all commands share: where the orchestrator is, and how to speak with it and the nodes.

They are settings of `ClusterConfig`, and have priority over the environment, which has priority over the
file. The environment is where `ClusterConfig.load` looks anyway, so an option is put there while it loads.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from ..config import ClusterConfig
from ..errors import ConfigError
from ..text import shown
from .running import Running

__all__ = [
    "Chosen",
    "Command",
    "Group",
    "Seconds",
    "chosen_settings",
    "debug_option",
    "json_option",
    "no_color_option",
]

F = TypeVar("F", bound=Callable[..., Any])

ENVIRONMENT_PREFIX = "TRIO_MODEL_RUNNER_"

_FILES = {"secure": ("ca.crt", "tls.crt", "tls.key"), "gateway": ("key.pem",)}
_OPTIONS = ("crunch_id", "host", "port", "tls")


class Command(click.Command):
    """A command whose help keeps indented lines as they are: they are examples."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = _keeping_examples(self.help)


class Group(click.Group):
    """The same for a group of commands."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = _keeping_examples(self.help)


def _keeping_examples(text: str | None) -> str | None:
    r"""Mark indented paragraphs as click wants it: by a line with the character ``\b``."""
    return None if text is None else re.sub(r"\n\n(?=  )", "\n\n\b\n", inspect.cleandoc(text))


@attrs.frozen
class Chosen:
    """What the options say of the settings.

    Attributes:
        path: the file of settings, or None.
        settings: single settings, as text, by field.
        credentials: the directory of credentials, as it was given, or None.
    """

    path: str | None
    settings: Mapping[str, str]
    credentials: str | None

    @property
    def given(self) -> bool:
        """Whether any of these options was given."""
        return self != Chosen(None, {}, None)

    def load(self) -> ClusterConfig:
        """Load the settings from the file, the environment and the options.

        Raises:
            ConfigError: see `ClusterConfig.load`; an option is named as such.
        """
        given = {**self.settings, **self._credentials()}
        with _environment(given):
            text, config = "", None
            try:
                config = ClusterConfig.load(self.path, env_prefix=ENVIRONMENT_PREFIX)
            except ConfigError as error:
                text = str(error)
        if config is None:
            raise ConfigError(_with_options(text, given))
        return config

    def _credentials(self) -> dict[str, str]:
        if self.credentials is None:
            return {}
        mode, colon, path = self.credentials.partition(":")
        if not (colon and mode in _FILES):
            path = self.credentials
            mode = _mode_of(path)
        return {"credentials_mode": mode, "credentials_path": path}


def _mode_of(path: str) -> str:
    """Which kind of credentials a directory has, by its files."""
    there = [mode for mode, names in _FILES.items() if any(Path(path, name).exists() for name in names)]
    if len(there) == 1:
        return there[0]
    kinds = "; ".join(f"{mode}: {', '.join(names)}" for mode, names in _FILES.items())
    if there:
        reason = "has the files of both kinds; write secure:DIR or gateway:DIR"
    elif Path(path).is_dir():
        reason = "has none of the files that are wanted"
    else:
        reason = "is no directory"
    raise ConfigError(f"--credentials: {shown(path)} {reason} ({kinds})")


def _variable(field: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{field.upper()}"


@contextlib.contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    before = {_variable(field): os.environ.get(_variable(field)) for field in given}
    os.environ.update({_variable(field): value for field, value in given.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _with_options(text: str, given: Mapping[str, str]) -> str:
    """The text of an error, with the options' names instead of variables that were never set."""
    for field in given:
        option = "--credentials" if field.startswith("credentials") else f"--{field.replace('_', '-')}"
        text = text.replace(f"environment variable {_variable(field)}", option)
    if "crunch_id: is required" in text:
        text += " (or give --crunch-id)"
    return text


class Seconds(click.FloatRange):
    """A number of seconds within bounds; click's own range takes NaN for one."""

    name = "number of seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert it, or refuse it."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail("nan is no number of seconds.", param, ctx)
        return seconds


def debug_option(function: F) -> F:
    """Add ``--debug``."""

    def set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        running = ctx.find_object(Running)
        if value and running is not None:
            running.debug = True

    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=set_debug,
        help="Show tracebacks, and the library's whole log, on stderr.",
    )(function)


def json_option(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for a program.")(function)


def no_color_option(function: F) -> F:
    """Add ``--no-color``."""
    text = "Write without colours, as NO_COLOR in the environment does."
    return click.option("--no-color", is_flag=True, help=text)(function)


def chosen_settings(function: F) -> F:
    """Add the options about settings; the command gets them as one argument, ``chosen``."""

    @functools.wraps(function)
    def with_chosen(
        *args: Any, config: str | None, credentials: str | None, tls: bool | None, **kwargs: Any
    ) -> Any:
        values = {"tls": None if tls is None else str(tls).lower()}
        values |= {name: kwargs.pop(name) for name in ("crunch_id", "host", "port")}
        settings = {name: value for name, value in values.items() if value is not None}
        return function(*args, chosen=Chosen(config, settings, credentials), **kwargs)

    options = [
        click.option("--config", metavar="FILE", help="The file of settings (TOML)."),
        click.option("--crunch-id", metavar="ID", help="Which competition."),
        click.option("--host", metavar="HOST", help="The orchestrator's host."),
        click.option("--port", metavar="PORT", help="The orchestrator's port."),
        click.option("--tls/--no-tls", default=None, help="TLS with the orchestrator, or none."),
        click.option(
            "--credentials",
            metavar="DIR",
            help="A directory with ca.crt, tls.crt and tls.key (secure), or with key.pem (gateway).",
        ),
    ]
    decorated: Any = with_chosen
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]
