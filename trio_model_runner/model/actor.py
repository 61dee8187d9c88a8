"""The `ModelActor` runs one deployment of one model: it takes the steps of its life.

`lifecycle` says what to do. The `ModelActor` does it, one step at a time, in a task of its own. So a model
that hangs costs no other model anything. An event from outside (from the orchestrator or the coordinator)
changes the state at once. Then the step that is under way is cancelled, and the next one begins.

In the states of `lifecycle.CONNECTED` there is a connection, and in all others there is none: an event that
leads out of these states also lets go of the connection.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Unpack

import trio
from trio.lowlevel import enable_ki_protection

from ..channel import Peer
from ..errors import ProofFailed
from ..groups import describe, one_by_itself
from ..rpc.ending import EndCause
from ..security.delegation import ProofLapsed, UnknownIdentity, same_participant
from ..signal import Signal
from ..text import quoted, readable
from ..values.results import ModelError, ModelState
from .aftermath import Aftermath
from .attempts import Attempts
from .conduct import Conduct
from .handle import ModelRunner
from .lifecycle import CONNECTED, UNAVAILABLE, Event, JoinReason, Lifecycle, Step
from .node_connection import NodeConnection
from .policy import (
    Outcome,
    Overrun,
    RoundEvidence,
    outcome_of_distrust,
    tried_again_when_held,
)
from .queueing import CallQueue, Turn
from .route import ModelRoute
from .steps import StepResult, Steps
from .watch import Watch

if TYPE_CHECKING:
    import grpclib.client

    from ..frame_readers.readers import FrameReaders
    from ..values.data import Arguments
    from ..values.results import PredictResult
    from .node_resources import NodeResources
    from .round_spec import CallOptions
    from .supervisor import Supervisor

__all__ = ["ModelActor", "ModelUnavailableError"]

logger = logging.getLogger("trio_model_runner.model")

_BEGINNINGS: Final = frozenset({Event.BEGUN, Event.ANNOUNCED_AGAIN, Event.MOVED})
"""After these events, the attempts to connect are counted from the first again."""

_STOPPED: Final = "the orchestrator stopped the model"
_CRASHED: Final = "the orchestrator says that the model crashed"
_CLOSED: Final = "the connection was closed"

# Looked up for each call, which an enum's member takes long for.
_READY: Final = ModelState.READY
_REACHABLE: Final = ModelState.REACHABLE
_RETIRING: Final = ModelState.RETIRING
_JOINING: Final = ModelState.JOINING

_COMING_UP: Final = frozenset(
    {
        ModelState.ANNOUNCED,
        ModelState.CONNECTING,
        ModelState.PROVING,
        ModelState.SETTING_UP,
        ModelState.JOINING,
    }
)

_LAPSED: Final = "the node's proof holds no longer"

_LOSSES: Final = frozenset({Event.CONNECTION_ENDED, Event.RETIRED_IN_PEACE, Event.INSTANCE_LOST})


class ModelUnavailableError(Exception):
    """The model can't be called, and waiting does not help. The text says why."""


