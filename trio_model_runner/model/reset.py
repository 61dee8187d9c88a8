"""How a model is made to forget what it has learnt: by a request that ends its instance.

The request is no call of a method, but takes its turn among the calls. After its success, Setup and `on_join`
follow, as after every loss of an instance. Calls that wait behind it are made after that, on the new
connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from ..values.encoded import Encoded
from ..values.results import PredictResult, Status
from .actor import ModelUnavailableError
from .call import Call

if TYPE_CHECKING:
    from ..values.results import ModelState

__all__ = ["ResetCall", "Resettable", "wait_ready_again"]


class Resettable(Protocol):
    """What is waited for: a `ModelActor`, or what stands for one.

    Attributes:
        error: why it is not ready, or None.
    """

    error: BaseException | None

    @property
    def state(self) -> ModelState:
        """Where it is in its life."""

    async def wait_usable(self, *, joining: bool) -> object:
        """Wait until it carries calls; raises `ModelUnavailableError` if that will not be."""


class ResetCall(Call):
    """The request that resets a model, made as a call is made."""

    __slots__ = ()

    def _take(self, encoded: Encoded) -> None:
        """Note that the node has no instance now. This must happen before the next call begins."""
        self._actor.renew("it was reset")
        super()._take(encoded)


async def wait_ready_again(
    actor: Resettable, result: PredictResult[Any], deadline: float
) -> PredictResult[None]:
    """Wait until a model that was reset has joined again.

    Args:
        actor: the model's actor.
        result: the result of the `ResetCall`. Unless it is SUCCESS, it is returned.
        deadline: on Trio's clock, seconds.
    """
    if result.status is not Status.SUCCESS:
        return result
    with trio.move_on_at(deadline) as scope:
        try:
            await actor.wait_usable(joining=False)
        except ModelUnavailableError as error:
            return attrs.evolve(result, status=Status.FAILED, detail=str(error), error=actor.error)
    if scope.cancelled_caught:
        detail = f"it was reset, and is still {actor.state.value}"
        return attrs.evolve(result, status=Status.TIMEOUT, detail=detail)
    return result
