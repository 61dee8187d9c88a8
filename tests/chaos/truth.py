"""The plain model of what is so: what runs, what was announced, who should be ready, who may be blamed.

There is no I/O here, no clock, and nothing of the library. An action of a script goes in (`Truth.apply`),
this model changes, and out come the effects that make it so: what to do to processes, what to announce. So
the script's generator and the campaign that performs it share one understanding of every action; the
generator just drops the effects. An action that makes no sense as things are has none.

A model has one deployment, or two while one replaces the other. What a cluster should make of them isn't
always certain: whether a frozen node is still taken for ready depends on how long it has been frozen. Then
`Truth.expected` says `Expectation.EITHER`. It is certain again once the node is sound and was announced.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, Final

import attrs

from .deployment import NEVER_READY, Deployment

__all__ = ["Action", "Effect", "Expectation", "OrchestratorState", "Truth"]

_SETTLES_UNTIL_ACQUITTED: Final = 2
_BLAMELESS_SECONDS: Final = 2.8
"""A call that takes no longer overruns by three timeouts of 0.7 s, as many as are allowed in a row."""

Effect = tuple[Any, ...]


@attrs.frozen
class Action:
    """A line of a script: what, to whom, and how."""

    verb: str
    target: str = ""
    detail: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.verb, self.target, self.detail)))

    @classmethod
    def parse(cls, line: str) -> Action:
        """Read what `str` made."""
        return cls(*line.split(maxsplit=2))


class Expectation(enum.Enum):
    """What a cluster should make of a model in the end."""

    READY = enum.auto()
    NOT_READY = enum.auto()
    EITHER = enum.auto()
    GONE = enum.auto()


class OrchestratorState(enum.Enum):
    """How the orchestrator's process is."""

    UP = enum.auto()
    FROZEN = enum.auto()
    DOWN = enum.auto()


