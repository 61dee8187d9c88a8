"""All models of a cluster: who is announced, who is ready, and what is made of what they do.

Here the two halves meet. What the orchestrator says goes into `membership`, which starts and stops models;
what the models say of themselves goes out as changes, and to `court`. Neither half knows of the other, and
none of this knows of rounds.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import trio

from ..model.runner import ModelRunner
from ..model.states import JoinReason
from ..orchestrator import Disconnected, Entry, FeedEvent, Init, OrchestratorFeed, RunState, Update
from ..rpc.reader import SocketHub
from ..security.node_security import node_security
from ..text import quoted
from ..values.results import ModelError, ModelState
from .changes import Broadcast, Change, ChangeKind
from .court import Court
from .membership import Membership

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from ..model.host import CallModel
    from ..services.base import Service
    from ..values.failure_codes import FailureCode
    from .verdicts import Verdict

__all__ = ["Fleet"]

_OUT: Final = frozenset({ModelState.FAILED, ModelState.RECOVERING})
"""Announced, but not to be had until it is announced again."""

logger = logging.getLogger("trio_model_runner.cluster")


class Fleet:
    """The models of one cluster, and what they need of it: a `model.ModelHost`.

    Args:
        config: the settings.
        service: what the nodes speak.
        feed: the orchestrator's.
        join: lets the coordinator catch a model up, told why it joins and whether it is a new instance.
        call_model: makes one call on one model.

    Attributes:
        changes: whoever listens to what happens.
        court: where verdicts wait.
        initialised: set once the orchestrator has said what runs.
        ready: the models that are ready, by model id.
    """

    def __init__(
        self,
        config: ClusterConfig,
        service: Service,
        feed: OrchestratorFeed,
        *,
        join: Callable[[ModelRunner, JoinReason, bool], Awaitable[None]],
        call_model: CallModel,
    ) -> None:
        self.config = config
        self.service = service
        self.hub: SocketHub | None = None
        self.security = node_security(config.credentials, clock_leeway=config.clock_leeway)
        self.connect_limiter = trio.CapacityLimiter(config.limits.max_simultaneous_connects)
        self.call_model = call_model
        self.changes = Broadcast()
        self.court = Court(
            config,
            feed,
            count_members=self._count,
            is_moving=self._is_moving,
            tell_held=self._tell_held,
        )
        self.initialised = trio.Event()
        self.ready: dict[str, ModelRunner] = {}
        self._feed = feed
        self._join = join
        self._membership: Membership[ModelRunner] = Membership(
            self._start, max_models=config.orchestrator.max_models
        )
        self._crowded = False
        self._living: set[ModelRunner] = set()
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None

    def open(self, nursery: trio.Nursery) -> None:
        """Run models in this nursery from now on."""
        self._nursery = nursery
        if SocketHub.available():
            self.hub = SocketHub()

    def close(self) -> None:
        """Stop all models, and tell nobody any more."""
        self._nursery = None
        self.ready.clear()
        for model in self._living:  # those too that were replaced and finish their calls
            model.stop()
        self.changes.end()

    @property
    def announced(self) -> Mapping[str, ModelRunner]:
        """All models that the orchestrator says run or recover, as of now, by model id."""
        return MappingProxyType(self._membership.current)

    @property
    def settled(self) -> bool:
        """Whether no announced model is on its way up."""
        return all(model.ready or model.state in _OUT for model in self._membership.current.values())

    def count_states(self) -> dict[str, int]:
        """How many announced models are in each state, by its value."""
        return dict(Counter(model.state.value for model in self._membership.current.values()))

    def picture(self) -> list[Change]:
        """What is there now, as the changes that led to it."""
        announced = self._membership.current.values()
        return [
            *(Change(ChangeKind.ANNOUNCED, model) for model in announced),
            *(Change(ChangeKind.JOINED, model) for model in self.ready.values()),
            *(
                Change(ChangeKind.FAILED, model, error=model.error)
                for model in announced
                if model.state in _OUT
            ),
        ]

    async def wait_change(self) -> None:
        """Wait until any model's state or the membership changes."""
        await self._changed.wait()

    def wake(self) -> None:
        """End every `wait_change`."""
        self._changed.set()
        self._changed = trio.Event()

    def deliver(self, event: FeedEvent) -> None:
        """Take in what the orchestrator says."""
        if self._nursery is None:
            return
        if isinstance(event, Disconnected):
            logger.warning("the orchestrator is away: %s", event.error)
            return
        self._membership.apply(event)
        self._complain_of_crowds(event)
        if isinstance(event, Init):
            self.initialised.set()
        self.court.wake()
        self.wake()

    def _complain_of_crowds(self, event: Init | Update) -> None:
        """Log that models are left out, once until all that there are have found room."""
        left_out = self._membership.left_out
        if left_out and not self._crowded:
            limit = self.config.orchestrator.max_models
            logger.error(
                "orchestrator.max_models is %d: models beyond that are left out: %d", limit, left_out
            )
        if left_out or isinstance(event, Init):
            self._crowded = left_out > 0

    async def join(self, model: ModelRunner, reason: JoinReason, *, fresh: bool) -> None:
        """See `ModelHost.join`."""
        await self._join(model, reason, fresh)

    def state_changed(self, model: ModelRunner, previous: ModelState) -> None:
        """See `ModelHost.state_changed`."""
        if self._nursery is None:
            return
        state = model.state
        if state is ModelState.READY:
            replaced = self._membership.promote(model.model_id, model)
            self.ready[model.model_id] = model
            if replaced is not None:
                self.court.withdraw(replaced)
                self._feed.withdraw(model.model_id)  # the new one may be at the same host
            kind = ChangeKind.JOINED if replaced is None else ChangeKind.REDEPLOYED
            self._tell(Change(kind, model, previous=replaced))
        elif self.ready.get(model.model_id) is model:
            del self.ready[model.model_id]
        if state in _OUT:
            logger.warning(
                "model %s is %s: %s", quoted(model.model_id), state.value, quoted(str(model.error))
            )
            self._tell(Change(ChangeKind.FAILED, model, error=model.error))
        elif state is ModelState.GONE:
            self._living.discard(model)
            self.court.withdraw(model)
            if model.model_id not in self._membership:
                self._feed.withdraw(model.model_id)
            if not model.retired:
                self._tell(Change(ChangeKind.LEFT, model))
        self.wake()

    def infos_changed(self, model: ModelRunner) -> None:
        """See `ModelHost.infos_changed`."""
        self._tell(Change(ChangeKind.UPDATED, model))

    def accuse(self, model: ModelRunner, code: FailureCode, reason: str, name: str | None) -> None:
        """See `ModelHost.accuse`."""
        self.court.accuse(model, code, reason, name)

    def acquit(self, model: ModelRunner, name: str) -> None:
        """See `ModelHost.acquit`."""
        self.court.acquit(model, name)

    def pardon(self, model: ModelRunner) -> None:
        """See `ModelHost.pardon`."""
        self.court.withdraw(model)

    def _count(self) -> int:
        return len(self._membership)

    def _is_moving(self, model: ModelRunner) -> bool:
        return self._membership.is_moving(model.model_id, model)

    def _tell_held(self, verdict: Verdict[ModelRunner]) -> None:
        error = ModelError(f"{verdict.code} is not reported, since too many would be: {verdict.reason}")
        self._tell(Change(ChangeKind.UPDATED, verdict.model, error=error))

    def _start(self, entry: Entry, reason: JoinReason) -> ModelRunner:
        assert self._nursery is not None
        model = ModelRunner(
            self,
            model_id=entry.model_id,
            deployment_id=entry.deployment_id,
            host=entry.host,
            port=entry.port,
            infos=entry.infos,
            reason=reason,
        )
        self._living.add(model)
        self._tell(Change(ChangeKind.ANNOUNCED, model))
        if entry.state is RunState.RECOVERING:
            model.recover()
        self._nursery.start_soon(model.live)
        return model

    def _tell(self, change: Change) -> None:
        self.changes.tell(change)
