"""What a check finds: a step for each stage of the way, and equal troubles of many models as one."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import attrs

from ...orchestrator import Entry

__all__ = ["NodeReport", "OrchestratorReport", "Stage", "Step", "Trouble", "grouped"]


class Stage(enum.StrEnum):
    """The stages of the way, from the name to the answer."""

    NAME = "DNS"
    TCP = "TCP"
    TLS = "TLS"
    WEBSOCKET = "WebSocket"
    INIT = "init"
    HTTP2 = "HTTP/2"
    PROOF = "proof"
    HEALTH = "health"


@attrs.frozen
class Trouble:
    """Where the way ends.

    Attributes:
        stage: the stage that failed.
        what: what is wrong, in few words that are the same wherever it is.
        detail: where, and what was seen.
        advice: what to do.
    """

    stage: Stage
    what: str
    detail: str
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict that `json.dumps` takes."""
        return attrs.asdict(self) | {"stage": self.stage.value}


@attrs.frozen
class Step:
    """A stage that went well.

    Attributes:
        stage: which.
        text: what was seen.
    """

    stage: Stage
    text: str


@attrs.define
class OrchestratorReport:
    """How the way to the orchestrator is.

    Attributes:
        steps: the stages that went well.
        trouble: what ended it, or None.
        entries: what the orchestrator lists.
        complaints: what can't be read of that.
    """

    steps: list[Step] = attrs.field(factory=list)
    trouble: Trouble | None = None
    entries: tuple[Entry, ...] = ()
    complaints: list[str] = attrs.field(factory=list)

    @property
    def listed(self) -> bool:
        """Whether its list of models has come."""
        return any(step.stage is Stage.INIT for step in self.steps)


@attrs.frozen
class NodeReport:
    """How the way to one model's node is.

    Attributes:
        model_id: the model.
        address: where its node is; empty if it has none.
        seconds: how long the health check took; None if none was answered.
        proved: whether the node proved that it belongs to the model; None if no proof is wanted.
        trouble: what is wrong, or None.
    """

    model_id: str
    address: str
    seconds: float | None = None
    proved: bool | None = None
    trouble: Trouble | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict that `json.dumps` takes."""
        trouble = None if self.trouble is None else self.trouble.to_dict()
        return attrs.asdict(self, recurse=False) | {"trouble": trouble}


def grouped(reports: Iterable[NodeReport]) -> list[list[NodeReport]]:
    """Put nodes with equal troubles together, in the order of the stages, the largest groups first."""
    groups: dict[tuple[Stage, str], list[NodeReport]] = {}
    for report in reports:
        if report.trouble is not None:
            groups.setdefault((report.trouble.stage, report.trouble.what), []).append(report)
    order = list(Stage)
    return [
        group
        for _, group in sorted(groups.items(), key=lambda item: (order.index(item[0][0]), -len(item[1])))
    ]
