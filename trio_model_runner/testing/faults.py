"""What a node is told to do wrong.

To begin a fault, set an attribute: `node.faults.busy = True`. To end it, set it back. Or give faults to the
next calls only: `node.next_faults(Faults(busy=True), times=2)`. The node reads these attributes when it needs
them. They know nothing of the node. What the whole process does (die, stand still, say goodbye) are methods
of `LocalNode`. A value that no node could act on is refused at once, and the error names the attribute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs
from grpclib.const import Status

__all__ = ["Faults", "WrongCertificate", "WrongProof"]

WrongProof: TypeAlias = Literal["missing", "expired", "other wallet", "other key", "other model"]
WrongCertificate: TypeAlias = Literal["expired", "other authority", "other name"]

Validator: TypeAlias = "Callable[[Faults, attrs.Attribute[Any], Any], None]"


def _must(what: str, fits: Callable[[Any], bool]) -> Validator:
    """A validator that says what an attribute must be."""

    def check(faults: Faults, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not fits(value):
            raise TypeError(f"Faults.{attribute.name}: must be {what}, got {value!r}")

    return check


def _is_names(value: Any) -> bool:
    if not isinstance(value, Collection) or isinstance(value, str | bytes):
        return False
    return len(value) > 0 and all(map(_is_text, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= math.inf


def _is_pair(value: Any, kind: type) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], kind) and _is_text(value[1])


def _one_of(alias: Any) -> Validator:
    names = get_args(alias)
    listed = ", ".join(map(repr, names))
    return _must(f"one of {listed}, or None", lambda value: value is None or value in names)


def _secured(faults: Faults, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value != attribute.default and attribute.name not in faults._of_node:
        raise ValueError(f"Faults.{attribute.name}: this node has no {_OF_SECURITY[attribute.name]}")


_YES_OR_NO: Final = _must("True or False", lambda value: isinstance(value, bool))
_NAMES: Final = _must(
    "a collection of methods' names such as {'tick'}, not empty, or None for all",
    lambda value: value is None or _is_names(value),
)
_TIME: Final = _must("seconds, 0 or more", _is_time)
_CODE: Final = _must(
    "a code and a message, both text, or None", lambda value: value is None or _is_pair(value, str)
)
_GRPC_ERROR: Final = _must(
    "a grpclib.const.Status and a message, or None", lambda value: value is None or _is_pair(value, Status)
)
_HEALTH_STATUS: Final = _must(
    "a grpclib.const.Status, or None", lambda value: value is None or isinstance(value, Status)
)
_BYTES: Final = _must("bytes, or None", lambda value: value is None or isinstance(value, bytes))


_OF_SECURITY: Final = {
    "wrong_certificate": "certificate; it needs a crunch with security='secure' or 'gateway'",
    "wrong_proof": "proof; it needs a crunch with security='secure'",
    "lose_token": "gateway; it needs a crunch with security='gateway'",
}
"""The faults that only a secured node can act on, and what others have not."""


@attrs.define(kw_only=True)
class Faults:
    """The faults of a node. A new `Faults` has none.

    Attributes:
        silent: a new connection is accepted and never answered, not even with SETTINGS.
        garbage: a new connection is sent these bytes instead of HTTP/2.
        wrong_certificate: what is wrong with the certificate that a new connection is shown: "expired",
            "other authority", "other name". For crunches with ``security``.
        wrong_proof: what is wrong with the proof that comes with every answer: "missing", "expired", "other
            wallet" (a stranger's), "other key", "other model". For ``security="secure"``.
        lose_token: calls are refused, as calls without a token are. For ``security="gateway"``.
        hang_setup: Setup never ends; other requests find the node busy, as on deployed nodes.
        setup_delay: seconds that a Setup takes longer, the node being busy.
        setup_status: code and message that Setup answers instead of making an instance.
        setup_error: gRPC status and message that Setup fails with instead of making an instance.
        methods: the methods whose calls the faults from here on act on, up to `drop_after_request`; None is
            all. The Infer services have one, which is called "Infer".
        busy: a call is refused with "Server busy", and nothing runs.
        delay: seconds from the end of a method until its answer, the node being busy.
        call_status: code and message that a call answers instead of running the method. The Infer services
            have no codes: there it is gRPC's INTERNAL.
        grpc_error: gRPC status and message that a call fails with instead of running the method.
        raw_answer: what is sent as the content of a call's answer, whatever the method returns: bytes that
            need not be such a message.
        raw_body: the whole body of a call's answer, with gRPC's length prefix, whatever the method returns.
        drop_after_request: the connection is closed when a call has come; the method runs all the same.
        health_status: gRPC status that a health check fails with; None lets it answer SERVING.
        hang_health: a health check is never answered.

    Raises:
        TypeError: an attribute is given, or set to, something else; the text names it.
        ValueError: it is of a security that the node has not.
    """

    silent: bool = attrs.field(default=False, validator=_YES_OR_NO)
    garbage: bytes | None = attrs.field(default=None, validator=_BYTES)
    wrong_certificate: WrongCertificate | None = attrs.field(
        default=None, validator=[_one_of(WrongCertificate), _secured]
    )
    wrong_proof: WrongProof | None = attrs.field(default=None, validator=[_one_of(WrongProof), _secured])
    lose_token: bool = attrs.field(default=False, validator=[_YES_OR_NO, _secured])
    _of_node: frozenset[str] = attrs.field(
        default=frozenset(_OF_SECURITY), init=False, eq=False, repr=False
    )  # those of security that their node can act on

    hang_setup: bool = attrs.field(default=False, validator=_YES_OR_NO)
    setup_delay: float = attrs.field(default=0.0, validator=_TIME)
    setup_status: tuple[str, str] | None = attrs.field(default=None, validator=_CODE)
    setup_error: tuple[Status, str] | None = attrs.field(default=None, validator=_GRPC_ERROR)

    methods: Collection[str] | None = attrs.field(default=None, validator=_NAMES)
    busy: bool = attrs.field(default=False, validator=_YES_OR_NO)
    delay: float = attrs.field(default=0.0, validator=_TIME)
    call_status: tuple[str, str] | None = attrs.field(default=None, validator=_CODE)
    grpc_error: tuple[Status, str] | None = attrs.field(default=None, validator=_GRPC_ERROR)
    raw_answer: bytes | None = attrs.field(default=None, validator=_BYTES)
    raw_body: bytes | None = attrs.field(default=None, validator=_BYTES)
    drop_after_request: bool = attrs.field(default=False, validator=_YES_OR_NO)

    health_status: Status | None = attrs.field(default=None, validator=_HEALTH_STATUS)
    hang_health: bool = attrs.field(default=False, validator=_YES_OR_NO)

    def act_on(self, method: str) -> bool:
        """Whether the faults of calls act on a call of `method`."""
        return self.methods is None or method in self.methods

    def limit(self, secured: frozenset[str]) -> None:
        """Be the faults of a node that can act on these faults of security, and no others.

        Raises:
            ValueError: another one is set.
        """
        self._of_node = secured
        attrs.validate(self)

    def not_of_calls(self) -> list[str]:
        """The names of the faults that are set and are not of calls, which `methods` can't limit."""
        return [
            field.name
            for field in attrs.fields(Faults)
            if field.init and field.name not in _OF_CALLS and getattr(self, field.name) != field.default
        ]


_OF_CALLS: Final = frozenset(
    {"methods", "busy", "delay", "call_status", "grpc_error", "raw_answer", "raw_body", "drop_after_request"}
)
