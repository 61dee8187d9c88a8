"""The rules for the values of settings, and the texts of their errors.

The validators of attrs raise TypeError or ValueError with a tuple of arguments, and don't know where in a
configuration a field is. The validators here raise `ConfigError`, always as ``<dotted field>: must be <rule>,
got <value>``. So a person who reads it, perhaps in a server's log, has the field, the rule and the value. A
value that could be a secret is not shown, in whatever field it stands; see `text.shown`.
They know values only; `settings` says which field has which rule.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import sys
from pathlib import Path
from typing import Any, Literal, NoReturn

import attrs

from ..errors import ConfigError
from ..given import as_float
from ..network.named_hosts import host_pattern
from ..text import advice_on_number, kind_of_secret, shown

__all__ = [
    "Host",
    "HostPatterns",
    "InstanceOf",
    "Networks",
    "Number",
    "OneOf",
    "PathSegment",
    "TrueOrFalse",
    "WholeNumber",
    "is_host",
    "off_to_none",
    "refuse",
    "refuse_as_path",
    "to_float",
    "to_host_patterns",
    "to_networks",
    "to_path",
]

_PLAIN_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,20}")
_NOT_IN_HOST = frozenset(" /[]@?#\\")
_NO_HOSTS = frozenset(("all", "any", "none", "off", "on"))
"""As names of hosts they would allow no gateway; whoever writes them means something else."""

_LONGEST_NAME = 200  # characters
_LARGEST_TOLD = 1_000_000
"""A greater bound is part of no rule's text: hardly anybody comes near it."""

_SHORT_WORDS = re.compile(r"(?!([0-9a-fA-F]{2}-){8})[A-Za-z0-9]{1,12}([._-][A-Za-z0-9]{1,12})*")
"""An honest name, however mixed its letters are: ``Bird2026-R1-B2B-Game3``. One in 200 keys of 32 bytes looks
so in base64 for URLs, which alone has dashes; no key in other letters does."""


def refuse(
    instance: object, attribute: attrs.Attribute[Any], rule: str, value: object, *, reason: str = ""
) -> NoReturn:
    """Raise the `ConfigError` for a field of `instance`.

    A class that is a part of another configuration has its place in ``SECTION``, such as ``"limits."``. The
    value is the coordinator's own, so lists and dicts are shown, too, unless a secret could be in them.
    """
    section = getattr(type(instance), "SECTION", "")
    text = f"{section}{attribute.name}: must be {rule}, got {_shown_with_type(value)}"
    raise ConfigError(f"{text}: {reason}" if reason else text)


def _is_off(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.lower() in ("off", "none", "inf", "unlimited"))


def _shown_with_type(value: object) -> str:
    """Show a value, and its type where nobody would guess it: older numpys write an ``int64`` as ``5``."""
    text, kind = shown(value), type(value)
    known = kind.__module__ == "builtins" or kind.__name__ in text
    return text if known else f"{text} of type {kind.__name__}"


def refuse_as_path(instance: object, attribute: attrs.Attribute[Any], value: object) -> NoReturn:
    """Raise the `ConfigError` for a field of `instance` in which the path of a file is wanted."""
    kind = kind_of_secret(value)
    if kind is None:
        refuse(instance, attribute, "the path of a file", value)
    raise ConfigError(f"{attribute.name}: holds {kind}; a path is wanted")


def off_to_none(value: int | Literal["off"] | None) -> int | None:
    """Convert ``"off"`` to None, and leave everything else for the validator."""
    return None if isinstance(value, str) and value == "off" else value


def to_float(value: float) -> float:
    """Convert a whole number to a float, and leave everything else for the validator."""
    return as_float(value) if type(value) is int else value


def to_path(value: Any) -> Any:
    """Convert a file's name to a path, and leave everything else for the validator."""
    try:
        return Path(value) if isinstance(value, str | os.PathLike) and os.fspath(value) else value
    except (TypeError, ValueError):  # a PathLike may give bytes
        return value


