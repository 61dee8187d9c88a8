"""One report that a coordinator sent: what was on the wire, and what it says."""

from __future__ import annotations

from typing import Any

from ..values.failure_codes import FailureCode

__all__ = ["Report"]


class Report(dict[str, Any]):
    """One report, as it was sent: a dict of its keys, and attributes for what it says."""

    @property
    def model_id(self) -> str:
        """The model."""
        return str(self["model_id"])

    @property
    def code(self) -> FailureCode | str:
        """Why; text if no such code is known."""
        code = self["failure_code"]
        return FailureCode(code) if code in list(FailureCode) else str(code)

    @property
    def reason(self) -> str | None:
        """What the model's author is shown."""
        reason = self.get("failure_reason")
        return None if reason is None else str(reason)

    @property
    def host(self) -> str:
        """The host of the deployment, by which orchestrators find it."""
        return str(self["ip"])

    def __str__(self) -> str:
        return f"{self.model_id} as {self.code}: {self.reason or 'no reason given'}"
