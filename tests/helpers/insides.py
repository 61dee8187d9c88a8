"""What a coordinator can't see of a model: whoever runs it, and what counts against it.

Counts show in reports only when they pass a limit, and after a minute. Tests of single outcomes look here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_model_runner.model.actor import ModelActor
from trio_model_runner.model.handle import operator_of

if TYPE_CHECKING:
    from trio_model_runner import ModelRunner

__all__ = ["actor_of"]


def actor_of(model: ModelRunner) -> ModelActor:
    """Whoever runs a model."""
    operator = operator_of(model)
    assert isinstance(operator, ModelActor)
    return operator
