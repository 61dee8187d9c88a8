"""The exceptions that this library raises, so that a program can name what it catches.

`ModelError` is in `values.results`, beside the results that it is about.

For cancellation, timeouts, closed resources and failed connections, this library raises what Trio programs
expect: `trio.Cancelled`, `TimeoutError`, `trio.ClosedResourceError` and `OSError`.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ClusterDraining",
    "ConfigError",
    "InvalidAnswer",
    "OrchestratorUnavailable",
    "ProofFailed",
    "ReadersUnavailable",
    "TrioModelRunnerError",
]


class TrioModelRunnerError(Exception):
    """The base class of the exceptions that this library defines."""


class ConfigError(TrioModelRunnerError, ValueError):
    """Settings are missing, misspelt or out of range. The text names each field, and what is wrong with it.

    Attributes:
        problems: a text for each problem, such as ``limits.max_queued_calls: must be ..., got 0``. The text
            of an error with one problem is that; with several, each has a line of its own.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return "\n  ".join((f"{len(self.problems)} problems with the settings:", *self.problems))


class OrchestratorUnavailable(TrioModelRunnerError):
    """The orchestrator sent no ``init`` within ``orchestrator_timeout``; the cause is the last error seen."""


class ClusterDraining(TrioModelRunnerError):
    """A call was made after `Cluster.drain`. Running rounds may end then, and new ones are refused."""


class InvalidAnswer(TrioModelRunnerError, ValueError):
    """A model's answer could not be read, or does not fit what ``returns=`` asked for.

    Attributes:
        value: the decoded answer, or an `Encoded` if it can't be decoded.
    """

    def __init__(self, message: str, value: Any = None) -> None:
        super().__init__(message)
        self.value = value


class ReadersUnavailable(TrioModelRunnerError):
    """A data frame in an answer was not read, and the model is not to blame.

    No reader process can be started here, or something from outside has ended those that read it.
    """


class ProofFailed(TrioModelRunnerError):
    """A node did not prove that it belongs to its model."""