class ModelActor:
    """Runs one deployment of one model. Only `live` and the methods for calls wait; the others never do.

    Args:
        supervisor: runs all models.
        resources: what the actors of this process share.
        model_id: the model.
        deployment_id: see below.
        host: see below.
        port: see below.
        infos: see below.
        reason: why it joins.

    Attributes:
        runner: the handle that coordinators hold.
        deployment_id: this deployment; None where the orchestrator is too old to say.
        infos: what else the orchestrator says of it; replaced when it says something new.
        host: where its node listens, a name or an address.
        port: where its node listens.
        error: why it is not ready, or None.
        our_error: the same, if it is an exception of the coordinator's code or of this machine; else None.
        conduct: what counts for and against it.
        watch: asks the node whether it is through with a call that was cut off.
        retired: the last connection that its node has retired, or None.
        replaced: another deployment has taken its place.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        resources: NodeResources,
        *,
        model_id: str,
        deployment_id: str | None,
        host: str,
        port: int,
        infos: Mapping[str, Any],
        reason: JoinReason,
    ) -> None:
        config = resources.config
        self.deployment_id = deployment_id
        self.infos = infos
        self.host = host
        self.port = port
        self.error: BaseException | None = None
        self.our_error: Exception | None = None
        self.retired: NodeConnection | None = None
        self.replaced = False
        self._gone_because = ""
        self._since = trio.current_time()
        self.runner = ModelRunner(
            self,
            model_id=model_id,
            deployment_id=deployment_id,
            longest_text=config.limits.max_detail_length,
        )
        self.conduct = Conduct(self.runner, host, supervisor.judge)
        self.watch = Watch(self, resources)
        self._supervisor = supervisor
        self._resources = resources
        self._config = config
        self._life = Lifecycle()
        self._changed = Signal()
        self._queue = CallQueue(config.limits.max_queued_calls)
        self._joining_queue = CallQueue(config.limits.max_queued_calls)
        self._attempts = Attempts(config.backoff)
        self._steps = Steps(self, supervisor, resources, self._attempts, self._queue.wait_empty, reason)
        self._aftermath = Aftermath(self.conduct, self._steps, self._attempts, config)
        self._step = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._channel: grpclib.client.Channel | None = None

    @property
    def state(self) -> ModelState:
        """Where it is in its life."""
        return self._life.state

    @property
    def ready(self) -> bool:
        """Whether it takes part in rounds, or is reachable where the cluster only observes.

        This becomes False at once when its connection is lost.

        The state changes a little later. A call that was made meanwhile would wait for the next connection.
        Calls do wait where the node has retired the connection in peace, or must prove itself anew: then it
        is replaced at once.
        """
        state = self._life.state
        if state is _READY or state is _REACHABLE:
            node = self._steps.node
            return node is not None and (
                node.connection.accepts_calls or self._aftermath.will_be_replaced(node)
            )
        return state is ModelState.REPLACING

    @property
    def joining(self) -> bool:
        """Whether `on_join` runs."""
        return self._life.state is ModelState.JOINING

    @property
    def connected_at(self) -> float | None:
        """When its connection was made, on Trio's clock, seconds; None without one."""
        node = self._steps.node
        return None if node is None else node.made_at

    @property
    def condition(self) -> str:
        """Its state in words, for people, with the reason if it is not ready."""
        if self.replaced:
            return "replaced by another deployment"
        if self._life.state is ModelState.READY and not self.ready:  # the task has not noticed yet
            return f"{ModelState.LOST.value}: {self._steps.connected.connection.loss}"
        if self._life.state is ModelState.REACHABLE and self._steps.connected.must_prove:
            return "its node has not proved that it belongs to the model"
        text = self._life.state.value
        if self._life.state in _COMING_UP:
            text = f"announced, but still {text} after {trio.current_time() - self._since:.1f} s"
        why = self._gone_because if self._life.state is ModelState.GONE else self._why_out()
        return f"{text}: {why}" if why else text

    def _why_out(self) -> str:
        """Why it is not ready, where that is known."""
        if self.error is not None:
            return describe(self.error)
        overrun = self.conduct.record.overrun
        busy = self._life.state is ModelState.SETTING_UP and overrun is not None
        return f"its node is still busy with {overrun.name}" if busy and overrun is not None else ""

    @property
    def channel(self) -> grpclib.client.Channel:
        """See `ModelRunner.channel`."""
        if self._channel is None:
            from ..channel.routed import RoutedChannel  # grpclib's client brings asyncio, which is slow

            service = self._resources.service
            path = None if service is None else service.setup_request().path
            self._channel = RoutedChannel(
                ModelRoute(self, path and path[: path.rindex("/") + 1]),
                peer=Peer((self.host, self.port)),
                max_message_bytes=self._config.limits.max_message_bytes,
            )
        return self._channel

    @property
    def frame_readers(self) -> FrameReaders | None:
        """Read data frames in answers; None if threads do."""
        return self._resources.frame_readers

    async def call(
        self, method: str | None, arguments: Arguments, **options: Unpack[CallOptions]
    ) -> PredictResult[Any]:
        """See `ModelRunner.call`."""
        return await self._supervisor.call_model(self.runner, method, arguments, **options)

    async def reset(self, timeout: float | None) -> PredictResult[None]:
        """See `ModelRunner.reset`."""
        return await self._supervisor.reset_model(self.runner, timeout)

    @enable_ki_protection
    async def live(self) -> None:
        """Take the steps of the model's life. This is shielded: only `stop` and `retire` end it."""
        with one_by_itself():
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.shield = True
                self._nursery = self.watch.nursery = nursery
                try:
                    await self._take_steps(nursery)
                finally:
                    self._let_go(gently=False)
                    nursery.cancel_scope.cancel()

    # Events from the orchestrator and the coordinator. `cluster.membership` says when they happen.

    def update(self, infos: Mapping[str, Any]) -> None:
        """Take new infos from the orchestrator."""
        if infos == self.infos:
            return
        same = same_participant(infos, self.infos)
        self.infos = infos
        self._supervisor.infos_changed(self.runner)
        if isinstance(self.error, UnknownIdentity):
            self.revive()
        if self._resources.security.has_proofs and not same:
            self._prove_anew("the orchestrator has named another participant")

    def recover(self) -> None:
        """It crashed and is being restarted: let go of it until it is announced again."""
        if self._life.heeds(Event.CRASHED):
            self.conduct.begin_anew()  # what it did before is not reported any more
            self._steps.forget_instance()  # one that a Setup may have made by now is another
            self.error = ModelError("it crashed, and is being restarted")
            self._happened(Event.CRASHED)

    def revive(self) -> None:
        """It is announced again: try it again if it was given up or recovering, and count attempts anew.

        If it was given up, it may be tried again at this very moment. An attempt that began before these news
        must not be the proof for a report.
        """
        tried_again = self._attempts.exhausted and self.state is ModelState.CONNECTING
        self._attempts.start_over()
        if self._life.heeds(Event.ANNOUNCED_AGAIN):
            self.conduct.begin_anew()
            self._happened(Event.ANNOUNCED_AGAIN)
        elif tried_again:
            self.conduct.begin_anew()

    def move(self, host: str, port: int) -> None:
        """It is announced at another address."""
        if self._life.heeds(Event.MOVED):
            self.host, self.port = host, port
            self.conduct.record.host = host
            self._channel = None  # it has the old address
            self.conduct.begin_anew()
            self._happened(Event.MOVED)

    def retire(self) -> None:
        """Another deployment has taken its place: let it finish its calls and go."""
        self.replaced = True
        self._happened(Event.REPLACED)

    def stop(self, reason: str = _STOPPED) -> None:
        """Let go of it at once; its calls are cut off.

        Args:
            reason: why, for those whose calls are cut off.
        """
        self._gone_because = reason
        self._happened(Event.STOPPED)

    def let_go(self, reason: str) -> None:
        """It was reported: let go of it until it is announced again."""
        if self._life.heeds(Event.REPORTED):
            if self.error is None or self.state is not ModelState.FAILED:
                self.error = ModelError(self.shorten(reason))
            self._happened(Event.REPORTED)

    def try_later(self) -> None:
        """A report about it is held: if it was given up, try it again, with waits that grow.

        If it could not prove its identity, it is not tried again before it is announced again.
        """
        if not tried_again_when_held(self.error):
            return
        waits_already = self._attempts.held and self._life.step is Step.WAIT_TO_RETRY
        self._attempts.held = True
        if not waits_already:
            self._happened(Event.HELD)

    def try_now(self) -> None:
        """If it was given up, make the next attempt at once."""
        self._steps.retry_now()

    async def answers_ping(self, timeout: float) -> None:
        """Ask for a sign of life; without one, the connection counts as lost, and is given up."""
        node = self._steps.node
        if node is None or not node.connection.accepts_calls or not node.connection.may_ping:
            return
        if not await node.connection.ping(timeout) and node is self._steps.node:
            self.conduct.note_loss(stood=trio.current_time() - node.made_at, silent=True)
            node.connection.abort_silent(timeout)

    # Events from calls.

    def distrust(self, error: ProofFailed) -> None:
        """An answer did not come from its node: let go of it until it is announced again.

        Where that is nobody's fault, the node proves itself anew.
        """
        if isinstance(error, ProofLapsed):
            self._lapse(str(error))
        elif self._life.heeds(Event.DISTRUSTED):
            self.error = error
            self._happened(Event.DISTRUSTED)

    def note_distrust(self, path: str, error: ProofFailed) -> None:
        """The same, for an answer on `ModelRunner.channel`."""
        if not isinstance(error, ProofLapsed):
            self.conduct.note_distrust(path, outcome_of_distrust(error, answer=True), str(error))
        self.distrust(error)

    def note_lapse(self, node: NodeConnection) -> None:
        """What is not sent yet must not be sent on this connection, whose node is proved no longer."""
        if node is self._steps.node:
            self._lapse(_LAPSED)
        else:
            node.connection.retire_unsent(_LAPSED)

    def _lapse(self, reason: str) -> None:
        """What its node proved holds no longer: let go of the connection, and make one that proves more.

        Calls that were handed over go on, since their answers may bring a proof that holds.
        It is nobody's fault, so calls wait for the new one. But a node whose proofs expire again and again
        must not keep this process busy: then the connection has ended as any other, and attempts count.
        """
        node, now = self._steps.node, trio.current_time()
        if node is None:
            return
        node.connection.retire_unsent(reason)
        if self._life.state is ModelState.READY and self._attempts.may_replace(now):
            self._attempts.replace(now)
            self._prove_anew(reason, gently=True)

    def _prove_anew(self, reason: str, *, gently: bool = False) -> None:
        """Its node must prove itself on a new connection, if it was about to be called."""
        if self._life.heeds(Event.PROOF_LAPSED):
            self.error = ProofLapsed(reason)
            self._happened(Event.PROOF_LAPSED, gently=gently)

    def note_late_setup(self, timeout: float) -> None:
        """Its Setup was not answered in time; its node is asked until it is through."""
        self.error = ModelError(f"Setup was not answered within {timeout:g} s (setup_timeout)")
        logger.warning(
            "model %s is still setting up: %s; it joins when its node is through",
            quoted(self.runner.model_id),
            self.error,
        )

    def renew(self, reason: str) -> None:
        """Its node has no instance: go through setup again at once, on a new connection."""
        if self._steps.node is not None and self._life.heeds(Event.INSTANCE_LOST):
            self._steps.forget_instance()
            self._steps.node.connection.retire(reason)
            self.conduct.note_loss(stood=0.0, peaceful=True)
            self._happened(Event.INSTANCE_LOST)

    def retire_connection(self, node: NodeConnection, reason: str) -> None:
        """The way to its node is broken: make the connection anew."""
        node.connection.retire(reason, cause=EndCause.BROKEN)

    def note(
        self, evidence: RoundEvidence, outcome: Outcome, detail: str, overrun: Overrun | None = None
    ) -> None:
        """Count the outcome of a call, and do what follows from it.

        Args:
            evidence: what else is known of the request.
            outcome: what happened.
            detail: the same in words, for the model's author.
            overrun: the overrun that the call has become, if it has.
        """
        record, form = self.conduct.record, evidence.form
        standing = record.no_news.get((outcome, form.method))
        if standing is None or evidence.waiting or evidence.elsewhere:
            self.conduct.note_call(evidence, outcome, detail, overrun)
            return
        # A success, as nearly always, and nothing counts against the model: this must cost next to nothing.
        standing.succeeded_at = form.succeeded_at = trio.current_time()
        evidence.witness = record.model_id
        mark = record.success_mark
        if form.latest is not mark:
            if form.latest[0] != mark[0]:
                form.before = form.latest
            form.latest = mark

    def belongs_to(self, supervisor: object) -> bool:
        """Whether this is its supervisor."""
        return self._supervisor is supervisor

    def shorten(self, text: str) -> str:
        """Make a text from outside fit to be kept and shown; see `text.readable`."""
        return readable(text, self._config.limits.max_detail_length)

    # For calls.

    def take_turn(self, *, joining: bool) -> Turn:
        """Take a place in a queue. The calls of `on_join` have their own queue, and come first.

        Raises:
            QueueFullError: too many wait.
        """
        return (self._joining_queue if joining else self._queue).take_turn()

    def usable(self, *, joining: bool, unproved: bool = False) -> NodeConnection | None:
        """The connection for a call, if there is one now.

        Args:
            joining: it is a call of `on_join`.
            unproved: nothing of value is sent, so the node need not be proved at this moment.
        """
        node, state = self._steps.node, self._life.state
        if node is None or not node.connection.accepts_calls:
            return None
        if joining:
            usable = state is _JOINING
        else:
            usable = state is _READY or state is _RETIRING
            if state is _REACHABLE:  # whose node may never have shown a proof
                usable = unproved or not node.must_prove
        if usable and not unproved and node.must_prove:
            self._lapse(_LAPSED)
            return None
        return node if usable else None

    @property
    def kept_by_us(self) -> bool:
        """Whether it is not ready because of us: our code raised, or its node is busy with a call of ours."""
        overrun = self.conduct.record.overrun
        busy = self._life.state is ModelState.SETTING_UP and overrun is not None and overrun.ours
        return self.our_error is not None or busy

    async def wait_usable(self, *, joining: bool) -> NodeConnection:
        """Wait for the connection for a call. This is no checkpoint if there is one now.

        Raises:
            ModelUnavailableError: there is no connection, and none is being made.
        """
        while True:
            if (node := self.usable(joining=joining)) is not None:
                return node
            if joining or self.state in UNAVAILABLE:
                raise ModelUnavailableError(self.condition)
            await self._changed.wait()

    async def wait_replaced(self) -> None:
        """Wait while its connection is replaced by another one."""
        await self._changed.wait_until(lambda: self.state is not ModelState.REPLACING)

    # The steps of a life.

    async def _take_steps(self, nursery: trio.Nursery) -> None:
        """Take one step after the other, until the end."""
        if self._life.step is Step.BEGIN:
            self._happened(Event.BEGUN)
        while self._life.step is not Step.END:
            with trio.CancelScope() as self._step:
                await self._take_steps_undisturbed(nursery)
            if self._life.state not in CONNECTED:
                self._let_go(gently=False)  # a connection that was made at the very last moment

    async def _take_steps_undisturbed(self, nursery: trio.Nursery) -> None:
        """The same, until an event from outside cancels the present step, or the end.

        A scope for each step would cost as much as another step.
        """
        while self._life.step is not Step.END:
            result = await self._steps.take(self._life.step, nursery)
            if self._step.cancel_called:
                return
            # No checkpoint since the end of `on_join`, or the model would miss a round.
            self._follow(self._event_of(result))
            if self._step.cancel_called:
                return

    # What follows from steps and events.

    def _event_of(self, result: StepResult) -> Event:
        """Do what follows from a step, and give the event that came of it."""
        after = self._aftermath.of(result)
        if after.error is not None:
            self.error = after.error
        if after.our_error is not None:
            self.our_error = after.our_error
        return after.event

    def _happened(self, event: Event, *, gently: bool = False) -> None:
        """Change the state as an event from outside says, cancel the present step, and do what follows.

        Args:
            event: what has happened; if the table has no entry for it, nothing follows.
            gently: calls that are open may end, as after the losses of a connection.
        """
        previous = self._life.state
        if self._life.happened(event):
            self._step.cancel()
            self._follow_change(event, previous, gently=gently)

    def _follow(self, event: Event) -> None:
        """The same for the event that a step has come to, so that it is over."""
        previous = self._life.state
        if self._life.happened(event):
            self._follow_change(event, previous, gently=False)

    def _follow_change(self, event: Event, previous: ModelState, *, gently: bool) -> None:
        state = self._life.state
        if event in _BEGINNINGS:
            self._attempts.start_over()
        if state not in CONNECTED:
            self._let_go(gently=previous is ModelState.READY and (gently or event in _LOSSES))
        if state is not previous and state is not ModelState.FAILED:
            self.our_error = None
        if state is ModelState.REACHABLE:
            self.error = None
        if state is ModelState.READY:
            self.error = None
            self._steps.reason = JoinReason.RESTARTED
            self.watch.go_on(self._steps.connected)
        if state is not previous:
            self._since = trio.current_time()
            self._changed.send()
            self._supervisor.state_changed(self.runner, previous)

    def _let_go(self, *, gently: bool) -> None:
        """Close the connection in the background, if there is one.

        Args:
            gently: open calls may end first.
        """
        node, self._steps.node = self._steps.node, None
        if node is None:
            return
        self.retired = node if gently else None
        if self.conduct.record.connected:
            self.conduct.note_loss(stood=0.0, peaceful=True)
        assert self._nursery is not None
        reason = {ModelState.GONE: self._gone_because, ModelState.RECOVERING: _CRASHED}.get(self.state)
        gently = gently and not node.connection.lost
        self._nursery.start_soon(self._close, node, gently, reason or _CLOSED)

    @enable_ki_protection
    async def _close(self, node: NodeConnection, gently: bool, reason: str) -> None:
        connection = node.connection
        grace = self._config.shutdown_grace
        if gently:
            await connection.finish(grace)
        else:
            await connection.aclose(grace, reason=reason)
        if node.flooded_us:  # it may have been on a connection that its node has retired
            self._attempts.note_flood(trio.current_time())
