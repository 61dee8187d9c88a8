"""What comes back from a call, in the asyncio client's words: plain values that hold nothing that runs.

A `ModelRunner` only says which model it is. So results can be kept, copied and pickled, long after the runner
that made them was closed. This module must not know of clusters, or of event loops.
"""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ModelPredictResult", "ModelRunner"]


@dataclass(eq=False)
class ModelRunner:
    """One deployment of one model. A copy equals its original; another deployment of the model does not.

    What the orchestrator says anew is written into the same object.

    Attributes:
        model_id: the model's id. It stays the same over deployments.
        model_name: the model's name, made fit to be shown; "" where unknown.
        deployment_id: the deployment's id; None where the orchestrator is too old to say.
        ip: the host on which the model's node listens.
        port: the TCP port on which it does.
        infos: what else the orchestrator says about the model.
        runner_id: another one for each deployment that this process has met.
        home: whose model it is: other runners refuse it.
    """

    model_id: str
    model_name: str
    deployment_id: str | None
    ip: str
    port: int
    infos: dict[str, Any] = field(default_factory=dict, repr=False)
    runner_id: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False)
    home: str = field(default="", repr=False)

    def __eq__(self, other: object) -> bool:
        return self.runner_id == other.runner_id if isinstance(other, ModelRunner) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.runner_id)


@dataclass
class ModelPredictResult:
    """How one call on one model ended.

    Attributes:
        model_runner: the model.
        result: the answer; None unless the status is SUCCESS. For `ModelConcurrentRunner`, a FAILED result is
            the text of what went wrong, as in the first release.
        status: how the call ended.
        exec_time_us: microseconds from handing the request to the connection until the answer.
        detail: what went wrong, for people; None if nothing did.
    """

    class Status(enum.Enum):
        """How a call ended."""

        SUCCESS = "SUCCESS"
        FAILED = "FAILED"
        TIMEOUT = "TIMEOUT"

    model_runner: ModelRunner
    result: Any
    status: Status
    exec_time_us: int = 0
    detail: str | None = None
