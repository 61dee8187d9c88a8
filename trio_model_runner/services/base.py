"""What every gRPC service of the model nodes has: requests to send, and answers to read.

A `NodeService` knows the messages of one service and nothing more. It neither sends nor waits, so it can be
read beside its `.proto` file. What an answer means for the model is decided in `model.policy`.
"""

from __future__ import annotations

import abc
import enum
from typing import TYPE_CHECKING, Final

import attrs

from ..values.data import Arguments, DataType, Encoded

if TYPE_CHECKING:
    from ..rpc.headers import RawFields
    from ..rpc.http2 import Buffer

__all__ = [
    "MAX_FIELDS",
    "MAX_TEXT_BYTES",
    "NOTHING",
    "AnswerCode",
    "NodeService",
    "Request",
    "ServiceAnswer",
    "SetupAnswer",
]


class AnswerCode(enum.StrEnum):
    """The code in a node's answer to a call or a Setup. For services without codes, it is SUCCESS."""

    SUCCESS = "SUCCESS"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    BAD_IMPLEMENTATION = "BAD_IMPLEMENTATION"
    SETUP_FAILED = "SETUP_FAILED"
    MODEL_FAILED = "MODEL_FAILED"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def _missing_(cls, value: object) -> AnswerCode:
        return cls.UNKNOWN


@attrs.frozen
class Request:
    """One unary request. Its repr has the length of the message, not its content.

    Attributes:
        path: "/package.Service/Method".
        message: the encoded message, in buffers. They are sent one after the other, without copying.
        metadata: header fields that go with it.
    """

    path: str
    message: tuple[Buffer, ...] = attrs.field(
        default=(), repr=lambda message: f"<{sum(map(len, message))} bytes>"
    )
    metadata: RawFields = attrs.field(default=(), repr=lambda fields: f"<{len(fields)}>")


@attrs.frozen
class SetupAnswer:
    """What a node answered to a setup.

    Attributes:
        fresh: a new instance was made. If False, the model still has its history.
    """

    code: AnswerCode
    message: str = ""
    fresh: bool = True


MAX_FIELDS: Final = 100
"""How many fields of one message in an answer are read: real ones have far fewer, hostile ones may not."""

MAX_TEXT_BYTES: Final = 2**20
"""How much is read of a text in an answer that is no value: a model's traceback has a few thousand."""

NOTHING = Encoded(DataType.NONE, b"")


@attrs.define
class ServiceAnswer:
    """What a node answered to a call. It is not frozen, which would take longer.

    Attributes:
        value: the model's answer, not decoded yet; None unless the code is SUCCESS.
    """

    code: AnswerCode
    message: str = ""
    value: Encoded | None = None


class NodeService(abc.ABC):
    """A gRPC service of model nodes. A `Cluster` uses one for all of its models."""

    @property
    @abc.abstractmethod
    def instance_name(self) -> str:
        """What `setup_request` asks for, in words. Two services with the same name ask for the same."""

    @abc.abstractmethod
    def setup_request(self) -> Request:
        """The request that makes a node ready for calls."""

    def empty_setup_request(self) -> Request | None:
        """A Setup that changes nothing, and whose answer says whether the node is busy; None if none does."""
        return None

    @abc.abstractmethod
    def read_setup(self, message: bytes) -> SetupAnswer:
        """Read the answer to `setup_request`.

        Raises:
            ValueError: it is malformed.
        """

    @abc.abstractmethod
    def call_request(self, method: str, arguments: Arguments) -> Request:
        """The request for a call of `method`.

        Raises:
            TypeError: this service can't carry such arguments, or an argument has no encoding.
            ValueError: there is no such method here, or an argument is out of range.
        """

    @property
    @abc.abstractmethod
    def call_path(self) -> str:
        """The path of all that `call_request` makes."""

    @abc.abstractmethod
    def reset_request(self) -> Request:
        """The request that makes a model forget what it has learnt. A Setup must follow it."""

    @abc.abstractmethod
    def read_reset(self, message: bytes) -> ServiceAnswer:
        """Read the answer to `reset_request`. On success, the value has the type NONE.

        Raises:
            ValueError: it is malformed.
        """

    @abc.abstractmethod
    def predict_method(self) -> str:
        """The method that `Cluster.predict` calls."""

    @abc.abstractmethod
    def read_call(self, message: bytes) -> ServiceAnswer:
        """Read the answer to a `call_request`.

        Raises:
            ValueError: it is malformed.
        """