def to_networks(value: Any) -> Any:
    """Convert texts such as ``10.0.0.0/8``, in a list or between commas, to IP networks.

    ``"off"`` is None. A value that can't be converted is left for the validator.
    """
    if isinstance(value, str):
        if value == "off":
            return None
        value = value.split(",")
    return tuple(map(_to_network, value)) if isinstance(value, list | tuple) else value


def _to_network(value: Any) -> Any:
    try:
        return ipaddress.ip_network(value.strip()) if isinstance(value, str) else value
    except ValueError:
        return value


def to_host_patterns(value: Any) -> Any:
    """Convert names such as ``gateway.example.org`` and ``.example.org``, in a list or between commas.

    They are spelt as they are compared. ``"off"`` is None. What can't be converted is left for the validator.
    """
    if isinstance(value, str):
        if value == "off":
            return None
        value = value.split(",")
    return tuple(map(_to_host_pattern, value)) if isinstance(value, list | tuple) else value


def _to_host_pattern(value: Any) -> Any:
    try:
        return host_pattern(value.strip()) if isinstance(value, str) else value
    except ValueError:
        return value


def is_host(text: str) -> bool:
    """Say whether `text` can be a host name or an IP address, so that a resolver may be asked for it.

    For other texts ``socket.getaddrinfo`` raises ValueError, not OSError.
    """
    if _PLAIN_HOST.fullmatch(text):
        return True
    if not text or not text.isprintable() or _NOT_IN_HOST & set(text):
        return False
    try:
        if ":" in text:
            ipaddress.IPv6Address(text)
        else:
            text.encode("idna")
    except ValueError:  # UnicodeError is one
        return False
    return True


def _kind_of_key(name: str) -> str | None:
    """What kind of key stands in place of a name; None if it is an honest one."""
    return None if _SHORT_WORDS.fullmatch(name) else kind_of_secret(name)


@attrs.frozen
class Number:
    """A float within bounds.

    Attributes:
        unit: what the number counts, in the plural; may be empty.
        above: it must be greater than this.
        at_least: it must be this or greater.
        at_most: it must be this or smaller.
        finite: infinity is refused.
    """

    unit: str = "seconds"
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    finite: bool = False

    @property
    def rule(self) -> str:
        """The bounds in words."""
        finite = "finite " if self.finite else ""
        unit = f" of {self.unit}" if self.unit else ""
        bounds = [(">", self.above), (">=", self.at_least), ("<=", self.at_most)]
        limits = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
        return f"a {finite}number{unit} {limits}"

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check `value`, the attrs way."""
        fits = (
            isinstance(value, float)
            and not math.isnan(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and not (self.finite and math.isinf(value))
        )
        if not fits:
            has_off = not self.finite and self.at_most is None
            reason = "inf is no limit" if has_off and _is_off(value) else advice_on_number(value)
            refuse(instance, attribute, self.rule, value, reason=reason)


@attrs.frozen
class WholeNumber:
    """An int, not a bool, within bounds.

    Attributes:
        at_least: it must be this or greater.
        at_most: it must be this or smaller.
        or_off: None is taken as well.
    """

    at_least: int
    at_most: int = sys.maxsize
    or_off: bool = False

    @property
    def rule(self) -> str:
        """The bounds in words. Few come near the greatest: those who do are told of it by `_advice`."""
        most = f" and <= {self.at_most}" if self.at_most <= _LARGEST_TOLD else ""
        off = " or 'off'" if self.or_off else ""
        return f"a whole number >= {self.at_least}{most}{off}"

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check `value`, the attrs way."""
        if value is None and self.or_off:
            return
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= self.at_least
        if not fits or value > self.at_most:  # type: ignore[operator]
            refuse(instance, attribute, self.rule, value, reason=self._advice(value, too_large=fits))

    def _advice(self, value: object, *, too_large: bool) -> str:
        if too_large:
            return "" if self.at_most <= _LARGEST_TOLD else f"the largest is {self.at_most}"
        return "it can't be off" if _is_off(value) and not self.or_off else advice_on_number(value)


