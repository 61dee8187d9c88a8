"""Why a model can be reported to the orchestrator."""

from __future__ import annotations

import enum

from ..text import shown_scalar

__all__ = ["FailureCode"]


class FailureCode(enum.StrEnum):
    """Why a model is reported. The orchestrator then stops the model.

    With all codes but CONNECTION_FAILED, the orchestrator can also quarantine the model.

    The coordinator alone decides on LOW_PERFORMANCE; this library never reports it by itself.
    """

    CONNECTION_FAILED = "CONNECTION_FAILED"
    BAD_IMPLEMENTATION = "BAD_IMPLEMENTATION"
    MULTIPLE_FAILED = "MULTIPLE_FAILED"
    MULTIPLE_TIMEOUT = "MULTIPLE_TIMEOUT"
    LOW_PERFORMANCE = "LOW_PERFORMANCE"

    @classmethod
    def _missing_(cls, value: object) -> FailureCode:
        """Refuse what is no code. `Cluster.report_failure` takes all of them, and their names."""
        raise ValueError(f"code: must be one of {', '.join(cls)}, got {shown_scalar(value)}")
