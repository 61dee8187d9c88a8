"""How a configuration is read from a TOML file and from the environment.

typed-settings knows how attrs classes map to tables and to names of environment variables, and reads both.
But it ignores unknown variables, and a file without our table; for a person who configures a server, an
unknown name is a mistake. And an error should name the field, and the file or variable that it came from. So
this module takes the readers and the names from typed-settings, turns text into numbers where a field wants
one, and lets the classes of `settings` check the values. It must not know what any setting means.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import attrs

from ..errors import ConfigError
from ..network import TCPNetwork
from ..security import Credentials, GatewayCredentials, SecureCredentials

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
        found.update(_read_file(Path(path), section, options))
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


def _options(config_class: type[attrs.AttrsInstance]) -> Options:
    from typed_settings.cls_utils import deep_options

    options = [option for option in deep_options(config_class) if option.path not in _NOT_LOADABLE]
    options.extend(deep_options(_CredentialsSource))
    # A file can't choose a class of network. It can set the fields of `TCPNetwork`.
    options.extend(
        dataclasses.replace(option, path=f"network.{option.path}") for option in deep_options(TCPNetwork)
    )
    return {option.path: option for option in options}


def _read_file(path: Path, section: str, options: Options) -> dict[str, _Found]:
    from typed_settings.exceptions import TsError
    from typed_settings.loaders import TomlFormat

    try:
        table: Any = TomlFormat(None)(path, object, tuple(options.values()))
    except (TsError, OSError, ValueError) as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error}") from error
    for name in section.split("."):
        tables = {key: value for key, value in table.items() if isinstance(value, dict)}
        if name not in tables:
            raise ConfigError(f"no table [{section}] in {str(path)!r}{_hint(name, tables)}")
        table = tables[name]
    values = dict(_flatten(table, "", options))
    _refuse_unknown(values, options, f"file {str(path)!r}")
    return {name: _Found(value, f"file {str(path)!r}") for name, value in values.items()}


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
    loader = EnvLoader(prefix)
    paths = {loader.get_envvar(option): path for path, option in options.items()}
    ours = [name for name in os.environ if name.startswith(prefix)]
    _refuse_unknown(ours, paths, "the environment")
    return {paths[name]: _Found(os.environ[name], f"environment variable {name}") for name in ours}


def _refuse_unknown(names: Iterable[str], known: Iterable[str], source: str) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        listed = ", ".join(f"{name!r}{_hint(name, known)}" for name in unknown)
        raise ConfigError(f"unknown in {source}: {listed}")


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


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
        part_class = TCPNetwork if part == "network" else options[f"{part}.{next(iter(values))}"].parent_cls
        try:
            fields[part] = part_class(**values)
        except ConfigError:
            raise
        except (TypeError, ValueError) as error:  # of attrs' own validators, which don't name the part
            raise ConfigError(f"{part}.{next(iter(values))}: {error}") from error
    return config_class(**fields)


def _load_credentials(credentials_mode: Any = None, credentials_path: Any = None) -> Credentials:
    if credentials_mode not in _CREDENTIALS:
        kinds = " or ".join(map(repr, _CREDENTIALS))
        name = "credentials_path" if credentials_mode is None else "credentials_mode"
        raise ConfigError(f"{name}: needs a credentials_mode, {kinds}, got {credentials_mode!r}")
    if not isinstance(credentials_path, str) or not credentials_path:
        rule = "needs a credentials_path, the directory with the files"
        raise ConfigError(f"credentials_mode: {rule}, got {credentials_path!r}")
    try:
        return _CREDENTIALS[credentials_mode](credentials_path)
    except ConfigError as error:
        raise ConfigError(f"credentials_path: {error}") from error
