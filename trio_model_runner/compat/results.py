"""What comes back from a call, in the asyncio client's words: plain values that hold nothing that runs.

A `ModelRunner` only says which model it is. So results can be kept, copied and pickled, long after the runner
that made them was closed. What changes with each call is looked up at its `Home`, where that lives. This
module must not know of clusters, or of event loops.
"""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakValueDictionary

__all__ = ["Home", "InvalidCoordinatorUsageError", "ModelPredictResult", "ModelRunner", "homes"]


class InvalidCoordinatorUsageError(Exception):
    """The asyncio client's word for a coordinator's mistakes. Here they are TypeError and ValueError."""


class Home(Protocol):
    """What knows how the models of one runner stand. Any thread may ask."""

    def counts_of(self, runner_id: str) -> tuple[int, int] | None:
        """A model's failures and timeouts since its last success; None if it is gone."""


homes: WeakValueDictionary[str, Home] = WeakValueDictionary()
"""The homes in this process, by the `home` of their models."""


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

    @property
    def consecutive_failures(self) -> int:
        """The most failures that one of its methods has had since that method's last success, as of now."""
        return (self._counts() or (0, 0))[0]

    @property
    def consecutive_timeouts(self) -> int:
        """The same of timeouts."""
        return (self._counts() or (0, 0))[1]

    @property
    def closed(self) -> bool:
        """Whether the model is gone, or its runner is, or this is a copy in another process."""
        return self._counts() is None

    def _counts(self) -> tuple[int, int] | None:
        home = homes.get(self.home)
        return None if home is None else home.counts_of(self.runner_id)

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

    @staticmethod
    def of_success(
        model_runner: ModelRunner, result: Any, exec_time: int, *, detail: str | None = None
    ) -> ModelPredictResult:
        """An answer, which took so many microseconds."""
        return ModelPredictResult(model_runner, result, ModelPredictResult.Status.SUCCESS, exec_time, detail)

    @staticmethod
    def of_failed(
        model_runner: ModelRunner, exec_time: int, *, detail: str | None = None
    ) -> ModelPredictResult:
        """A failure, after so many microseconds."""
        return ModelPredictResult(model_runner, None, ModelPredictResult.Status.FAILED, exec_time, detail)

    @staticmethod
    def of_timeout(
        model_runner: ModelRunner, exec_time: int, *, detail: str | None = None
    ) -> ModelPredictResult:
        """No answer, after so many microseconds."""
        return ModelPredictResult(model_runner, None, ModelPredictResult.Status.TIMEOUT, exec_time, detail)
