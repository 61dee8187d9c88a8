"""What a model needs of whoever runs it, so that it need not know who that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..values.data import Arguments

if TYPE_CHECKING:
    import trio

    from ..config import ClusterConfig
    from ..rpc.reader import SocketHub
    from ..security.node_security import NodeSecurity
    from ..services.base import Service
    from ..values.failure_codes import FailureCode
    from ..values.results import ModelState, PredictResult
    from .runner import ModelRunner
    from .states import JoinReason

__all__ = ["CallModel", "ModelHost"]


class ModelHost(Protocol):
    """What a model needs of whoever runs it."""

    @property
    def config(self) -> ClusterConfig:
        """The settings."""

    @property
    def service(self) -> Service:
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
        """Let the coordinator catch the model up; raises whatever the coordinator's code raises."""

    def state_changed(self, model: ModelRunner, previous: ModelState) -> None:
        """A model's state has just changed."""

    def infos_changed(self, model: ModelRunner) -> None:
        """The orchestrator said something new about a model."""

    def accuse(self, model: ModelRunner, code: FailureCode, reason: str, name: str | None) -> None:
        """A model should be reported; `name` is the class or method that it lacks."""

    def acquit(self, model: ModelRunner, name: str) -> None:
        """A model succeeded with this class or method."""

    def pardon(self, model: ModelRunner) -> None:
        """A model begins anew: what it did before doesn't count any more."""

    @property
    def call_model(self) -> CallModel:
        """Makes one call on one model."""


class CallModel(Protocol):
    """How a model is called alone."""

    async def __call__(
        self,
        model: ModelRunner,
        method: str | None,
        arguments: Arguments,
        *,
        timeout: float | None = None,
        optional: bool = False,
        returns: Any = None,
        decode: bool = True,
        resets: bool = False,
    ) -> PredictResult[Any]:
        """Make one call on one model; no method is the one that predicts.

        With `resets`, it is the request that resets the model which is sent, under that method's name.
        """
