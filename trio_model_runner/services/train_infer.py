"""`train_infer.TrainInferService` and `TrainInferStreamService`: models that train once and then infer.

The two have the same calls. The second does not stream; that is just its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from ..rpc.message_reader import reader_of
from ..values.data import Arguments, DataType, Encoded
from .base import MAX_FIELDS, MAX_TEXT_BYTES, AnswerCode, Request, ServiceAnswer
from .infer import InferService, only_value
from .messages import INFER_RESPONSE
from .uncopied import few, nested, variant

if TYPE_CHECKING:
    from ..rpc.http2 import Buffer

__all__ = ["TrainInferService", "TrainInferStreamService"]

_read_response = reader_of(INFER_RESPONSE, MAX_FIELDS, MAX_TEXT_BYTES)


@attrs.frozen
class TrainInferService(InferService):
    """Nodes that serve `train_infer.TrainInferService`."""

    path: ClassVar[str] = "/train_infer.TrainInferService/"

    def call_request(self, method: str, arguments: Arguments) -> Request:
        """See `NodeService.call_request`: only `Infer`, of exactly one value."""
        only_value(method, arguments)
        return Request(self.call_path, arguments.once(TrainInferService, _encode_request))

    def read_call(self, message: bytes) -> ServiceAnswer:
        """See `NodeService.read_call`."""
        (prediction,) = _read_response(message)
        data_type, data = prediction or (DataType.NONE, b"")
        return ServiceAnswer(AnswerCode.SUCCESS, value=Encoded(DataType(data_type), data))


@attrs.frozen
class TrainInferStreamService(TrainInferService):
    """Nodes that serve `train_infer.TrainInferStreamService`, which is unary all the same."""

    path: ClassVar[str] = "/train_infer.TrainInferStreamService/"


def _encode_request(arguments: Arguments) -> tuple[Buffer, ...]:
    (value,) = arguments.positional
    return few(nested(1, variant(value)))
