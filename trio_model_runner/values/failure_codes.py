"""Why a model can be reported to the orchestrator."""

from __future__ import annotations

import enum

__all__ = ["FailureCode"]


class FailureCode(enum.StrEnum):
    """Why a model is reported. The orchestrator stops it, and all but the first can also quarantine it.

    LOW_PERFORMANCE is the coordinator's own verdict, and never this library's.
    """

    CONNECTION_FAILED = "CONNECTION_FAILED"
    BAD_IMPLEMENTATION = "BAD_IMPLEMENTATION"
    MULTIPLE_FAILED = "MULTIPLE_FAILED"
    MULTIPLE_TIMEOUT = "MULTIPLE_TIMEOUT"
    LOW_PERFORMANCE = "LOW_PERFORMANCE"
