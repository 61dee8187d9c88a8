"""How a configuration is read from a TOML file and from the environment.

typed-settings knows how attrs classes map to tables and to names of environment variables, and reads both.
But it ignores unknown variables, and a file without our table; for a person who configures a server, an
unknown name is a mistake. And an error should name the field, and the file or variable that it came from. So
this module takes the names alone from typed-settings. It reads file and environment, turns text into numbers
where a field wants one, and lets the classes of `settings` check the values. It must not know what any
setting means.

A file or a variable can hold a secret in the wrong place. So the error texts show names, paths and values
only by `text.shown`. An exception of Python's own may have a value in its text or its attributes, and would
be printed as the context of a `ConfigError`. So that is raised when the other one is over.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
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
_MOST_NAMES_SHOWN = 10
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
    found: dict[str, _Found] = {}
    if path is not None:
        found.update(_read_file(path, section, options))
    found.update(_read_environment(env_prefix, options))
    if "crunch_id" not in found:
        raise ConfigError(f"crunch_id: is required, in a file or as {env_prefix}CRUNCH_ID in the environment")
    try:
        return _build(config_class, found, options)
    except ConfigError as error:
        field = str(error).partition(":")[0]
        if field not in found:
            raise
        raise ConfigError(f"{error} (from {found[field].source})") from None


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


def _read_file(path: str | os.PathLike[str], section: str, options: Options) -> dict[str, _Found]:
    table = _read_toml(path)
    source = f"file {shown_path(path)}"
    for name in section.split("."):
        tables = {key: value for key, value in table.items() if isinstance(value, dict)}
        if name not in tables:
            wanted = f"[{section}]" if kind_of_secret(section) is None else shown(section)
            raise ConfigError(f"no table {wanted} in {shown_path(path)}{_hint(name, tables)}")
        table = tables[name]
    values = dict(_flatten(table, "", options))
    _refuse_unknown(values, options, source)
    return {name: _Found(value, source) for name, value in values.items()}


def _read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    content = read_file(path, what="settings")
    try:
        return tomllib.loads(content.decode("utf-8"))
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


def _flatten(table: Mapping[str, Any], prefix: str, options: Options) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        path = prefix + key.replace("-", "_")
        if isinstance(value, dict) and any(option.startswith(f"{path}.") for option in options):
            yield from _flatten(value, f"{path}.", options)
        else:
            yield path, value


def _read_environment(prefix: str, options: Options) -> dict[str, _Found]:
    from typed_settings.loaders import EnvLoader

    if not prefix:
        raise ConfigError("env_prefix: must not be empty, or every environment variable would be a setting")
    if (kind := kind_of_secret(prefix)) is not None:
        raise ConfigError(f"env_prefix: holds {kind}; the beginning of names is wanted")
    loader = EnvLoader(prefix)
    paths = {loader.get_envvar(option): path for path, option in options.items()}
    ours = [name for name in os.environ if name.startswith(prefix)]
    _refuse_unknown(ours, paths, "the environment")
    return {paths[name]: _Found(os.environ[name], f"environment variable {name}") for name in ours}


def _refuse_unknown(names: Iterable[str], known: Iterable[str], source: str) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        listed = ", ".join(f"{shown(name)}{_hint(name, known)}" for name in unknown[:_MOST_NAMES_SHOWN])
        more = len(unknown) - _MOST_NAMES_SHOWN
        raise ConfigError(f"unknown in {source}: {listed}{f', and {more} more' if more > 0 else ''}")


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {shown(close[0])}?)" if close else ""


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


def _build(config_class: type[ConfigT], found: Mapping[str, _Found], options: Options) -> ConfigT:
    fields: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    source = {name: found[name].value for name in ("credentials_mode", "credentials_path") if name in found}
    if source:
        fields["credentials"] = _load_credentials(**source)
    for path, setting in found.items():
        if path in source:
            continue
        value = _from_text(setting.value, options[path].cls)
        part, _, name = path.rpartition(".")
        if part:
            parts.setdefault(part, {})[name] = value
        else:
            fields[name] = value
    for part, values in parts.items():
        if part == "network":
            fields[part] = _build_network(values)
        else:
            fields[part] = options[f"{part}.{next(iter(values))}"].parent_cls(**values)
    return config_class(**fields)


def _build_network(values: Mapping[str, Any]) -> TCPNetwork:
    """Make the network. Its errors are attrs' own: they don't name the field, and show any value."""
    for name, value in values.items():
        fits = True
        try:
            TCPNetwork(**{name: value})
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ConfigError(f"network.{name}: can't be {shown(value)}")
    return TCPNetwork(**values)


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
        raise ConfigError(f"credentials_path: {error}") from error
