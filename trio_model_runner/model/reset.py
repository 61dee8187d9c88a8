"""Having a model forget what it has learnt: no call of a method, but a request that ends its instance.

It takes its turn among the calls. What follows its success is what follows every loss of an instance: Setup,
and `on_join`. Calls that wait behind it are made after that, on the new connection.
"""

from __future__ import annotations

from typing import Any

import attrs
import trio

from ..values.encoded import Encoded
from ..values.results import PredictResult, Status
from .actor import ModelActor, ModelUnavailableError
from .call import Call

__all__ = ["ResetCall", "wait_ready_again"]


class ResetCall(Call):
    """The request that resets a model, made as a call is made."""

    __slots__ = ()

    def _take(self, encoded: Encoded) -> None:
        """Its success leaves the node without an instance; this must be known before the next call begins."""
        self._actor.renew("it was reset")
        super()._take(encoded)


async def wait_ready_again(
    actor: ModelActor, result: PredictResult[Any], deadline: float
) -> PredictResult[None]:
    """Wait until a model that was reset has joined again.

    Args:
        actor: runs the model.
        result: what came of the `ResetCall`; anything but a success is final.
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
