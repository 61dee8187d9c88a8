"""A membership whose deployments write down what they are told, and entries to feed it with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trio_model_runner.cluster.membership import Membership
from trio_model_runner.model.lifecycle import JoinReason
from trio_model_runner.orchestrator.messages import Entry, Init, RunState, Update

__all__ = [
    "JOINED",
    "RECOVERING",
    "REDEPLOYED",
    "RESTARTED",
    "RUNNING",
    "STOPPED",
    "Book",
    "FakeDeployment",
    "deployments_of",
    "entry",
]

RUNNING, STOPPED, RECOVERING = RunState.RUNNING, RunState.STOPPED, RunState.RECOVERING
JOINED, REDEPLOYED, RESTARTED = JoinReason.JOINED, JoinReason.REDEPLOYED, JoinReason.RESTARTED


class FakeDeployment:
    """Writes down what it is told."""

    def __init__(self, entry: Entry, reason: JoinReason) -> None:
        self.model_id = entry.model_id
        self.deployment_id = entry.deployment_id
        self.host = entry.host
        self.port = entry.port
        self.infos = entry.infos
        self.reason = reason
        self.ready = False
        self.told: list[str] = ["recover"] if entry.state is RECOVERING else []

    def __repr__(self) -> str:
        return f"<{self.model_id}/{self.deployment_id} at {self.host}: {self.told}>"

    @property
    def left(self) -> bool:
        return bool({"stop", "retire"} & set(self.told))

    def update(self, infos: Mapping[str, Any]) -> None:
        self.infos = infos

    def recover(self) -> None:
        self.ready = False
        self.told.append("recover")

    def revive(self) -> None:
        self.told.append("revive")

    def move(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.ready = False
        self.told.append(f"move to {host}")

    def retire(self) -> None:
        self.told.append("retire")

    def stop(self) -> None:
        self.ready = False
        self.told.append("stop")


class Book(Membership[FakeDeployment]):
    """A membership of fake deployments.

    Attributes:
        started: all of them, oldest first.
    """

    def __init__(self) -> None:
        self.started: list[FakeDeployment] = []
        super().__init__(self._make)

    def _make(self, entry: Entry, reason: JoinReason) -> FakeDeployment:
        self.started.append(FakeDeployment(entry, reason))
        return self.started[-1]

    @property
    def deployments(self) -> list[FakeDeployment]:
        """All deployments, successors included."""
        return [
            deployment for slot in self._slots.values() for deployment in slot
        ]  # which nobody else asks for

    def make_ready(self, deployment: FakeDeployment) -> FakeDeployment | None:
        deployment.ready = True
        return self.promote(deployment.model_id, deployment)

    def init(self, *entries: Entry) -> None:
        self.apply(Init(entries))

    def update(self, *entries: Entry) -> None:
        self.apply(Update(entries))


def entry(
    model_id: str, deployment_id: str | None = "d1", state: RunState = RUNNING, at: str = "x", **infos: Any
) -> Entry:
    if state is RUNNING:
        return Entry(model_id, deployment_id, state, at, 1, infos)
    return Entry(model_id, deployment_id, state, infos=infos)


def deployments_of(membership: Membership[FakeDeployment]) -> list[FakeDeployment]:
    """All deployments, successors included: only tests ask for those that are not in use."""
    return [deployment for slot in membership._slots.values() for deployment in slot]
