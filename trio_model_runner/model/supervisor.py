"""What the actor of one model needs of the object that runs all models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Unpack

if TYPE_CHECKING:
    import trio

    from ..config import ClusterConfig
    from ..rpc.reader import SocketHub
    from ..security.node_security import NodeSecurity
    from ..services.base import NodeService
    from ..values.data import Arguments
    from ..values.failure_codes import FailureCode
    from ..values.results import ModelState, PredictResult
    from .handle import ModelRunner
    from .lifecycle import JoinReason
    from .round_spec import CallOptions

__all__ = ["Supervisor"]


class Supervisor(Protocol):
    """The object that runs all models of a cluster, as the actor of one sees it. Handles stand for models."""

    @property
    def config(self) -> ClusterConfig:
        """The settings."""

    @property
    def service(self) -> NodeService:
        """The gRPC service that the nodes have."""

    @property
    def security(self) -> NodeSecurity:
        """How connections and calls are secured."""

    @property
    def hub(self) -> SocketHub | None:
        """The one reader of all plain sockets; None if each connection reads for itself."""

    @property
    def connect_limiter(self) -> trio.CapacityLimiter:
        """Limits how many models connect at the same time."""

    async def join(self, model: ModelRunner, reason: JoinReason, *, fresh: bool) -> None:
        """Let the coordinator catch a model up. Exceptions of the coordinator's code are raised."""

    def state_changed(self, model: ModelRunner, previous: ModelState) -> None:
        """A model's state has just changed."""

    def infos_changed(self, model: ModelRunner) -> None:
        """The orchestrator said something new about a model."""

    def add_report(
        self, model: ModelRunner, code: FailureCode, reason: str, *, lacking: str | None = None
    ) -> None:
        """Take a report about a model; `lacking` is the class or method that the model lacks."""

    def note_success(self, model: ModelRunner, name: str) -> None:
        """A model succeeded with this class or method."""

    def withdraw_reports(self, model: ModelRunner) -> None:
        """A model begins anew: withdraw the reports about what it did before."""

    async def call_model(
        self, model: ModelRunner, method: str | None, arguments: Arguments, **options: Unpack[CallOptions]
    ) -> PredictResult[Any]:
        """Make one call on one model, as a round of its own. A method of None is the one for predictions."""

    async def reset_model(self, model: ModelRunner, timeout: float | None) -> PredictResult[None]:
        """Have one model forget what it has learnt, and wait until it has joined again."""
