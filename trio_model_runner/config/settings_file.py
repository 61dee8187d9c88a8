"""How a configuration is read from a TOML file and from the environment.

typed-settings knows how attrs classes map to tables and to names of environment variables, and reads both.
But it ignores unknown variables, and a file without our table; for a person who configures a server, an
unknown name is a mistake. And an error should name the field, and the file or variable that it came from. So
this module takes the names alone from typed-settings. It reads file and environment, turns text into numbers
where a field wants one, and lets the classes of `settings` check the values. Whatever is wrong is collected,
and told in one error. It must not know what any setting means.

A file or a variable can hold a secret in the wrong place. So the error texts show names, paths and values
only by `text.shown`. An exception of Python's own may have a value in its text or its attributes, and would
be printed as the context of a `ConfigError`. So that is raised when the other one is over.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import os
import tomllib
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import attrs

from ..errors import ConfigError
from ..network import TCPNetwork
from ..security import Credentials, GatewayCredentials, SecureCredentials
from ..security.keys import read_file, shown_path
from ..text import kind_of_secret, shown

if TYPE_CHECKING:
    from typed_settings.types import OptionInfo

__all__ = ["load_settings"]

ConfigT = TypeVar("ConfigT", bound=attrs.AttrsInstance)
Options = Mapping[str, "OptionInfo"]  # by dotted path, as in "limits.max_queued_calls"

_NOT_LOADABLE = {"credentials", "network"}
_CREDENTIALS: Mapping[str, Callable[[str], Credentials]] = {
    "secure": SecureCredentials.from_directory,
    "gateway": GatewayCredentials.from_directory,
}
_CREDENTIALS_SOURCE = ("credentials_mode", "credentials_path")
_MOST_NAMES_SHOWN = 10
_ALIKE = 0.75  # of 1.0, which is the same name
_NO_CRUNCH = "missing"
"""Stands in for a crunch_id that is not there, so that the other settings can be checked."""

_BOOLEANS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(
    ("false", "no", "off", "0"), False
)


@attrs.frozen
class _CredentialsSource:
    """The settings from which credentials are loaded: credentials themselves can't be written as text."""

    credentials_mode: str
    credentials_path: str


@attrs.frozen
class _Found:
    value: Any
    source: str  # for people


def load_settings(
    config_class: type[ConfigT], path: str | os.PathLike[str] | None, *, section: str, env_prefix: str
) -> ConfigT:
    """Read an instance of `config_class`; see `ClusterConfig.load`."""
    options = _options(config_class)
    problems = _Problems()
    if path is not None:
        _read_file(path, section, options, problems)
    _read_environment(env_prefix, options, problems)
    if "crunch_id" not in problems.found:
        text = f"crunch_id: is required, in a file or as {env_prefix}CRUNCH_ID in the environment"
        problems.texts.append(text)
    config = _build(config_class, options, problems)
    if config is None or problems.texts:
        raise ConfigError(*problems.texts)
    return config


