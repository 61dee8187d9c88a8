"""All settings, as the code has them: name, default, unit, variable and meaning.

A list that is written by hand is soon wrong. So the names and defaults are read from the fields of
`ClusterConfig` and its parts, the units from their validators, and the meanings from their docstrings.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import attrs

from ..config import ClusterConfig, rule_of
from ..network import TCPNetwork
from .options import ENVIRONMENT_PREFIX

__all__ = ["Setting", "all_settings", "changed_settings"]

_FROM_FILES = {
    "credentials_mode": 'what the files in credentials_path are: "secure" or "gateway".',
    "credentials_path": "the directory with ca.crt, tls.crt and tls.key (secure), or with key.pem (gateway).",
}
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {6,}\S.*)*)", re.MULTILINE)


@attrs.frozen
class Setting:
    """One setting.

    Attributes:
        name: its dotted name, as in the tables of a file.
        default: its default, as it is written in a file; "required" if there is none.
        unit: what it counts; empty if nothing.
        variable: its environment variable.
        meaning: what it is for.
    """

    name: str
    default: str
    unit: str
    variable: str
    meaning: str


def all_settings() -> list[Setting]:
    """All settings, in the order of the classes."""
    return list(_settings_of(ClusterConfig, ""))


def changed_settings(config: ClusterConfig) -> Iterator[tuple[str, str, str]]:
    """The name, value and default of each setting that is not as it is by default."""
    for setting in all_settings():
        part, _, name = setting.name.rpartition(".")
        if name in _FROM_FILES:
            continue
        value = _written(getattr(getattr(config, part) if part else config, name, None))
        if setting.name == "tls":
            value = "false" if config.tls is False else "true"
        default = "false" if setting.name == "tls" else setting.default
        if value != default:
            yield setting.name, value, setting.default
    if config.credentials is not None:
        yield "credentials", type(config.credentials).__name__, "none"


def _settings_of(kind: type[attrs.AttrsInstance], prefix: str) -> Iterator[Setting]:
    documented = _ATTRIBUTE.findall(inspect.getdoc(kind) or "")
    meanings = {name: " ".join(text.replace("``", "").split()) for name, text in documented}
    for field in attrs.fields(kind):
        name = f"{prefix}{field.name}"
        if field.name == "credentials":
            for each, meaning in _FROM_FILES.items():
                yield Setting(each, "none", "", _variable_of(each), meaning)
        elif isinstance(field.default, TCPNetwork):
            yield from _settings_of(TCPNetwork, f"{name}.")
        elif attrs.has(type(field.default)) and not isinstance(field.default, type(attrs.Factory(list))):
            yield from _settings_of(type(field.default), f"{name}.")
        else:
            default, unit = _default_of(field), _unit_of(field)
            yield Setting(name, default, unit, _variable_of(name), meanings.get(field.name, ""))


def _variable_of(name: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{name.replace('.', '_').upper()}"


def _unit_of(field: attrs.Attribute[Any]) -> str:
    if "bytes" in field.name:
        return "bytes"
    if field.name == "happy_eyeballs_delay":
        return "seconds"
    return str(getattr(rule_of(field), "unit", ""))


def _default_of(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    if field.name == "tls":
        return "true with tls_ca_file, else false"
    return _written(field.default)


def _written(value: Any) -> str:
    """A value as it is written in a file."""
    match value:
        case None:
            return "off"
        case bool():
            return str(value).lower()
        case tuple():
            return json.dumps([str(item) for item in value])
        case int() | float():
            return f"{value}"
        case _:
            return json.dumps(str(value))
