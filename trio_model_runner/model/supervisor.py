"""What the actor of one model needs of the object that runs all models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Unpack

if TYPE_CHECKING:
    from ..values.data import Arguments
    from ..values.results import ModelState, PredictResult
    from .handle import ModelRunner
    from .lifecycle import JoinReason
    from .policy import Judge
    from .round_spec import CallOptions

__all__ = ["JoinFailedElsewhere", "Supervisor"]


class JoinFailedElsewhere(Exception):
    """`on_join` raised in another process, which has logged that. This has the text of its exception."""


class Supervisor(Protocol):
    """The object that runs all models of a cluster, as the actor of one sees it. Handles stand for models."""

    @property
    def judge(self) -> Judge:
        """Decides what counts against the models."""

    async def join(self, model: ModelRunner, reason: JoinReason, *, fresh: bool) -> None:
        """Let the coordinator catch a model up. Exceptions of the coordinator's code are raised."""

    def state_changed(self, model: ModelRunner, previous: ModelState) -> None:
        """A model's state has just changed."""

    def infos_changed(self, model: ModelRunner) -> None:
        """The orchestrator said something new about a model."""

    async def call_model(
        self, model: ModelRunner, method: str | None, arguments: Arguments, **options: Unpack[CallOptions]
    ) -> PredictResult[Any]:
        """Make one call on one model, as a round of its own. A method of None is the one for predictions."""

    async def reset_model(self, model: ModelRunner, timeout: float | None) -> PredictResult[None]:
        """Have one model forget what it has learnt, and wait until it has joined again."""
