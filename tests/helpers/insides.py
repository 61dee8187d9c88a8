"""What a coordinator can't see of a model: whoever runs it, and what counts against it.

Counts show in reports only when they pass a limit, and after a minute. Tests of single outcomes look here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio_model_runner.model.actor import ModelActor
from trio_model_runner.model.handle import operator_of

if TYPE_CHECKING:
    from trio_model_runner import ModelRunner
    from trio_model_runner.model.policy import Record, Standing

__all__ = [
    "actor_of",
    "counts_of",
    "failures_of",
    "is_ready",
    "queued_of",
    "record_of",
    "standings_of",
    "timeouts_of",
]


def actor_of(model: ModelRunner) -> ModelActor:
    """Whoever runs a model."""
    operator = operator_of(model)
    assert isinstance(operator, ModelActor)
    return operator


def record_of(model: ModelRunner) -> Record:
    """What is known of a model's conduct."""
    operator: Any = operator_of(model)  # it may stand for an actor in another process
    record: Record = operator.conduct.record
    return record


def is_ready(model: ModelRunner) -> bool:
    """Whether a model takes part in rounds."""
    operator: Any = operator_of(model)  # see above
    ready: bool = operator.ready
    return ready


def queued_of(model: ModelRunner) -> int:
    """How many calls have a place in a model's queue; 0 if that is in another process."""
    operator = operator_of(model)
    return len(operator._queue) if isinstance(operator, ModelActor) else 0


def standings_of(model: ModelRunner) -> list[Standing]:
    """How a model stands with all methods that were called on it, and with Setup."""
    return list(record_of(model).standings.values())


def failures_of(model: ModelRunner) -> int:
    """How many failures count against a model, of all methods together."""
    return sum(standing.failures for standing in standings_of(model))


def timeouts_of(model: ModelRunner) -> int:
    """How many timeouts count against a model, of all methods together."""
    return sum(standing.timeouts for standing in standings_of(model))


def counts_of(model: ModelRunner) -> tuple[int, int, int]:
    """The failures and timeouts that count against a model, and the calls that it sits out."""
    return failures_of(model), timeouts_of(model), sum(each.sitting_out for each in standings_of(model))
