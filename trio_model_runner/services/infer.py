"""What the services that infer one value from one value have in common: Setup, Infer, Reinitialize.

The requests and answers of Setup and Reinitialize are empty, and a model's exception arrives as a gRPC
status. The answer does not say whether Setup made a new instance, so each Setup counts as if it had.
"""

from __future__ import annotations

from typing import ClassVar

from ..text import shown
from ..values.data import Arguments, Encoded
from .base import NOTHING, AnswerCode, NodeService, Request, ServiceAnswer, SetupAnswer

__all__ = ["INFER", "InferService", "only_value"]

INFER = "Infer"


class InferService(NodeService):
    """The base of the services that infer.

    Attributes:
        path: "/package.Service/".
    """

    path: ClassVar[str]

    @property
    def instance_name(self) -> str:
        """The gRPC service."""
        return self.path.strip("/")

    def setup_request(self) -> Request:
        """See `NodeService.setup_request`."""
        return Request(f"{self.path}Setup")

    def read_setup(self, message: bytes) -> SetupAnswer:
        """See `NodeService.read_setup`: any answer is a success."""
        return SetupAnswer(AnswerCode.SUCCESS)

    @property
    def call_path(self) -> str:
        """See `NodeService.call_path`."""
        return f"{self.path}{INFER}"

    def reset_request(self) -> Request:
        """See `NodeService.reset_request`."""
        return Request(f"{self.path}Reinitialize")

    def read_reset(self, message: bytes) -> ServiceAnswer:
        """See `NodeService.read_reset`: any answer is a success."""
        return ServiceAnswer(AnswerCode.SUCCESS, value=NOTHING)

    def predict_method(self) -> str:
        """`Infer`."""
        return INFER


def only_value(method: str, arguments: Arguments) -> Encoded:
    """The one value that `Infer` takes.

    Raises:
        ValueError: the method is not `Infer`.
        TypeError: there is not exactly one positional argument.
    """
    if method != INFER:
        raise ValueError(f"method: this service has only {INFER!r}, got {shown(method)}")
    values = arguments.positional
    if len(values) != 1 or arguments.keyword:
        raise TypeError(
            f"arguments: {INFER} takes exactly one positional argument, "
            f"got {len(values)} and {len(arguments.keyword)} keyword arguments"
        )
    return values[0]
