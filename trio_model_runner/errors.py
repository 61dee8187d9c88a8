"""The exceptions that this library raises, so that a program can name what it catches.

`ModelError` stands beside the results that it is about, in `values.results`.

Cancellation, time and closed resources are not here: they are Trio's (`trio.Cancelled`,
`trio.ClosedResourceError`) and Python's (`TimeoutError`, `OSError`), as Trio programs expect.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ClusterDraining",
    "ConfigError",
    "InvalidAnswer",
    "OrchestratorUnavailable",
    "ProofFailed",
    "TrioModelRunnerError",
]


class TrioModelRunnerError(Exception):
    """What every exception of this library's own is."""


class ConfigError(TrioModelRunnerError, ValueError):
    """A setting is missing, misspelt or out of range. The text names the field and the value."""


class OrchestratorUnavailable(TrioModelRunnerError):
    """The orchestrator sent no ``init`` within ``orchestrator_timeout``; the cause is the last error seen."""


class ClusterDraining(TrioModelRunnerError):
    """A call was made after `Cluster.drain`, which lets running rounds end and refuses new ones."""


class InvalidAnswer(TrioModelRunnerError, ValueError):
    """A model's answer could not be read, or does not fit what ``returns=`` asked for.

    Attributes:
        value: what came: a decoded value where there is one, else an `Encoded`.
    """

    def __init__(self, message: str, value: Any = None) -> None:
        super().__init__(message)
        self.value = value


class ProofFailed(TrioModelRunnerError):
    """A node could not prove that it belongs to the model it claims to be."""
