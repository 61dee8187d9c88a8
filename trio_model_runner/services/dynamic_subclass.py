"""`dynamic_subclass.DynamicSubclassService`: methods of an instance of the participant's subclass.

Setup names a base class. The node finds a subclass of it, makes one instance, and then calls its methods.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import attrs

from ..rpc.message_reader import reader_of
from ..text import is_utf8, quoted, shown
from ..values.data import Arguments, DataType, Encoded
from .base import (
    MAX_FIELDS,
    MAX_TEXT_BYTES,
    NOTHING,
    AnswerCode,
    NodeService,
    Request,
    ServiceAnswer,
    SetupAnswer,
)
from .messages import CALL_RESPONSE, RESET_RESPONSE, SETUP_RESPONSE
from .uncopied import few, nested, number, variant

if TYPE_CHECKING:
    from ..rpc.http2 import Buffer

__all__ = ["DynamicSubclassService"]

_PATH = "/dynamic_subclass.DynamicSubclassService/"
_ALREADY_THERE = "Instance already exists"

_SUCCESS = AnswerCode.SUCCESS  # looked up for each answer, which takes long in an enum
_DATA_TYPES = {each.value: each for each in DataType}

_MODULE = re.compile(r"[\w-]+")
"""A part of a module's name: nodes import it by name, so it need be no identifier."""

_read_setup = reader_of(SETUP_RESPONSE, MAX_FIELDS, MAX_TEXT_BYTES)
_read_call = reader_of(CALL_RESPONSE, MAX_FIELDS, MAX_TEXT_BYTES)
_read_reset = reader_of(RESET_RESPONSE, MAX_FIELDS, MAX_TEXT_BYTES)


def _class_name(instance: Any, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"class_name: must be a str, got {type(value).__name__}")
    *modules, name = value.split(".")
    if not modules or not name.isidentifier() or not all(map(_MODULE.fullmatch, modules)):
        raise ValueError(f"class_name: must look like 'package.module.ClassName', got {shown(value)}")


def _arguments(instance: Any, attribute: attrs.Attribute[Arguments], value: object) -> None:
    if not isinstance(value, Arguments):
        raise TypeError(f"arguments: must be Arguments, got {type(value).__name__}")


@attrs.frozen
class DynamicSubclassService(NodeService):
    """Models that are subclasses of a base class, as deployed nodes serve them.

    Args:
        class_name: the base class, as "package.module.ClassName", where the node can import it.
        arguments: the arguments for making the instance. A node that has an instance ignores both.

    Raises:
        ValueError: `class_name` is no such dotted name.
        TypeError: an argument is of another type.
    """

    class_name: str = attrs.field(validator=_class_name)
    arguments: Arguments = attrs.field(factory=Arguments, validator=_arguments, eq=False)

    @property
    def instance_name(self) -> str:
        """The base class."""
        return self.class_name

    def setup_request(self) -> Request:
        """See `NodeService.setup_request`."""
        arguments = self.arguments.once(DynamicSubclassService, _encode_arguments)
        return Request(f"{_PATH}Setup", (_encode_class_name(self.class_name), *arguments))

    def empty_setup_request(self) -> Request:
        """See `NodeService.empty_setup_request`: a Setup without a class name.

        A node that runs a method says "Server busy", one with an instance says so, and one without refuses.
        """
        return Request(f"{_PATH}Setup")

    def read_setup(self, message: bytes) -> SetupAnswer:
        """See `NodeService.read_setup`. Only the answer's text says whether there was an instance already."""
        (status,) = _read_setup(message)
        code, text = status or ("", "")
        if text in self._wrong_name_texts:
            code = AnswerCode.BAD_IMPLEMENTATION
        return SetupAnswer(AnswerCode(code), text, fresh=text != _ALREADY_THERE)

    @property
    def _wrong_name_texts(self) -> tuple[str, str]:
        """The texts of deployed nodes (release 0.4.2), with SETUP_FAILED, if the module has no such class."""
        module, _, name = self.class_name.rpartition(".")
        return (
            f"Class '{name}' not found in module '{module}'.",
            f"Object '{name}' in module '{module}' is not a class.",
        )

    def call_request(self, method: str, arguments: Arguments) -> Request:
        """See `NodeService.call_request`: any method, any arguments."""
        message = (_encode_method(method), *arguments.once(DynamicSubclassService, _encode_arguments))
        return Request(self.call_path, message)

    @property
    def call_path(self) -> str:
        """See `NodeService.call_path`."""
        return f"{_PATH}Call"

    def reset_request(self) -> Request:
        """See `NodeService.reset_request`: an RPC named `Rest`."""
        return Request(f"{_PATH}Rest")

    def read_reset(self, message: bytes) -> ServiceAnswer:
        """See `NodeService.read_reset`."""
        (status,) = _read_reset(message)
        code, text = status or ("", "")
        return ServiceAnswer(AnswerCode(code), text, NOTHING)

    def predict_method(self) -> str:
        """The method named `predict`."""
        return "predict"

    def read_call(self, message: bytes) -> ServiceAnswer:
        """See `NodeService.read_call`: a method that returned None answers without a value."""
        status, response = _read_call(message)
        code, text = status or ("", "")
        if code != _SUCCESS:
            return ServiceAnswer(AnswerCode(code), text or f"the node's status is {quoted(code)}")
        data_type, data = response or (0, b"")
        return ServiceAnswer(_SUCCESS, text, Encoded(_DATA_TYPES.get(data_type) or DataType(data_type), data))


@functools.lru_cache(maxsize=16)
def _encode_class_name(class_name: str) -> bytes:
    return b"".join(nested(1, [class_name.encode()]))


@functools.lru_cache(maxsize=256)
def _encode_method(method: str) -> bytes:
    if not method:
        raise ValueError("method: must not be empty")
    if not is_utf8(method):
        raise ValueError("method: has a lone surrogate, which can't be sent")
    return b"".join(nested(1, [method.encode()]))


def _encode_arguments(arguments: Arguments) -> tuple[Buffer, ...]:
    """Encode the arguments of a CallRequest or a SetupRequest: both have the same numbers for these fields.

    In protobuf, joined messages are merged. So this can be put behind any encoded method's name.
    """
    fields: list[Buffer] = []
    for position, value in enumerate(arguments.positional, start=1):
        fields += nested(2, number(1, position), nested(2, variant(value)))
    for keyword, value in arguments.keyword.items():
        fields += nested(3, nested(1, [keyword.encode()]), nested(2, variant(value)))
    return few(fields)