class Truth:
    """What is so.

    Attributes:
        deployments: all that ever were, oldest first.
        orchestrator: how it is.
    """

    def __init__(self) -> None:
        self.deployments: list[Deployment] = []
        self.orchestrator = OrchestratorState.UP
        self._models: dict[str, list[Deployment]] = {}
        self._relayed: set[str] = set()
        self._lives = 0

    @property
    def model_ids(self) -> list[str]:
        """The models that are known, whether they run or not."""
        return list(self._models)

    @property
    def unsound(self) -> list[str]:
        """The models with which something is the matter, or which are not in the book."""
        return [model_id for model_id in self._models if not self._is_well(model_id)]

    def newest(self, model_id: str) -> Deployment | None:
        """The newest deployment in the book."""
        listed = self._models.get(model_id)
        return listed[-1] if listed else None

    def has_two(self, model_id: str) -> bool:
        """Whether one deployment is replacing another."""
        return len(self._models.get(model_id, ())) > 1

    def can_take(self, verb: str, model_id: str) -> bool:
        """Whether an "overrun", "hold" or "cut" can happen to a model: one at a time, or they add up."""
        newest = self.newest(model_id)
        if newest is None or not newest.calm or not self._is_well(model_id):
            return False
        return {"hold": newest.grpcio, "cut": newest.relayed}.get(verb, True)

    def in_use(self, model_id: str) -> list[Deployment]:
        """The deployments of a model that the cluster should have: two while one is replacing another."""
        told = [each for each in self.deployments if each.model_id == model_id and each.told != "STOPPED"]
        promoted = [index for index, each in enumerate(told) if each.promoted or each.certain]
        return told[promoted[-1] :] if promoted else told

    def expected(self, model_id: str) -> tuple[Expectation, Deployment | None]:
        """What the cluster should make of a model, and which deployment it should use."""
        told = self.in_use(model_id)
        if not told:
            return Expectation.GONE, None
        newest = told[-1]
        if len(told) > 1 and not newest.certain:
            if newest.wavered or newest.condition not in NEVER_READY:
                return Expectation.EITHER, None
            newest = told[-2]
        if newest.told == "RECOVERING":
            return Expectation.NOT_READY, None
        if newest.certain:
            return Expectation.READY, newest
        if newest.condition in NEVER_READY and not newest.frozen:
            return Expectation.NOT_READY, None
        return Expectation.EITHER, None

    def book(self) -> list[tuple[Deployment, str]]:
        """What a new orchestrator knows."""
        return [(each, each.booked) for each in self.deployments if each.booked == "RUNNING"]

    def note_settled(self) -> None:
        """Note that the cluster was seen to be as expected, with the orchestrator there."""
        for model_id in self._models:
            expectation, deployment = self.expected(model_id)
            if expectation is Expectation.READY and deployment is not None:
                deployment.promoted = deployment.calm = True
                for each in self._models[model_id]:
                    each.replaced = each is not deployment
        for deployment in self.deployments:
            blameless = deployment.certain or deployment.told != "RUNNING"
            deployment.blameless = deployment.blameless + 1 if blameless else 0
            if deployment.blameless >= _SETTLES_UNTIL_ACQUITTED:
                deployment.excuses.clear()
                del deployment.addresses[:-1]

    def take_report(self, model_id: str, address: int, code: str) -> list[Effect]:
        """A deployment was reported. The platform stops it, if that is still where it runs.

        Those before it are stopped, too, if the cluster may have let go of them already.

        Raises:
            AssertionError: nothing that it did allows that.
        """
        reported = [each for each in self.deployments if address in each.addresses]
        assert reported, f"{model_id} was reported at an address that it does not have: {address}"
        (deployment,) = reported
        assert deployment.model_id == model_id
        assert code in deployment.excuses, (
            f"{model_id} ({deployment.deployment_id}, {deployment.condition}) was reported as {code}; "
            f"it could be blamed for {deployment.excuses or 'nothing'}"
        )
        deployment.excuses.clear()
        if deployment.booked == "STOPPED" or address != deployment.address:
            return []
        if deployment.wavered or deployment.certain or deployment.promoted:
            return list(self._remove(model_id, ""))
        return list(self._stop(deployment))

    def apply(self, action: Action) -> list[Effect]:
        """Take an action, and say what it takes; nothing if it makes no sense now."""
        verb = action.verb.replace("-", "_")
        if action.target:
            return list(getattr(self, f"_{verb}")(action.target, action.detail))
        return list(getattr(self, f"_{verb}")())

    # What happens to models

    def _add(self, model_id: str, detail: str) -> Iterator[Effect]:
        """A model runs, that is not in the book."""
        if not self._models.get(model_id):
            if "relayed" in detail:
                self._relayed.add(model_id)
            yield from self._deploy(model_id, "sound", grpcio="grpcio" in detail)

    def _redeploy(self, model_id: str, condition: str) -> Iterator[Effect]:
        """A new deployment runs beside the one that is there."""
        if len(self._models.get(model_id, ())) == 1:
            yield from self._deploy(model_id, condition or "sound", grpcio=False)

    def _deploy(self, model_id: str, condition: str, *, grpcio: bool) -> Iterator[Effect]:
        self._lives += 1
        number = self._lives
        name, relayed = f"deployment-{number}", model_id in self._relayed
        deployment = Deployment(model_id, name, [number], [number], grpcio, relayed, condition)
        self.deployments.append(deployment)
        self._models.setdefault(model_id, []).append(deployment)
        yield "start", deployment, "sound" if condition == "dead" else condition
        if condition == "dead":
            yield "kill", number
        yield from self._announce(deployment, "RUNNING")

    def _retire(self, model_id: str, _: str) -> Iterator[Effect]:
        """The older of two deployments is stopped."""
        if self.has_two(model_id):
            yield from self._stop(self._models[model_id][0])

    def _remove(self, model_id: str, _: str) -> Iterator[Effect]:
        """A model is stopped."""
        for deployment in list(self._models.get(model_id, ())):
            yield from self._stop(deployment)

    def _stop(self, deployment: Deployment) -> Iterator[Effect]:
        self._models[deployment.model_id].remove(deployment)
        if deployment.alive:
            yield from self._die(deployment)
        yield from self._announce(deployment, "STOPPED")

    def _kill(self, model_id: str, _: str) -> Iterator[Effect]:
        """The newest deployment's process dies, and nobody says so."""
        deployment = self.newest(model_id)
        if deployment is not None and deployment.alive:
            yield from self._die(deployment)

    def _die(self, deployment: Deployment) -> Iterator[Effect]:
        deployment.condition, deployment.frozen = "dead", False
        deployment.suffer("dead")
        yield "kill", deployment.life

    def _crash(self, model_id: str, _: str) -> Iterator[Effect]:
        """The process dies, and the orchestrator says so."""
        deployment = self.newest(model_id)
        if deployment is not None and not self.has_two(model_id) and deployment.booked == "RUNNING":
            if deployment.alive:
                yield from self._die(deployment)
            yield from self._announce(deployment, "RECOVERING")

    def _restart(self, model_id: str, detail: str) -> Iterator[Effect]:
        """A process begins anew, where it was or ("elsewhere") at another address; it is announced.

        Detail "unsaid": where it was, and it isn't announced.
        """
        deployment = self.newest(model_id)
        if deployment is None:
            return
        if deployment.alive:
            yield from self._die(deployment)
        self._lives += 1
        deployment.condition = "sound"
        deployment.lives.append(self._lives)
        if detail == "elsewhere":
            deployment.addresses.append(self._lives)
        yield "start", deployment, "sound"
        if detail != "unsaid":
            yield from self._announce(deployment, "RUNNING")

    def _freeze(self, model_id: str, _: str) -> Iterator[Effect]:
        """A process stands still."""
        deployment = self.newest(model_id)
        if deployment is not None and deployment.alive and not deployment.frozen:
            deployment.frozen = True
            deployment.suffer("frozen")
            yield "freeze", deployment.life

    def _thaw(self, model_id: str, _: str) -> Iterator[Effect]:
        """It goes on."""
        deployment = self.newest(model_id)
        if deployment is not None and deployment.frozen:
            deployment.frozen = False
            yield "thaw", deployment.life

    def _temper(self, model_id: str, condition: str) -> Iterator[Effect]:
        """A node begins to misbehave, and goes on with it."""
        deployment = self.newest(model_id)
        of_the_model = condition in ("raising", "hanging", "tardy")
        if deployment is not None and deployment.sound and (of_the_model or not deployment.grpcio):
            deployment.condition = condition
            deployment.suffer(condition)
            yield "tell", deployment.life, {"temper": condition}

    def _outburst(self, model_id: str, kind: str) -> Iterator[Effect]:
        """A node sends something out of place, once."""
        deployment = self.newest(model_id)
        if deployment is not None and deployment.sound and not deployment.grpcio:
            deployment.blame("outburst")
            yield "tell", deployment.life, {"outburst": kind}

    def _overrun(self, model_id: str, seconds: str) -> Iterator[Effect]:
        """The next call takes so long."""
        yield from self._delay("overrun", model_id, float(seconds))

    def _hold(self, model_id: str, seconds: str) -> Iterator[Effect]:
        """The next call takes so long, and nothing else in Python runs on its node meanwhile."""
        yield from self._delay("hold", model_id, float(seconds))

    def _delay(self, verb: str, model_id: str, seconds: float) -> Iterator[Effect]:
        deployment = self.newest(model_id)
        if deployment is not None and self.can_take(verb, model_id):
            deployment.calm = False
            if seconds > _BLAMELESS_SECONDS:
                deployment.blame("tardy")
            yield "tell", deployment.life, {"delay": seconds, "hold": verb == "hold"}

    def _cut(self, model_id: str, detail: str) -> Iterator[Effect]:
        """The way swallows all that is sent "up", "down" or "both" for some seconds: nobody's fault."""
        deployment = self.newest(model_id)
        if deployment is not None and self.can_take("cut", model_id):
            deployment.calm = False
            way, seconds = detail.split()
            yield "cut", deployment.address, way, float(seconds)

    def _repeat(self, model_id: str, _: str) -> Iterator[Effect]:
        """A deployment is announced as it was, with other infos."""
        deployment = self.newest(model_id)
        if deployment is not None and deployment.booked == "RUNNING":
            deployment.version += 1
            yield from self._announce(deployment, "RUNNING")

    def _stale(self, model_id: str, state: str) -> Iterator[Effect]:
        """The orchestrator says something of a deployment that was replaced."""
        replaced = [each for each in self.deployments if each.model_id == model_id and each.replaced]
        if self.orchestrator is OrchestratorState.UP and replaced and self._is_well(model_id):
            yield "announce", replaced[0], state

    def _mend(self, model_id: str, _: str) -> Iterator[Effect]:
        """Whatever is the matter, the model is sound after this, and announced."""
        if self._is_well(model_id):
            return
        if self.has_two(model_id):
            yield from self._retire(model_id, "")
        deployment = self.newest(model_id)
        if deployment is None:
            yield from self._deploy(model_id, "sound", grpcio=False)
            return
        yield from self._thaw(model_id, "")
        if not deployment.alive:
            yield from self._restart(model_id, "elsewhere" if deployment.address % 2 else "")
            return
        if deployment.condition != "sound":
            deployment.condition = "sound"
            yield "tell", deployment.life, {"temper": "sound"}
        yield from self._announce(deployment, "RUNNING")

    def _is_well(self, model_id: str) -> bool:
        newest = self.newest(model_id)
        return newest is not None and newest.certain and not self.has_two(model_id)

    def _announce(self, deployment: Deployment, state: str) -> Iterator[Effect]:
        deployment.booked = state
        if self.orchestrator is not OrchestratorState.DOWN:
            yield "announce", deployment, state
        if self.orchestrator is OrchestratorState.UP:
            deployment.note_told()

    # What happens to the orchestrator

    def _orchestrator_kill(self) -> Iterator[Effect]:
        if self.orchestrator is not OrchestratorState.DOWN:
            self.orchestrator = OrchestratorState.DOWN
            yield ("orchestrator_kill",)

    def _orchestrator_stop(self) -> Iterator[Effect]:
        if self.orchestrator is OrchestratorState.UP:
            self.orchestrator = OrchestratorState.DOWN
            yield ("orchestrator_stop",)

    def _orchestrator_freeze(self) -> Iterator[Effect]:
        if self.orchestrator is OrchestratorState.UP:
            self.orchestrator = OrchestratorState.FROZEN
            yield ("orchestrator_freeze",)

    def _orchestrator_thaw(self) -> Iterator[Effect]:
        if self.orchestrator is OrchestratorState.FROZEN:
            yield ("orchestrator_thaw",)
            self._come_up()

    def _orchestrator_start(self) -> Iterator[Effect]:
        if self.orchestrator is OrchestratorState.DOWN:
            for deployment in self.deployments:
                if deployment.booked == "RECOVERING":  # no `init` lists it
                    deployment.told = "STOPPED"
            yield ("orchestrator_start",)
            self._come_up()

    def _orchestrator_nonsense(self) -> Iterator[Effect]:
        if self.orchestrator is OrchestratorState.UP:
            yield ("orchestrator_nonsense",)

    def _come_up(self) -> None:
        self.orchestrator = OrchestratorState.UP
        for deployment in self.deployments:
            if deployment.booked != "RECOVERING" or deployment.told != "STOPPED":
                deployment.note_told()
