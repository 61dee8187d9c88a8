"""The exceptions that shards tell of: by name and text, and made anew at the driver.

A coordinator looks at the class of `PredictResult.error` and `ModelRunner.error`, so it is that of a
`Cluster`: one of those that results and models have there. Any other class is a `ModelError`. What an
exception has beside its text stays behind, as its cause does; but gRPC's have their status. Nothing is
pickled: a name is looked up here, or means nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ..errors import ConfigError, InvalidAnswer, ProofFailed, ReadersUnavailable
from ..rpc.protocol import NotGRPC
from ..rpc.receiver import CallInterrupted
from ..security.delegation import ProofLapsed, UnknownIdentity
from ..values.results import ModelError

__all__ = ["error_named", "name_of", "text_of"]

_CLASSES: Final[Mapping[str, type[Exception]]] = {
    each.__name__: each
    for each in (
        BrokenPipeError,
        CallInterrupted,
        ConfigError,
        ConnectionAbortedError,
        ConnectionError,
        ConnectionRefusedError,
        ConnectionResetError,
        ImportError,
        InvalidAnswer,
        MemoryError,
        ModelError,
        ModuleNotFoundError,
        OSError,
        PermissionError,
        ProofFailed,
        ProofLapsed,
        ReadersUnavailable,
        TimeoutError,
        TypeError,
        UnknownIdentity,
        ValueError,
        socket.gaierror,
    )
}
_GRPC: Final[Mapping[str, type[GRPCError]]] = {"GRPCError": GRPCError, "NotGRPC": NotGRPC}


def name_of(error: BaseException) -> str:
    """The name of an exception's class, or of the nearest one above it that the driver knows."""
    for kind in type(error).__mro__:
        if (_CLASSES.get(kind.__name__) or _GRPC.get(kind.__name__)) is kind:
            return kind.__name__
    return type(error).__name__


def text_of(error: BaseException) -> str:
    """The text of an exception, of which `error_named` makes one like it."""
    if isinstance(error, GRPCError):
        return error.status.name if error.message is None else f"{error.status.name}: {error.message}"
    return str(error)


def error_named(name: str, text: str) -> Exception:
    """Make an exception of what `name_of` and `text_of` say."""
    if (kind := _GRPC.get(name)) is not None:
        status, colon, message = text.partition(": ")
        if status in Status.__members__:
            return kind(Status[status], message if colon else None)
    return _CLASSES.get(name, ModelError)(text)
