"""A connection to one model's node: how calls on it are addressed and signed, and when they are believed.

`rpc` carries any call to any server. Here is what makes it a call to this model's node: the authority that it
names, the token that goes with it, and the proof without which its answer is nobody's. The proof belongs to
the connection, so all of it lives and ends with the connection; the next one might lead somewhere else.

A request does not go out when it is made: it waits for a stream and for window, and the node decides for how
long. So the proof is asked for again by the connection, whenever it takes something of a request to be sent
(`Connection.guard`). What it then holds back would wait for ever, so `watch_proof` ends that. A request that
was handed over before is not called back: its answer may bring a proof that lives longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio
from grpclib.exceptions import GRPCError
from trio.lowlevel import enable_ki_protection

from ..config import Limits
from ..network import address_text, authority_host
from ..rpc.call import Answer, UnaryCall
from ..rpc.ending import EndCause
from ..rpc.protocol import request_fields
from ..security.delegation import NodeIdentity, UnknownIdentity, carries_proof
from ..signal import Signal
from ..text import readable
from .policy import is_busy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from ..rpc.connection import Connection
    from ..rpc.headers import Fields, RawFields
    from ..rpc.streams import MaySend
    from ..security.node_security import NodeSecurity
    from ..services.base import Request
    from .fence import Fence
    from .handle import ModelRunner

__all__ = ["NodeBusyError", "NodeConnection", "status_text"]

_HEALTH_SERVICE: Final = b"/grpc.health.v1."


class NodeBusyError(Exception):
    """The node runs another call, and certainly nothing came of this one."""


class NodeConnection:
    """A connection that calls on one model go over.

    Args:
        connection: the connection.
        model: whose node is at the other end.
        security: how it is secured.
        limits: the largest answer and the longest text that are taken.
        fence: holds requests back; None where nothing is in the way.

    Attributes:
        connection: the connection.
        made_at: when it was made, on Trio's clock, seconds.

    Raises:
        OSError: the model's host has no form that an authority could have.
    """

    __slots__ = (
        "_authority",
        "_fence",
        "_fields",
        "_guarded",
        "_has_tokens",
        "_identity",
        "_infos",
        "_max_message_bytes",
        "_max_text",
        "_model",
        "_proof",
        "_proof_awaited",
        "_proof_news",
        "_scheme",
        "_security",
        "connection",
        "made_at",
    )

    def __init__(
        self,
        connection: Connection,
        model: ModelRunner,
        security: NodeSecurity,
        limits: Limits,
        fence: Fence | None = None,
    ) -> None:
        self.connection = connection
        self.made_at = trio.current_time()
        self._model = model
        self._security = security
        self._has_tokens = security.has_tokens
        self._max_message_bytes = limits.max_message_bytes
        self._max_text = limits.max_detail_length
        address = address_text(authority_host(model.host), model.port)
        self._authority = security.authority(model.model_id, address)
        self._scheme = "http" if security.tls(model.model_id) is None else "https"
        self._proof = security.proof(connection.peer_certificate)
        self._proof_news = Signal()  # something is held back, or there is the proof waited for, or the end
        self._proof_awaited = False
        self._fence = fence
        if fence is not None:
            fence.add(connection)
        if self._proof is not None:
            connection.guard = self._guard
        self._fields: dict[str, RawFields] = {}
        self._guarded: RawFields | None = None  # the headers of the last request that has a value in it
        self._infos: Mapping[str, Any] | None = None  # that the identity was read from
        self._identity: NodeIdentity | None = None

    @property
    def must_prove(self) -> bool:
        """Whether the node must prove who it is before anything of value is sent.

        So it is before its first answer, and again when the proof has expired, or the orchestrator has named
        another participant. This is asked before each request that has a value in it.
        """
        if self._proof is None:
            return False
        try:
            return not self._proof.holds(self.identity())
        except UnknownIdentity:
            return True

    @property
    def has_proof(self) -> bool:
        """Whether its node must ever prove who it is."""
        return self._proof is not None

    @property
    def retired_in_peace(self) -> bool:
        """Whether the node takes no new calls on it, and said so in peace."""
        loss = self.connection.loss
        return loss is not None and loss.peaceful

    @property
    def fell_silent(self) -> bool:
        """Whether it was given up since the node gave no sign of life."""
        loss = self.connection.loss
        return loss is not None and loss.cause is EndCause.NO_ANSWER_TO_PING

    @property
    def flooded_us(self) -> bool:
        """Whether it was ended since the node sent too much that brings no call forward."""
        loss = self.connection.loss
        return loss is not None and loss.cause is EndCause.TOO_MUCH_WORK

    def time_limit(self, seconds: float) -> AbstractContextManager[trio.CancelScope]:
        """What `trio.move_on_after` gives, for a request's answer; see `Fence.time_limit`."""
        if self._fence is not None:
            return self._fence.time_limit(seconds)
        return trio.CancelScope(relative_deadline=seconds)

    def holds_back(self, call: UnaryCall) -> bool:
        """Whether the fence may be why the node does not answer a call."""
        return self._fence is not None and not call.handed_over

    def _guard(self, fields: RawFields) -> MaySend | None:
        """See `Connection.guard`: health checks have no value in them."""
        if fields is not self._guarded:  # else it was looked at before
            if any(name == b":path" and value.startswith(_HEALTH_SERVICE) for name, value in fields):
                return None
            self._guarded = fields
        return self._may_send

    def _may_send(self) -> bool:
        may_send = not self.must_prove
        if not may_send:
            self._proof_news.send()
        return may_send

    @enable_ki_protection
    async def watch_proof(self, lapse: Callable[[NodeConnection], None]) -> None:
        """End what must not be sent any more since the node is proved no longer, until the connection ends.

        Nothing happens where nothing waits to be sent: the next call finds out by itself.

        Args:
            lapse: told when a request is here that was not handed over to its end. It must end that, and the
                connection must take no new ones.
        """
        if self._proof is None:
            return
        self.connection.on_retired = self._proof_news.send
        while self.connection.accepts_calls:
            if not self.must_prove:
                # Answers may bring proofs that live longer, so the time is asked for anew in the end.
                with trio.move_on_after(max(0.0, self._proof.holds_for())):
                    await self._proof_news.wait()
            elif self.connection.holds_unsent:
                lapse(self)
            else:
                self._proof_awaited = True
                await self._proof_news.wait()
                self._proof_awaited = False

    def new_call_now(self, request: Request) -> UnaryCall | None:
        """The same as `new_call`, if there is nothing to wait for."""
        if not self._has_tokens:
            return self._new_call(request, ())
        token = self._security.ready_metadata(self._model.model_id, request.path)
        return None if token is None else self._new_call(request, token)

    async def new_call(self, request: Request, *, unproved: bool = False) -> UnaryCall:
        """Make a call with this request, to be run and then given to `answer`.

        Args:
            request: what is sent.
            unproved: there is nothing of value in it, so the node need not be proved when it is sent.

        Raises:
            ProofFailed: no node could prove to be this model's.
        """
        return self._new_call(request, await self.token(request.path), unproved=unproved)

    async def token(self, path: str) -> RawFields:
        """What goes with the headers of a call to `path`, made if it is not there. Mostly no checkpoint.

        Raises:
            ProofFailed: no node could prove to be this model's.
        """
        token = self._security.ready_metadata(self._model.model_id, path)
        return token if token is not None else await self._security.call_metadata(self._model.model_id, path)

    def _new_call(self, request: Request, token: RawFields, *, unproved: bool = False) -> UnaryCall:
        fields = self._fields.get(request.path)
        if fields is None:
            fields = self._fields[request.path] = self.request_fields(request.path)
        return UnaryCall(
            self.connection,
            fields,
            request.message,
            max_message_bytes=self._max_message_bytes,
            volatile=(*token, *request.metadata) if request.metadata else token,
            unguarded=unproved,
        )

    def request_fields(self, path: str, content_type: str = "application/grpc") -> RawFields:
        """The request headers of a call to `path`, without its token and its metadata."""
        return request_fields(path, scheme=self._scheme, authority=self._authority, content_type=content_type)

    def answer(self, call: UnaryCall, *, asked_at: float, exempt: bool = False) -> Answer:
        """The answer to a call that has ended, if it is this model's.

        A response that is nothing but a status, as gRPC's own layers make them, proves nothing and is raised
        as it is: whoever gets it has no value to be deceived by.

        Args:
            call: from `new_call`, or `new_call_now`.
            asked_at: see `verify`.
            exempt: an answer without any proof is taken, too.

        Raises:
            NodeBusyError: the node runs another call.
            ProofFailed: the answer does not prove whose it is.
            GRPCError, CallInterrupted: see `UnaryCall.answer`.
        """
        try:
            answer = call.answer()
        except GRPCError as error:
            if not call.trailers_only:
                self.verify(call.headers, asked_at=asked_at, exempt=exempt)
            if is_busy(error) and self._before_any_message(call):
                raise NodeBusyError from error
            raise self._made_readable(error) from None
        if self._proof is not None:
            self.verify(call.headers, asked_at=asked_at, exempt=exempt)
        return answer

    def verify(self, headers: Fields, *, asked_at: float, exempt: bool = False) -> None:
        """Check that an answer is this model's.

        Args:
            headers: the answer's initial metadata, with all other headers.
            asked_at: when the request was sent, on Trio's clock, seconds.
            exempt: an answer without any proof is taken, too.

        Raises:
            ProofFailed: it does not prove whose it is.
            ProofLapsed: it is from before its proof expired, or another participant was named.
        """
        if self._proof is None or (exempt and not carries_proof(headers)):
            return
        self._proof.verify(headers, self.identity(), asked_before=trio.current_time() - asked_at)
        if self._proof_awaited:
            self._proof_news.send()

    def identity(self) -> NodeIdentity:
        """Who the node must be.

        Raises:
            UnknownIdentity: the orchestrator did not say.
        """
        infos = self._model.infos  # another object whenever the orchestrator says something new
        if self._identity is None or infos is not self._infos:
            self._identity = NodeIdentity.from_infos(self._model.model_id, infos)
            self._infos = infos
        return self._identity

    def _made_readable(self, error: GRPCError) -> GRPCError:
        """What the node said of an error goes into results, logs and tracebacks."""
        if error.message is None:
            return error
        message = readable(error.message, self._max_text)
        return error if message == error.message else type(error)(error.status, message)

    def _before_any_message(self, call: UnaryCall) -> bool:
        """Whether an error came before the model can have run; secure nodes send their proof even earlier."""
        return call.trailers_only or (self._proof is not None and not call.has_message)


def status_text(error: GRPCError) -> str:
    """A gRPC status and its message, in words for people."""
    return f"gRPC status {error.status.name}: {error.message or 'no message'}"
