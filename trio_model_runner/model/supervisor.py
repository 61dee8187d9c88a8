"""What the actor of one model needs of whoever runs all of them, so that it need not know who that is."""

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
    """Whoever runs all models of a cluster, as the actor of one sees it. Models are named by handles."""

    @property
    def config(self) -> ClusterConfig:
        """The settings."""

    @property
    def service(self) -> NodeService:
        """What the node speaks."""

    @property
    def security(self) -> NodeSecurity:
        """How connections and calls are secured."""

    @property
    def hub(self) -> SocketHub | None:
        """What reads from plain sockets, if that is not for each connection to do."""

    @property
    def connect_limiter(self) -> trio.CapacityLimiter:
        """How many may be connecting at a time."""

    async def join(self, model: ModelRunner, reason: JoinReason, *, fresh: bool) -> None:
        """Let the coordinator catch a model up; raises whatever the coordinator's code raises."""

    def state_changed(self, model: ModelRunner, previous: ModelState) -> None:
        """A model's state has just changed."""

    def infos_changed(self, model: ModelRunner) -> None:
        """The orchestrator said something new about a model."""

    def add_report(
        self, model: ModelRunner, code: FailureCode, reason: str, *, lacking: str | None = None
    ) -> None:
        """A model is to be reported; `lacking` is the class or method that it lacks."""

    def note_success(self, model: ModelRunner, name: str) -> None:
        """A model succeeded with this class or method."""

    def withdraw_reports(self, model: ModelRunner) -> None:
        """A model begins anew: what it did before doesn't count any more."""

    async def call_model(
        self, model: ModelRunner, method: str | None, arguments: Arguments, **options: Unpack[CallOptions]
    ) -> PredictResult[Any]:
        """Make one call on one model, as a round of its own; no method is the one that predicts."""

    async def reset_model(self, model: ModelRunner, timeout: float | None) -> PredictResult[None]:
        """Have one model forget what it has learnt, and wait until it has joined again."""
