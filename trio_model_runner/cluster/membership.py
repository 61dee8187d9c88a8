"""Which deployment of each model is in use, which one will replace it, and which ones were replaced.

The orchestrator speaks of deployments, and the coordinator of models. Between them there are difficult cases:
a model is redeployed while it is called; a STOPPED comes for a deployment that is not used any more; an
`init` after hours lists a model twice. They are decided here, without I/O. Entries go in, and deployments are
started, stopped, moved or revived through the methods of `Member`.

A redeployment has no gap: the new deployment, the successor, is set up beside the old one. When it is ready,
`promote` swaps them. Replaced deployments are remembered: an entry that says that one of them runs does not
bring it back.

An `init` that only corrects is compared with the last entry about each deployment. An entry that says the
same changes nothing. An entry that says something else was missed, and is applied. A list has only what runs,
so a deployment that recovers is dropped only when a second list does not have it either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import attrs

from ..model.lifecycle import JoinReason
from ..orchestrator.messages import Entry, Init, RunState, Update
from ..security.delegation import same_participant

__all__ = ["Member", "Membership"]

_MAX_REPLACED: Final = 10_000


class Member(Protocol):
    """What `Membership` needs of the object that runs a deployment; a `ModelActor` is one."""

    deployment_id: str | None
    host: str
    port: int
    infos: Mapping[str, Any]

    @property
    def ready(self) -> bool:
        """Whether it carries calls."""

    def update(self, infos: Mapping[str, Any]) -> None:
        """The orchestrator says something new about it."""

    def recover(self) -> None:
        """It crashed and is being restarted."""

    def revive(self) -> None:
        """It is announced again."""

    def move(self, host: str, port: int) -> None:
        """It is announced at another address."""

    def retire(self) -> None:
        """Another deployment has taken its place: finish the calls and go."""

    def stop(self) -> None:
        """Go at once."""


D = TypeVar("D", bound=Member)


@attrs.define
class _Slot(Generic[D]):
    """One model's deployments: the one in use, and its successor, which will replace it when it is ready."""

    current: D
    successor: D | None = None

    def __iter__(self) -> Iterator[D]:
        yield self.current
        if self.successor is not None:
            yield self.successor

    def named_by(self, entry: Entry) -> list[D]:
        """The deployments that an entry names. One that is at the entry's address comes first.

        While a deployment moves to another address, there are two. If the orchestrator has no ids, the
        address is the name, and an entry without an address names all deployments.
        """
        named = [
            deployment
            for deployment in self
            if deployment.deployment_id == entry.deployment_id
            and (entry.deployment_id is not None or not entry.host or _is_at(deployment, entry))
        ]
        return sorted(named, key=lambda deployment: not _is_at(deployment, entry))


def _is_at(deployment: Member, entry: Entry) -> bool:
    return (deployment.host, deployment.port) == (entry.host, entry.port)


