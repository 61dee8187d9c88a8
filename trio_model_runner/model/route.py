"""How the calls of `ModelRunner.channel` get to the model's node: over the connection that is there.

Any generated stub runs on such a channel. The calls carry the connection's tokens, and their answers are
verified, as the cluster's own calls are. Calls of the model's own service take their turn among these; others
(health, reflection) disturb nobody. Nothing is counted, but for an answer that does not prove whose it is:
then nothing else from there can be trusted, whoever asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from ..channel import CallInterrupted
from ..errors import ProofFailed
from .node_connection import NodeConnection
from .policy import outcome_of_distrust
from .queueing import QueueFullError, Turn

if TYPE_CHECKING:
    from ..rpc.connection import Connection
    from ..rpc.headers import Fields, RawFields
    from .policy import Outcome

__all__ = ["ModelRoute", "RoutedModel"]

_HEALTH_SERVICE: Final = "/grpc.health.v1."
"""Its calls carry no token, and a missing proof is no failure: it is asked before anything is proved."""


class RoutedModel(Protocol):
    """What a route needs of whoever runs the model, a `ModelActor`.

    Attributes:
        overrunning: a call of ours was cut off, and may still run on the node.
    """

    overrunning: bool

    @property
    def joining(self) -> bool:
        """Whether `on_join` runs."""

    @property
    def condition(self) -> str:
        """How the model is, in words."""

    def take_turn(self, *, joining: bool) -> Turn:
        """Take a place among the calls."""

    def usable(self, *, joining: bool) -> NodeConnection | None:
        """The connection, if there is one now."""

    def note(self, outcome: Outcome, method: str, detail: str) -> None:
        """Draw the consequences of an outcome."""

    def distrust(self, error: ProofFailed) -> None:
        """Let go of a node that did not prove whose it is."""


class ModelRoute:
    """The route to one model's node; a `channel.Route`.

    Args:
        actor: runs the model.
        service_path: what the paths of the model's own service begin with.
    """

    def __init__(self, actor: RoutedModel, service_path: str) -> None:
        self._actor = actor
        self._service_path = service_path

    async def begin(self, path: str) -> NodeCall:
        """See `channel.Route.begin`: no connection is waited for, but the turn of the model's own calls is.

        Raises:
            CallInterrupted: the model is not connected, or too many calls wait for it.
            ProofFailed: no node could prove to be this model's.
        """
        turn = self._take_turn() if path.startswith(self._service_path) else None
        try:
            if turn is not None:
                await turn.wait()
            token = await self._node().token(path)
            return NodeCall(self._actor, self._node(), path, token, turn)
        except BaseException:
            if turn is not None:
                turn.leave()
            raise

    def _take_turn(self) -> Turn:
        try:
            return self._actor.take_turn(joining=self._actor.joining)
        except QueueFullError as error:
            raise CallInterrupted(str(error), unprocessed=True) from error

    def _node(self) -> NodeConnection:
        node = self._actor.usable(joining=self._actor.joining)
        if node is None:
            text = f"the model is not connected: {self._actor.condition}"
            raise CallInterrupted(text, unprocessed=True, connection_lost=True)
        return node


class NodeCall:
    """One call on its way to a model's node; a `channel.RoutedCall`."""

    def __init__(
        self, actor: RoutedModel, node: NodeConnection, path: str, token: RawFields, turn: Turn | None
    ) -> None:
        self._actor = actor
        self._node = node
        self._path = path
        self._token = token
        self._turn = turn

    @property
    def connection(self) -> Connection:
        """See `RoutedCall.connection`."""
        return self._node.connection

    @property
    def volatile(self) -> RawFields:
        """See `RoutedCall.volatile`."""
        return self._token

    def fields(self, content_type: str) -> RawFields:
        """See `RoutedCall.fields`."""
        return self._node.request_fields(self._path, content_type)

    def check(self, headers: Fields, *, trailers_only: bool) -> None:
        """See `RoutedCall.check`. A status and nothing else proves nothing, and gives nothing away.

        Raises:
            ProofFailed: the answer does not prove whose it is; the connection ends.
        """
        if trailers_only:
            return
        try:
            self._node.verify(headers, exempt=self._path.startswith(_HEALTH_SERVICE))
        except ProofFailed as error:
            self._actor.note(outcome_of_distrust(error, answer=True), self._path, str(error))
            self._actor.distrust(error)
            raise

    def end(self, *, sent: bool, ended: bool) -> None:
        """See `RoutedCall.end`."""
        if self._turn is None:
            return
        if sent and not ended:
            self._actor.overrunning = True
        self._turn.leave()
