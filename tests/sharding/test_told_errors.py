"""Exceptions of shards have the class and text at the driver that people look for, or are `ModelError`."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from trio_model_runner import ConfigError, InvalidAnswer, ModelError, ProofFailed
from trio_model_runner.rpc.protocol import NotGRPC
from trio_model_runner.rpc.receiver import CallInterrupted
from trio_model_runner.security.delegation import ProofLapsed
from trio_model_runner.sharding.told_errors import error_named, name_of, text_of


class Unheard(Exception):
    pass


class LateError(TimeoutError):
    pass


LateError.__name__ = "TimeoutError"  # a stranger of that name


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError("late"), TimeoutError),
        (ConnectionRefusedError(errno.ECONNREFUSED, "nobody there"), ConnectionRefusedError),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), socket.gaierror),
        (ConfigError("a: wrong", "b: too"), ConfigError),
        (InvalidAnswer("no float", 5), InvalidAnswer),
        (ProofFailed("no proof"), ProofFailed),
        (ProofLapsed("old"), ProofLapsed),
        (CallInterrupted("reset", unprocessed=True), CallInterrupted),
        (GRPCError(Status.INTERNAL, "a: b"), GRPCError),
        (GRPCError(Status.UNKNOWN), GRPCError),
        (NotGRPC(Status.UNAVAILABLE, ""), NotGRPC),
        (ModuleNotFoundError("no pandas"), ModuleNotFoundError),
        (ssl.SSLError(1, "bad"), OSError),
        (UnicodeError("no name"), ValueError),
        (LateError("mine"), TimeoutError),
        (KeyError("mine"), ModelError),
        (Unheard("of"), ModelError),
        (ModelError(""), ModelError),
    ],
)
def test_an_error_is_made_anew(error: Exception, kind: type[Exception]) -> None:
    made: Any = error_named(name_of(error), text_of(error))
    assert type(made) is kind
    assert str(made) == str(error)
    assert getattr(made, "status", None) == getattr(error, "status", None)


@pytest.mark.parametrize("name", ["", "Exception", "KeyboardInterrupt", "os.system", "Unheard"])
def test_a_name_that_means_nothing_is_a_model_error(name: str) -> None:
    made = error_named(name, "a text")
    assert (type(made), str(made)) == (ModelError, "a text")


def test_a_status_that_is_none_is_a_model_error() -> None:
    assert type(error_named("GRPCError", "NO_STATUS: at all")) is ModelError
