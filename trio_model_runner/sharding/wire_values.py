"""Services, settings and arguments as plain values, such as JSON has, and back.

A shard makes its own service and settings of them. What a program has made itself can't travel: a service or
a network of its own, SSL contexts. And no key ever does: credentials are loaded again on the shard's machine,
from the same absolute paths. The settings of the orchestrator's TLS stay with the driver, which alone has
that connection; so a shard needs no file for them.

Read back is exactly what was made here, of the same release: anything else is a `WireError`. Settings that
are wrong on the shard's machine, such as a key that is not there, are a `ConfigError`, as everywhere.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from ..config import Backoff, ClusterConfig, Health, Keepalive, Limits, OrchestratorConfig
from ..errors import ConfigError
from ..network import Network, TCPNetwork
from ..security import Credentials, GatewayCredentials, SecureCredentials
from ..services import (
    DynamicSubclassService,
    ModelRunnerService,
    NodeService,
    TrainInferService,
    TrainInferStreamService,
)
from ..text import quoted
from ..values.data import Arguments, DataType, Encoded
from .messages import WireArguments
from .wire_json import WireError

__all__ = [
    "arguments_from_wire",
    "arguments_to_wire",
    "config_from_wire",
    "config_to_wire",
    "service_from_wire",
    "service_to_wire",
]

Plain = Mapping[str, Any]

_SERVICES: Final[Mapping[str, type[NodeService]]] = {
    kind.__name__: kind
    for kind in (DynamicSubclassService, ModelRunnerService, TrainInferService, TrainInferStreamService)
}
_PARTS: Final[Mapping[str, type[attrs.AttrsInstance]]] = {
    "backoff": Backoff,
    "orchestrator": OrchestratorConfig,
    "health": Health,
    "limits": Limits,
    "keepalive": Keepalive,
}
_OF_DRIVER: Final = frozenset({"tls", "tls_ca_file"})
_CREDENTIALS: Final[Mapping[str, tuple[Callable[..., Credentials], frozenset[str]]]] = {
    "secure": (
        SecureCredentials.from_files,
        frozenset({"ca_cert_path", "tls_cert_path", "tls_key_path"}),
    ),
    "gateway": (GatewayCredentials.from_files, frozenset({"key_path"})),
}


# Arguments.


def arguments_to_wire(arguments: Arguments) -> WireArguments:
    """Encode arguments, if they are not yet, and say their shape as text. No value is copied.

    Two of them have the same text exactly if they have equal shapes; of arguments that were made here, and in
    this process only.

    Raises:
        TypeError, ValueError, ImportError: see `values.encode`.
    """
    return WireArguments(arguments.positional, dict(arguments.keyword), _shapes.text(arguments.shape))


def arguments_from_wire(wire: WireArguments) -> Arguments:
    """Make arguments whose shape is the text that came."""
    arguments = Arguments(*wire.positional, **wire.keyword)
    arguments.shape = wire.shape
    return arguments


class _Shapes:
    """Says shapes as text. Types that share their full name are told apart by a number."""

    def __init__(self) -> None:
        self._names: weakref.WeakKeyDictionary[type, tuple[str, int]] = weakref.WeakKeyDictionary()
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()  # arguments may be encoded in threads

    def text(self, shape: Hashable) -> str:
        """The text of an `Arguments.shape`; of one that came as text, that."""
        if isinstance(shape, str):
            return shape
        assert isinstance(shape, tuple)
        positional, keyword = shape
        with self._lock:
            named = sorted((name, *self._name(kind)) for name, kind in keyword)
            return json.dumps([[self._name(kind) for kind in positional], named], separators=(",", ":"))

    def _name(self, kind: type) -> tuple[str, int]:
        name = self._names.get(kind)
        if name is None:
            plain = f"{kind.__module__}.{kind.__qualname__}"
            name = self._names[kind] = plain, self._taken[plain]
            self._taken[plain] += 1
        return name


_shapes: Final = _Shapes()


# Services.


def service_to_wire(service: NodeService) -> Plain:
    """Say which service it is, with the arguments of its Setup.

    Raises:
        TypeError: it is a service of the program's own, or an argument has no encoding.
        ValueError: see `values.encode`.
    """
    kind = type(service)
    name = kind.__name__
    if _SERVICES.get(name) is not kind:
        raise TypeError(
            f"service: a {name} has no wire form, so shards can't have it: only "
            f"{', '.join(_SERVICES)} have one, and no classes of your own"
        )
    if not isinstance(service, DynamicSubclassService):
        return {"service": name}
    arguments = arguments_to_wire(service.arguments)
    return {
        "service": name,
        "class_name": service.class_name,
        "positional": [_plain_encoded(value) for value in arguments.positional],
        "keyword": [[keyword, *_plain_encoded(value)] for keyword, value in arguments.keyword.items()],
        "shape": arguments.shape,
    }


def service_from_wire(plain: Plain) -> NodeService:
    """Make the service that `service_to_wire` said.

    Raises:
        WireError: it is something else.
    """
    name = plain.get("service") if isinstance(plain, Mapping) else None
    if not isinstance(name, str) or name not in _SERVICES:
        raise WireError(f"service: must be one of {', '.join(_SERVICES)}, got {quoted(name, 40)}")
    kind = _SERVICES[name]
    if kind is not DynamicSubclassService:
        _check_keys(plain, {"service"}, "service")
        return kind()
    _check_keys(plain, {"service", "class_name", "positional", "keyword", "shape"}, "service")
    shape, keyword = plain["shape"], _list(plain["keyword"])
    if not isinstance(shape, str) or not all(isinstance(item, list) and item for item in keyword):
        raise WireError("service: has arguments that are not as they must be")
    named = {_name(item[0]): _encoded(item[1:]) for item in keyword}
    if len(named) < len(keyword):
        raise WireError("service: has an argument's name twice")
    positional = tuple(map(_encoded, _list(plain["positional"])))
    try:
        arguments = arguments_from_wire(WireArguments(positional, named, shape))
        return DynamicSubclassService(plain["class_name"], arguments)
    except (TypeError, ValueError) as error:
        raise WireError(f"service: {error}") from None


def _plain_encoded(value: Encoded) -> list[Any]:
    return [value.data_type.name, base64.b64encode(value.data).decode()]


def _encoded(plain: Any) -> Encoded:
    try:
        name, text = plain
        return Encoded(DataType[name], base64.b64decode(text, validate=True))
    except (TypeError, ValueError, KeyError, binascii.Error):
        raise WireError("service: has an argument that is no encoded value") from None


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise WireError("service: has an argument whose name is no text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise WireError("service: has arguments that are no list")
    return value


def _check_keys(plain: Any, wanted: set[str] | frozenset[str], what: str) -> None:
    if not isinstance(plain, Mapping):
        raise WireError(f"{what}: must be an object, got {quoted(plain, 40)}")
    wrong = min(set(plain) ^ wanted, default=None)
    if wrong is not None:
        raise WireError(f"{what}: has or lacks {quoted(wrong, ascii_only=True)}")


# Settings.


def config_to_wire(config: ClusterConfig, *, network: bool = True) -> Plain:
    """Say all settings that a shard needs.

    Args:
        config: the settings.
        network: False leaves out the network: the shards have one of their own.

    Raises:
        ConfigError: a setting can't be given to shards; the text names each.
    """
    problems: list[str] = []
    plain = _settings(config, {*_PARTS, *_OF_DRIVER, "credentials", "network"})
    for part in _PARTS:
        plain[part] = _settings(getattr(config, part), set())
    for name, wanted, write in (
        ("credentials", True, _plain_credentials),
        ("network", network, _plain_network),
    ):
        try:
            plain[name] = write(getattr(config, name)) if wanted else None
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
    return plain


def config_from_wire(plain: Plain, *, network: Network | None = None) -> ClusterConfig:
    """Make the settings that `config_to_wire` said. This reads the files of credentials, so it blocks.

    Args:
        plain: what it said.
        network: the shard's own network, which is used in place of the one that was said.

    Raises:
        ConfigError: a setting is wrong here; for credentials, the text names the file.
        WireError: it is no settings.
    """
    values = _read_settings(ClusterConfig, plain, "config", left_out=_OF_DRIVER)
    for part, kind in _PARTS.items():
        values[part] = kind(**_read_settings(kind, values[part], f"config.{part}"))
    values["credentials"] = _read_credentials(values["credentials"])
    values["network"] = _read_network(values["network"]) if network is None else network
    return ClusterConfig(**values)


def _settings(part: attrs.AttrsInstance, left_out: set[str]) -> dict[str, Any]:
    names = (field.name for field in attrs.fields(type(part)) if field.name not in left_out)
    return {name: _plain(getattr(part, name)) for name in names}


def _plain(value: Any) -> Any:
    """A setting as JSON has it: settings are numbers, texts, and tuples of texts and IP networks."""
    if isinstance(value, tuple):
        return list(map(str, value))
    return str(value) if value == math.inf else value


def _read_settings(
    kind: type[attrs.AttrsInstance], plain: Any, what: str, left_out: frozenset[str] = frozenset()
) -> dict[str, Any]:
    _check_keys(plain, {field.name for field in attrs.fields(kind)} - left_out, what)
    floats = {field.name for field in attrs.fields(kind) if "float" in str(field.type)}  # or its text
    return {name: math.inf if name in floats and value == "inf" else value for name, value in plain.items()}


def _plain_credentials(credentials: Credentials | None) -> Plain | None:
    if credentials is None:
        return None
    if isinstance(credentials, SecureCredentials):
        return {
            "mode": "secure",
            "ca_cert_path": _absolute(credentials.ca_file),
            "tls_cert_path": _absolute(credentials.certificate_file),
            "tls_key_path": _absolute(credentials.key_file),
        }
    if credentials.key_file is None or credentials.tls is not None:
        what = "an SSL context" if credentials.key_file is not None else "a key"
        raise ConfigError(
            f"credentials: shards load them from files, and {what} that the program has made can't be sent: "
            "use from_directory, from_files or credentials_path"
        )
    return {"mode": "gateway", "key_path": _absolute(credentials.key_file)}


def _absolute(path: Path) -> str:
    return str(path.absolute())


def _read_credentials(plain: Any) -> Credentials | None:
    if plain is None:
        return None
    mode = plain.get("mode") if isinstance(plain, Mapping) else None
    if not isinstance(mode, str) or mode not in _CREDENTIALS:
        raise WireError("config.credentials: must be secure or gateway")
    load, names = _CREDENTIALS[mode]
    _check_keys(plain, names | {"mode"}, "config.credentials")
    paths = {name: plain[name] for name in names}
    if not all(isinstance(path, str) and Path(path).is_absolute() for path in paths.values()):
        raise WireError("config.credentials: must have absolute paths")
    try:
        return load(**paths)
    except ConfigError as error:
        raise ConfigError(f"credentials: {error}") from error


def _plain_network(network: Network) -> Plain:
    if type(network) is not TCPNetwork:
        kind = type(network).__name__
        raise ConfigError(f"network: shards connect by TCP alone, and a {kind} can't be sent to them")
    return {"happy_eyeballs_delay": network.happy_eyeballs_delay}


def _read_network(plain: Any) -> Network:
    _check_keys(plain, {"happy_eyeballs_delay"}, "config.network")
    return TCPNetwork(**plain)
