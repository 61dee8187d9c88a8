"""One deployment of one model in a local crunch, and what the orchestrator announces of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .entries import OrchestratorEntry
    from .node import LocalNode

__all__ = ["Deployment"]


@attrs.frozen(eq=False)
class Deployment:
    """One deployment of one model.

    Attributes:
        model_id: the model.
        deployment_id: the deployment, new for each.
        infos: what else the orchestrator says about it.
        node: the node that serves it.
    """

    model_id: str
    deployment_id: str
    infos: Mapping[str, Any]
    node: LocalNode

    def entry(self, state: str) -> OrchestratorEntry:
        """What the orchestrator announces: with an address if `state` is RUNNING, else without."""
        running = state == "RUNNING"
        return {
            "deployment_id": self.deployment_id,
            "model_id": self.model_id,
            "state": cast("Literal['RUNNING', 'STOPPED', 'RECOVERING']", state),
            "ip": self.node.host if running else "",
            "port": self.node.port if running else 0,
            "infos": dict(self.infos),
        }