class _Problems:
    """What is wrong with the settings.

    Attributes:
        found: the settings that were found, by their dotted paths.
        texts: the problems.
    """

    def __init__(self) -> None:
        self.found: dict[str, _Found] = {}
        self.texts: list[str] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Take the problems of a `ConfigError`, with where their settings were found."""
        try:
            yield
        except ConfigError as error:
            self.texts.extend(map(self._with_source, error.problems))

    def _with_source(self, problem: str) -> str:
        field = problem.partition(":")[0]
        return f"{problem} (from {self.found[field].source})" if field in self.found else problem


@functools.cache
def _options(config_class: type[attrs.AttrsInstance]) -> Options:
    from typed_settings.cls_utils import deep_options

    options = [option for option in deep_options(config_class) if option.path not in _NOT_LOADABLE]
    options.extend(deep_options(_CredentialsSource))
    # A file can't choose a class of network. It can set the fields of `TCPNetwork`.
    options.extend(
        dataclasses.replace(option, path=f"network.{option.path}") for option in deep_options(TCPNetwork)
    )
    return {option.path: option for option in options}


def _read_file(path: str | os.PathLike[str], section: str, options: Options, problems: _Problems) -> None:
    table = _read_toml(path)
    source = f"file {shown_path(path)}"
    for name in section.split("."):
        tables = {key: value for key, value in table.items() if isinstance(value, dict)}
        if name not in tables:
            wanted = f"[{section}]" if kind_of_secret(section) is None else shown(section)
            there = _tables_there(name, table, tables) + _hint(name, tables)
            raise ConfigError(f"no table {wanted} in {shown_path(path)}{there}")
        table = tables[name]
    parts = {option.rpartition(".")[0] for option in options} - {""}
    unknown = []
    for name, value in _flatten(table, "", parts):
        if name in problems.found:
            problems.texts.append(f"{name}: is there twice, with '-' and with '_' (from {source})")
        elif name in options:
            problems.found[name] = _Found(value, source)
        elif name in parts:
            text = f"{name}: must be a table, [{section}.{name}], got {shown(value)} (from {source})"
            problems.texts.append(text)
        else:
            unknown.append(name)
    problems.texts.extend(_unknown(unknown, [*options, *parts], source))


def _tables_there(name: str, table: Mapping[str, Any], tables: Collection[str]) -> str:
    """Say what stands in place of a table that is missing."""
    if name in table:
        return f": {name} is {type(table[name]).__name__}, and no table"
    named = [f"[{each}]" if kind_of_secret(each) is None else shown(each) for each in tables]
    more = ", ..." if len(named) > _MOST_NAMES_SHOWN else ""
    return f": it has {', '.join(named[:_MOST_NAMES_SHOWN])}{more}" if named else ": it has no tables"


def _read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    content = read_file(path, what="settings", argument="path")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        reason = "is not UTF-8"
    except RecursionError:
        reason = "is nested too deeply"
    except tomllib.TOMLDecodeError as error:
        # Most have the line and the column alone. Some have a key.
        reason = str(error) if kind_of_secret(str(error)) is None else "is not TOML"
    except ValueError:
        reason = "has a number of too many digits"  # Python reads 4300; its error tells nobody where
    raise ConfigError(f"cannot read {shown_path(path)}: {reason}")


def _flatten(table: Mapping[str, Any], prefix: str, parts: Container[str]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        path = prefix + key.replace("-", "_")
        if isinstance(value, dict) and path in parts:
            yield from _flatten(value, f"{path}.", parts)
        else:
            yield path, value


def _read_environment(prefix: str, options: Options, problems: _Problems) -> None:
    from typed_settings.loaders import EnvLoader

    if not prefix:
        raise ConfigError("env_prefix: must not be empty, or every environment variable would be a setting")
    if (kind := kind_of_secret(prefix)) is not None:
        raise ConfigError(f"env_prefix: holds {kind}; the beginning of names is wanted")
    loader = EnvLoader(prefix)
    paths = {loader.get_envvar(option): path for path, option in options.items()}
    unknown = []
    for name in os.environ:
        if name in paths:
            problems.found[paths[name]] = _Found(os.environ[name], f"environment variable {name}")
        elif name.startswith(prefix):
            unknown.append(name)
    problems.texts.extend(_unknown(unknown, paths, "the environment", prefix))


def _unknown(names: Iterable[str], known: Collection[str], source: str, prefix: str = "") -> Iterator[str]:
    """Say which names are unknown, on one line, if there are any."""
    unknown = sorted(names)
    if unknown:
        listed = ", ".join(
            f"{shown(name)}{_hint(name, known, prefix)}" for name in unknown[:_MOST_NAMES_SHOWN]
        )
        more = len(unknown) - _MOST_NAMES_SHOWN
        yield f"unknown in {source}: {listed}{f', and {more} more' if more > 0 else ''}"


def _hint(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Ask whether a known name is meant, if one is very near.

    Args:
        name: the unknown name.
        known: the known ones.
        prefix: what all of them begin with; it makes none of them more alike.
    """
    bare = {each.removeprefix(prefix).casefold().replace("-", "_"): each for each in known}
    wanted = name.removeprefix(prefix).casefold().replace("-", "_")
    part, dot, leaf = wanted.rpartition(".")
    if wanted == "credentials" and "credentials_mode" in bare:
        return f" (did you mean {shown(bare['credentials_mode'])}?)"
    if part in bare:  # the table is right, so it is one of its settings
        bare = {key: each for key, each in bare.items() if key.startswith(part + dot)}
    elsewhere = [key for key in bare if key.rpartition(".")[2] == leaf]
    close = elsewhere or difflib.get_close_matches(wanted, bare, n=1, cutoff=_ALIKE)
    return f" (did you mean {shown(bare[close[0]])}?)" if close else ""


def _from_text(value: Any, kind: Any) -> Any:
    """Read text as the number or the boolean that a field of type `kind` wants.

    Text that can't be read stays text, and so does ``"off"``. The field's own rule then takes or refuses it.
    """
    if not isinstance(value, str):
        return value
    if kind is bool or bool in get_args(kind):
        return _BOOLEANS.get(value.lower(), value)
    for number in (int, float):
        if kind is number or number in get_args(kind):
            try:
                return number(value)
            except ValueError:
                break
    return value


def _build(config_class: type[ConfigT], options: Options, problems: _Problems) -> ConfigT | None:
    """Make the configuration; None if that is impossible. What is wrong is noted."""
    fields: dict[str, Any] = {"crunch_id": _NO_CRUNCH}
    parts: dict[str, dict[str, Any]] = {}
    source = {name: problems.found[name].value for name in _CREDENTIALS_SOURCE if name in problems.found}
    for path, setting in problems.found.items():
        if path in source:
            continue
        value = _from_text(setting.value, options[path].cls)
        part, _, name = path.rpartition(".")
        if part:
            parts.setdefault(part, {})[name] = value
        else:
            fields[name] = value
    if source:
        with problems.noted():
            fields["credentials"] = _load_credentials(**source)
        if "credentials" not in fields:
            fields.pop("gateway_hosts", None)  # nobody knows whether they need it
    for part, values in parts.items():
        with problems.noted():
            fields[part] = options[f"{part}.{next(iter(values))}"].parent_cls(**values)
    with problems.noted():
        return config_class(**fields)
    return None


def _load_credentials(credentials_mode: Any = None, credentials_path: Any = None) -> Credentials:
    """Load credentials. What stands in place of the mode is never shown: it may belong into the files."""
    kinds = " or ".join(map(repr, _CREDENTIALS))
    if credentials_mode is None:
        raise ConfigError(f"credentials_path: needs a credentials_mode, {kinds}")
    if not isinstance(credentials_mode, str) or credentials_mode not in _CREDENTIALS:
        kind = kind_of_secret(credentials_mode) or "another value"
        hint = _hint(str(credentials_mode), _CREDENTIALS)
        raise ConfigError(f"credentials_mode: must be {kinds}, got {kind} (not shown){hint}")
    if not isinstance(credentials_path, str) or not credentials_path:
        raise ConfigError("credentials_mode: needs a credentials_path, the directory with the files")
    try:
        return _CREDENTIALS[credentials_mode](credentials_path)
    except ConfigError as error:
        text = str(error).removeprefix("path: ").removeprefix("credentials: ")
        raise ConfigError(f"credentials_path: {text}") from error