class Membership(Generic[D]):
    """The models that the orchestrator says run or recover.

    Args:
        start: makes the deployment that an entry names, and begins to set it up. If the entry's state is
            RECOVERING, the deployment waits until it is revived.
        max_models: how many models there may be. Others are left out. They are taken when they are announced
            again and there is room.

    Attributes:
        current: the deployment of each model that is in use, ready or not, by model id; to be read only.
        left_out: how many entries of the last event were left out, since there was no room.
    """

    def __init__(self, start: Callable[[Entry, JoinReason], D], *, max_models: float = math.inf) -> None:
        self.current: dict[str, D] = {}
        self.left_out = 0
        self._start = start
        self._max_models = max_models
        self._unlisted = 0  # models that an `init` does not list; they leave at its end
        self._slots: dict[str, _Slot[D]] = {}
        self._replaced: dict[tuple[str, str], None] = {}
        self._last_entries: WeakKeyDictionary[D, Entry] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, model_id: str) -> bool:
        return model_id in self._slots

    def is_moving(self, model_id: str, deployment: D) -> bool:
        """Whether a deployment is still used, but announced at another address, or replaced at the same host.

        The orchestrator finds a deployment by its host, so a report could hit the other one.
        """
        slot = self._slots.get(model_id)
        if slot is None or slot.current is not deployment or slot.successor is None:
            return False
        moves = slot.successor.deployment_id == deployment.deployment_id is not None
        return moves or slot.successor.host == deployment.host

    def apply(self, event: Init | Update) -> None:
        """Apply what the orchestrator says."""
        newest = {each.model_id: each for each in event.entries if each.state is RunState.RUNNING}
        self.left_out = self._unlisted = 0
        corrects = isinstance(event, Init) and event.corrects
        if isinstance(event, Init):
            unlisted = self._slots.keys() - {each.model_id for each in event.entries}
            staying = {each for each in unlisted if corrects and any(map(self._recovers, self._slots[each]))}
            self._unlisted = len(unlisted - staying)
        for entry in event.entries:
            if corrects and self._says_nothing_new(entry):
                continue
            if entry.state is RunState.RUNNING:
                self._running(entry, newest[entry.model_id])
            elif entry.state is RunState.RECOVERING:
                self._recovering(entry)
            else:
                self._stopped(entry)
            for deployment in self._named_by(entry):
                self._last_entries[deployment] = entry
        if isinstance(event, Init):
            self._drop_unlisted(event)

    def promote(self, model_id: str, deployment: D) -> D | None:
        """A deployment is ready: if it is a successor, put it in use and return the one it replaces."""
        slot = self._slots.get(model_id)
        if slot is None or slot.successor is not deployment:
            return None
        replaced, slot.current, slot.successor = slot.current, deployment, None
        self.current[model_id] = deployment
        if replaced.deployment_id != deployment.deployment_id:
            self._remember_replaced(model_id, replaced.deployment_id)
        replaced.retire()
        return replaced

    def _named_by(self, entry: Entry) -> list[D]:
        slot = self._slots.get(entry.model_id)
        return [] if slot is None else slot.named_by(entry)

    def _says_nothing_new(self, entry: Entry) -> bool:
        """Whether this is what was said last about the deployments that an entry names, and there is one."""
        named = self._named_by(entry)
        return bool(named) and all(self._last_entries.get(deployment) == entry for deployment in named)

    def _recovers(self, deployment: D) -> bool:
        """Whether the last word about a deployment is that it recovers: it need not be listed then."""
        last = self._last_entries.get(deployment)
        return last is not None and last.state is RunState.RECOVERING

    def _running(self, entry: Entry, newest: Entry) -> None:
        slot = self._slots.get(entry.model_id)
        if slot is None:
            self._begin(entry)
            return
        known = next(iter(slot.named_by(entry)), None)
        if known is None:
            if newest is not entry and slot.named_by(newest):  # it is older than the one that we have
                self._remember_replaced(entry.model_id, entry.deployment_id)
            elif not self._was_replaced(entry):
                self._succeed(slot, entry, JoinReason.REDEPLOYED)
        elif _is_at(known, entry):
            self._forget_move(slot, known)
            known.update(entry.infos)
            known.revive()
        elif known is slot.current and known.ready and same_participant(known.infos, entry.infos):
            self._succeed(slot, entry, JoinReason.RESTARTED)
        else:
            known.update(entry.infos)
            known.move(entry.host, entry.port)

    def _begin(self, entry: Entry) -> None:
        if self._was_replaced(entry):
            return
        if len(self._slots) - self._unlisted >= self._max_models:
            self.left_out += 1
            return
        deployment = self._bring_up(entry, JoinReason.JOINED)
        self._slots[entry.model_id] = _Slot(deployment)
        self.current[entry.model_id] = deployment

    def _bring_up(self, entry: Entry, reason: JoinReason) -> D:
        deployment = self._start(entry, reason)
        self._last_entries[deployment] = entry
        return deployment

    def _forget_move(self, slot: _Slot[D], deployment: D) -> None:
        """A deployment is announced at its old address again: stop the one at the new address."""
        moved, name = slot.successor, deployment.deployment_id
        if moved is not None and moved is not deployment and name is not None and moved.deployment_id == name:
            slot.successor = None
            moved.stop()

    def _succeed(self, slot: _Slot[D], entry: Entry, reason: JoinReason) -> None:
        """Set a deployment up beside the one in use, as its successor."""
        if slot.successor is not None:
            if slot.successor.deployment_id not in (entry.deployment_id, slot.current.deployment_id):
                self._remember_replaced(entry.model_id, slot.successor.deployment_id)
            slot.successor.stop()
        slot.successor = self._bring_up(entry, reason)

    def _recovering(self, entry: Entry) -> None:
        slot = self._slots.get(entry.model_id)
        if slot is None:
            self._begin(entry)
            return
        for deployment in slot.named_by(entry):
            deployment.recover()

    def _stopped(self, entry: Entry) -> None:
        slot = self._slots.get(entry.model_id)
        for deployment in slot.named_by(entry) if slot is not None else ():
            assert slot is not None
            self._remove(entry.model_id, slot, deployment)

    def _drop_unlisted(self, init: Init) -> None:
        self._unlisted = 0
        listed = {(entry.model_id, entry.deployment_id) for entry in init.entries}
        for model_id, slot in list(self._slots.items()):
            for deployment in list(slot):
                if (model_id, deployment.deployment_id) in listed:
                    continue
                if init.corrects and self._recovers(deployment):
                    del self._last_entries[deployment]  # the next list without it ends it
                else:
                    self._remove(model_id, slot, deployment)
        for entry in init.entries:  # it was ignored for one that is dropped now
            if entry.state is RunState.RECOVERING and entry.model_id not in self._slots:
                self._begin(entry)

    def _remove(self, model_id: str, slot: _Slot[D], deployment: D) -> None:
        if deployment is slot.successor:
            slot.successor = None
        elif slot.successor is not None:
            if deployment.deployment_id != slot.successor.deployment_id:
                self._remember_replaced(model_id, deployment.deployment_id)
            self.current[model_id] = slot.current = slot.successor
            slot.successor = None
        elif self._slots.get(model_id) is slot:
            del self._slots[model_id], self.current[model_id]
        deployment.stop()

    def _was_replaced(self, entry: Entry) -> bool:
        return (entry.model_id, entry.deployment_id) in self._replaced

    def _remember_replaced(self, model_id: str, deployment_id: str | None) -> None:
        if deployment_id is not None:
            self._replaced[model_id, deployment_id] = None
            if len(self._replaced) > _MAX_REPLACED:
                del self._replaced[next(iter(self._replaced))]