@attrs.frozen
class TrueOrFalse:
    """True or False, and no other value, such as 0 or ``"yes"``."""

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check `value`, the attrs way."""
        if not isinstance(value, bool):
            refuse(instance, attribute, "true or false", value)


@attrs.frozen
class OneOf:
    """One of a few words."""

    words: tuple[str, ...]

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check `value`, the attrs way."""
        if not isinstance(value, str) or value not in self.words:
            refuse(instance, attribute, " or ".join(map(repr, self.words)), value)


@attrs.frozen
class Host:
    """A host name or an IP address."""

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check `value`, the attrs way."""
        if not isinstance(value, str) or not is_host(value) or _kind_of_key(value) is not None:
            refuse(
                instance, attribute, "a host name or an IP address, without scheme, port or brackets", value
            )


@attrs.frozen
class PathSegment:
    """A name that is one segment of a URL's path. It is percent-encoded there.

    A configuration shows it, so what could be a key is refused: a key on one line is such a name, too.
    """

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check `value`, the attrs way."""
        if not isinstance(value, str) or not value or not value.isprintable() or "/" in value or " " in value:
            refuse(instance, attribute, "a name without '/' or white space, and not empty", value)
        kind = _kind_of_key(value)
        if kind is not None:
            raise ConfigError(f"{attribute.name}: holds {kind}; a name is wanted")
        if len(value) > _LONGEST_NAME:
            rule = f"a name of at most {_LONGEST_NAME} characters"
            raise ConfigError(f"{attribute.name}: must be {rule}, got {len(value)}")


@attrs.frozen
class Networks:
    """IP networks, at least one, or None."""

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check `value`, the attrs way."""
        rule = "networks such as '10.0.0.0/8', or 'off'"
        if value is None:
            return
        if not isinstance(value, tuple) or not value:
            refuse(instance, attribute, rule, value, reason=_why_no_list(value))
        networks = ipaddress.IPv4Network | ipaddress.IPv6Network
        wrong = [item for item in value if not isinstance(item, networks)]
        if len(wrong) > 1 or (wrong and kind_of_secret(value) is not None):
            refuse(instance, attribute, rule, wrong if kind_of_secret(value) is None else value)
        if wrong:
            refuse(instance, attribute, rule, wrong[0], reason=_why_no_network(wrong[0]))


def _why_no_list(value: object) -> str:
    return "'off' allows all" if isinstance(value, tuple) else ""  # it is empty


def _why_no_network(value: object) -> str:
    """Say why a text is no network, if it is one but for the bits of a host."""
    try:
        network = ipaddress.ip_network(value, strict=False)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    return f"that is a host in {network}" if isinstance(value, str) else ""


@attrs.frozen
class HostPatterns:
    """Names of hosts, IP addresses and suffixes of names, at least one, or None."""

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check `value`, the attrs way."""
        rule = "names such as 'gateway.example.org' or '.example.org', or 'off'"
        if value is None:
            return
        if not isinstance(value, tuple) or not value:
            refuse(instance, attribute, rule, value, reason=_why_no_list(value))
        for item in value:
            shown_item = item if kind_of_secret(value) is None else value  # a key in pieces is none in each
            if not isinstance(item, str):
                refuse(instance, attribute, rule, shown_item)
            reason = "it is no host; 'off' alone allows all" if item in _NO_HOSTS else ""
            try:
                host_pattern(item)
            except ValueError as error:
                reason = str(error)
            if reason:
                refuse(instance, attribute, rule, shown_item, reason=reason)


class InstanceOf:
    """An instance of one of some classes, and perhaps None."""

    def __init__(self, *kinds: type, or_none: bool = False) -> None:
        self._kinds = kinds
        self._or_none = or_none

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check `value`, the attrs way."""
        if not (isinstance(value, self._kinds) or (self._or_none and value is None)):
            names = " or ".join(kind.__name__ for kind in self._kinds)
            if not self._or_none:
                refuse(instance, attribute, f"an instance of {names}", value)
            # A wrong value in place of credentials may be a secret.
            kind = value.__name__ if isinstance(value, type) else type(value).__name__
            got = f"the class {kind} itself" if isinstance(value, type) else f"a value of type {kind}"
            raise ConfigError(f"{attribute.name}: must be an instance of {names}, or None, got {got}")
