"""`ModelRunner`, the first release's service, whose types are numbered differently from all later ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from ..rpc.message_reader import reader_of
from ..values.data import Arguments, DataType, Encoded
from .base import MAX_FIELDS, MAX_TEXT_BYTES, AnswerCode, Request, ServiceAnswer
from .infer import InferService, only_value
from .messages import FIRST_INFER_RESPONSE
from .uncopied import few, nested, number

if TYPE_CHECKING:
    from ..rpc.http2 import Buffer

__all__ = ["ModelRunnerService"]

_NUMBERED_LOWER = 1
"""The types of this service begin at DOUBLE=0; those of all later ones at NONE=0 and DOUBLE=1."""

_read_response = reader_of(FIRST_INFER_RESPONSE, MAX_FIELDS, MAX_TEXT_BYTES)


@attrs.frozen
class ModelRunnerService(InferService):
    """Nodes that serve `ModelRunner`. It has no type NONE: None can be neither an argument nor an answer."""

    path: ClassVar[str] = "/ModelRunner/"

    def call_request(self, method: str, arguments: Arguments) -> Request:
        """See `NodeService.call_request`: only `Infer`, of exactly one value."""
        only_value(method, arguments)
        return Request(self.call_path, arguments.once(ModelRunnerService, _encode_request))

    def read_call(self, message: bytes) -> ServiceAnswer:
        """See `NodeService.read_call`."""
        number, data = _read_response(message)
        return ServiceAnswer(AnswerCode.SUCCESS, value=Encoded(DataType(number + _NUMBERED_LOWER), data))


def _encode_request(arguments: Arguments) -> tuple[Buffer, ...]:
    (value,) = arguments.positional
    if value.data_type is DataType.NONE:
        raise ValueError("argument 1: this service has no type NONE")
    return few([*number(1, value.data_type - _NUMBERED_LOWER), *nested(2, [value.data])])
