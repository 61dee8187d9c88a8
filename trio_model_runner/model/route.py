"""How the calls of `ModelRunner.channel` get to the model's node: on the model's own connection.

Any generated stub runs on such a channel. The calls carry the connection's tokens, and their answers are
verified, as for the cluster's own calls. Calls of the model's own service take their turn among these calls;
other services (health, reflection) disturb no call. Nothing that happens is counted, with one exception: an
answer with a failed proof ends the connection, since no other answer on it can be trusted either. A proof
that holds no longer is noticed before a call begins, and again before each piece of a request is sent: a
stream of messages that goes on after that is interrupted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

import trio

from ..channel import CallInterrupted
from ..errors import ProofFailed
from .node_connection import NodeConnection
from .policy import Overrun
from .queueing import QueueFullError, Turn

if TYPE_CHECKING:
    from ..rpc.connection import Connection
    from ..rpc.headers import Fields, RawFields
    from .conduct import Conduct
    from .watch import Watch

__all__ = ["ModelRoute", "RoutedModel"]

_HEALTH_SERVICE: Final = "/grpc.health.v1."
"""Calls of this service carry no token, and need no proof: it is asked before anything is proved."""


class RoutedModel(Protocol):
    """What a route needs of the model's actor.

    Attributes:
        conduct: has the overrun that the node may not be through with.
        watch: asks the node whether it is through.
    """

    conduct: Conduct
    watch: Watch

    @property
    def joining(self) -> bool:
        """Whether `on_join` runs."""

    @property
    def condition(self) -> str:
        """The model's state in words, for people."""

    def take_turn(self, *, joining: bool) -> Turn:
        """Take a place among the calls."""

    def usable(self, *, joining: bool, unproved: bool = False) -> NodeConnection | None:
        """The connection, if there is one now; unless `unproved`, on which the node is proved now."""

    async def wait_replaced(self) -> None:
        """Wait while the connection is replaced."""

    def note_distrust(self, path: str, error: ProofFailed) -> None:
        """Let go of a node that did not prove that it belongs to the model."""


class ModelRoute:
    """The route to one model's node; a `channel.Route`.

    Args:
        actor: the model's actor.
        service_path: the beginning of all paths of the model's own service; None where none is called.
    """

    def __init__(self, actor: RoutedModel, service_path: str | None) -> None:
        self._actor = actor
        self._service_path = service_path

    async def begin(self, path: str) -> NodeCall:
        """See `channel.Route.begin`. The model's own calls wait for their turn.

        No call waits for a connection, unless the present one is being replaced: then its node has retired
        it, or must prove itself anew.

        Raises:
            CallInterrupted: the model is not connected, or too many calls wait for it.
            ProofFailed: no node could prove that it belongs to this model.
        """
        own = self._service_path is not None and path.startswith(self._service_path)
        turn = self._take_turn() if own else None
        try:
            if turn is not None:
                await turn.wait()
            await self._wait_usable(path, through=turn is not None)
            token = await self._node(path).token(path)
            return NodeCall(self._actor, self._node(path), path, token, turn)
        except BaseException:
            if turn is not None:
                turn.leave()
            raise

    def _take_turn(self) -> Turn:
        try:
            return self._actor.take_turn(joining=self._actor.joining)
        except QueueFullError as error:
            raise CallInterrupted(str(error), unprocessed=True) from error

    async def _wait_usable(self, path: str, *, through: bool) -> None:
        """Wait while the connection is being replaced, and until its node is through with a cut-off call."""
        while True:
            if self._usable(path) is None:
                await self._actor.wait_replaced()
            if not through or self._actor.conduct.record.overrun is None:
                return
            await self._actor.watch.wait_through(self._node(path))
            await trio.lowlevel.checkpoint()

    def _usable(self, path: str) -> NodeConnection | None:
        health = path.startswith(_HEALTH_SERVICE)
        return self._actor.usable(joining=self._actor.joining, unproved=health)

    def _node(self, path: str) -> NodeConnection:
        node = self._usable(path)
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
        self._node_connection = node
        self._path = path
        self._token = token
        self._turn = turn
        self._began = trio.current_time()

    @property
    def connection(self) -> Connection:
        """See `RoutedCall.connection`."""
        return self._node_connection.connection

    @property
    def volatile(self) -> RawFields:
        """See `RoutedCall.volatile`."""
        return self._token

    def fields(self, content_type: str) -> RawFields:
        """See `RoutedCall.fields`."""
        return self._node_connection.request_fields(self._path, content_type)

    def check(self, headers: Fields, *, trailers_only: bool) -> None:
        """See `RoutedCall.check`. An answer that is only a status needs no proof: it has no value in it.

        Raises:
            ProofFailed: the answer does not prove that it comes from the model's node. The connection ends.
        """
        if trailers_only:
            return
        try:
            exempt = self._path.startswith(_HEALTH_SERVICE)
            self._node_connection.verify(headers, asked_at=self._began, exempt=exempt)
        except ProofFailed as error:
            self._actor.note_distrust(self._path, error)
            raise

    def end(self, *, sent: bool, ended: bool) -> None:
        """See `RoutedCall.end`."""
        if self._turn is None:
            return
        if sent and not ended:  # nothing that happens here counts
            now = trio.current_time()
            self._actor.watch.begin(Overrun(self._path, self._began, now, math.inf), self._node_connection)
        self._turn.leave()
