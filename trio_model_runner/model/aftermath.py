"""What follows from the end of a step: the next attempt, another connection at once, or giving up.

`steps` says how a step ended, and `actor` changes the state by the event that comes of it. In between, the
judge is told, the attempts are counted, and the error is made that people see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from ..errors import ProofFailed
from ..groups import describe
from ..text import readable
from ..values.results import ModelError
from .bringing_up import BringUpError
from .lifecycle import Event
from .policy import is_coordinators, outcome_of_unreachable, tried_again

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from .attempts import Attempts
    from .conduct import Conduct
    from .node_connection import NodeConnection
    from .steps import StepResult, Steps

__all__ = ["After", "Aftermath"]


@attrs.frozen
class After:
    """What follows from a step.

    Attributes:
        event: the event that came of it.
        error: why the model is not ready; None if nothing is to be said.
        our_error: the same, if it is an exception of the coordinator's code or of this machine; else None.
    """

    event: Event
    error: BaseException | None = None
    our_error: Exception | None = None


class Aftermath:
    """Says what follows from the steps of one model.

    Args:
        conduct: told what happened.
        steps: has the connection, and when the attempt began.
        attempts: counts the attempts to connect.
        config: the settings.
    """

    def __init__(self, conduct: Conduct, steps: Steps, attempts: Attempts, config: ClusterConfig) -> None:
        self._conduct = conduct
        self._steps = steps
        self._attempts = attempts
        self._config = config

    def of(self, result: StepResult) -> After:
        """What follows from a step that ended so."""
        if result.failure is not None:
            return self._give_up(result.failure)
        if result.error is not None:
            return self._of_end(result, result.error)
        return After(result.event)

    def will_be_replaced(self, node: NodeConnection) -> bool:
        """Whether a connection that its node has retired in peace is replaced at once."""
        return (
            node.retired_in_peace
            and (self._conduct.record.answered_since(node.made_at) or not node.connection.idle)
            and self._attempts.may_replace(trio.current_time())
        )

    def _of_end(self, result: StepResult, error: Exception) -> After:
        """A connection has ended, or could not be made."""
        node, record = self._steps.node, self._conduct.record
        now = trio.current_time()
        if node is not None and node.flooded_us:
            self._attempts.note_flood(now)
        if node is None or not record.connected:
            self._conduct.note_failed_attempt(self._steps.began)
            another = self._attempts.next()
        elif result.peaceful and self.will_be_replaced(node):
            self._conduct.note_loss(stood=0.0, peaceful=True)
            self._attempts.replace(now)
            return After(Event.RETIRED_IN_PEACE, error)
        else:
            stood = now - node.made_at
            self._conduct.note_loss(stood=stood, peaceful=result.peaceful, silent=node.fell_silent)
            another = self._attempts.next_after(
                now,
                peaceful=result.peaceful,
                answered=record.answered_since(node.made_at),
                good=record.succeeded_since(node.made_at) or stood >= self._config.health.mass_window,
            )
        if another:
            return After(result.event, error)
        attempts = self._config.backoff.attempts
        reason = f"no connection after {attempts} attempts: {describe(error)}"
        outcome = outcome_of_unreachable(error, flooded=self._attempts.flooded(now))
        return self._give_up(BringUpError(outcome, reason, error))

    def _give_up(self, failure: BringUpError) -> After:
        reason = readable(str(failure), self._config.limits.max_detail_length)
        error = _error_of(failure, reason)
        ours = error if is_coordinators(failure.outcome) and isinstance(error, Exception) else None
        if failure.setup_sent_at is not None:
            self._conduct.note_setup_failure(failure.outcome, reason, began=failure.setup_sent_at)
        elif ours is None:
            self._conduct.note_failed_attempt(self._steps.began)
        due = self._conduct.note_giving_up(failure.outcome, reason)
        again = tried_again(failure.outcome, due=due)
        return After(Event.GIVEN_UP_FOR_NOW if again else Event.GIVEN_UP, error, ours)


def _error_of(failure: BringUpError, reason: str) -> BaseException:
    """The coordinator's own exception or the failed proof itself; everything else becomes a `ModelError`."""
    ours = is_coordinators(failure.outcome) or isinstance(failure.error, ProofFailed)
    if ours and failure.error is not None:
        return failure.error
    error = ModelError(reason)
    error.__cause__ = failure.error
    return error
