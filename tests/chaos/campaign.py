"""A script, performed: what it says happens to processes, and a cluster lives through it.

All the while a player plays rounds, one after the other, and checks each: exactly one result for every
member, the right answers from the right process, in time. Whatever is reported is held against the plain
model at once; a deployment that was rightly reported is stopped, as the platform does. Where the script says
``settle``, the cluster must come to be as the model has it, with no socket and no task too many.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterConfig,
    DynamicSubclassService,
    Join,
    ModelState,
    PredictionRound,
)
from trio_model_runner.config import Backoff, Health, OrchestratorConfig

from .deployment import Deployment
from .processes import open_launcher
from .remains import Remains
from .stage import CRUNCH_ID, Stage
from .truth import Action, Expectation, OrchestratorState, Truth

__all__ = ["Figures", "perform"]

logger = logging.getLogger(__name__)

SLACK = 2.0  # seconds that anything with a deadline may be late on a busy machine
PATIENT = 45.0  # seconds for what takes no time on a machine that is not busy

_PAUSE = 0.02  # seconds between rounds
_POLL_INTERVAL = 0.02  # seconds
_FEED_TASKS = 5
_OUT = (ModelState.FAILED, ModelState.RECOVERING)

_SETTINGS: dict[str, Any] = {
    "timeout": 0.7,
    "startup_timeout": PATIENT,
    "setup_timeout": 10.0,
    "shutdown_grace": 2.0,
    "backoff": Backoff(attempts=4, initial=0.1, maximum=0.4, connect_timeout=3.0),
    "orchestrator": OrchestratorConfig(
        reconnect_initial=0.05,
        reconnect_maximum=0.5,
        ping_interval=1.0,
        pong_timeout=4.0,
        handshake_timeout=3.0,
    ),
    "health": Health(timeout=2.0, mass_window=1.5),
}


@attrs.define
class Figures:
    """What a campaign has measured.

    Attributes:
        rounds: how many were played.
        statuses: how many results had each status.
        worst_overshoot: the most seconds that a round was late.
        reports: how many failures were reported, by code.
        leaving: seconds that leaving the cluster took.
    """

    rounds: int = 0
    statuses: Counter[str] = attrs.field(factory=Counter)
    worst_overshoot: float = 0.0
    reports: Counter[str] = attrs.field(factory=Counter)
    leaving: float = 0.0


async def perform(script: Sequence[Action], log: Path) -> Figures:
    """Perform a script.

    Args:
        script: what happens.
        log: where the processes write what they have to say.

    Raises:
        AssertionError: the cluster did what it must not do. A note says at which line.
    """
    reports_in, reports = trio.open_memory_channel[dict[str, Any]](1000)
    before = Remains.now()
    async with open_launcher(log, reports_in.send_nowait) as launcher:
        truth = Truth()
        stage = Stage(launcher, truth)
        await stage.begin()
        campaign = _Campaign(truth, stage, before)
        try:
            async with campaign.running(reports):
                try:
                    for action in script:
                        await campaign.act(action)
                except AssertionError as error:  # should the cluster not even end, this would be lost
                    logger.error("%s: %s", action, error)
                    raise
        except Exception as error:
            error.add_note(f"after {campaign.lines_begun} lines of the script")
            raise
        await campaign.check_nothing_remains()
    return campaign.figures


class _Campaign:
    """A cluster in the midst of it all."""

    def __init__(self, truth: Truth, stage: Stage, before: Remains) -> None:
        self.figures = Figures()
        self.lines_begun = 0
        self._truth = truth
        self._stage = stage
        self._before = before
        self._of_cluster = 0  # tasks
        self._of_ready_model = 0
        self._acting = trio.Lock()
        self._playing = trio.Lock()
        self._numbers = itertools.count(1)
        self._cluster: Cluster

    @contextlib.asynccontextmanager
    async def running(self, reports: trio.MemoryReceiveChannel[dict[str, Any]]) -> AsyncIterator[None]:
        """A cluster, the player, and whoever takes reports."""
        config = ClusterConfig(
            CRUNCH_ID, self._stage.orchestrator_host, self._stage.orchestrator.port, **_SETTINGS
        )
        service = DynamicSubclassService("chaos.Model")
        async with Cluster(config, service, on_join=_catch_up) as self._cluster:
            await wait_all_tasks_blocked(_POLL_INTERVAL)
            self._of_cluster = Remains.now().tasks
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._play)
                nursery.start_soon(self._take_reports, reports)
                yield
                nursery.cancel_scope.cancel()
            left_at = trio.current_time()
        self.figures.leaving = trio.current_time() - left_at
        assert self.figures.leaving <= config.shutdown_grace + SLACK

    async def act(self, action: Action) -> None:
        """Perform a line of the script."""
        self.lines_begun += 1
        match action.verb:
            case "rest":
                await trio.sleep(float(action.target))
            case "settle":
                await self._settle()
            case "await-report":
                await self._await_report(action.target)
            case "orchestrator-kill" | "orchestrator-stop" | "orchestrator-freeze":
                await self._reach_cluster()
                async with self._acting:
                    await self._stage.perform(self._truth.apply(action))
            case _:
                async with self._acting:
                    await self._stage.perform(self._truth.apply(action))

    async def check_nothing_remains(self) -> None:
        """Check that the cluster has left nothing, once the kernel had the time to see to it."""
        assert Remains.now().tasks == 0
        await _wait_until(lambda: not Remains.now().peers - self._before.peers, Remains.now)

    # The player

    async def _play(self) -> None:
        while True:
            async with self._playing:
                await self._play_round()
            await trio.sleep(_PAUSE)

    async def _play_round(self) -> None:
        members = [*self._cluster.announced.values()]
        number = next(self._numbers)
        began_at = trio.current_time()
        results = await self._cluster.call("predict", Arguments(number))
        overshoot = trio.current_time() - began_at - results.timeout
        assert [*results] == members
        self._check_answers(results, number)
        self.figures.rounds += 1
        self.figures.statuses.update(result.status.value for result in results.values())
        self.figures.worst_overshoot = max(self.figures.worst_overshoot, overshoot)
        assert overshoot <= SLACK

    def _check_answers(self, results: PredictionRound[Any], number: int) -> None:
        lives = {each.deployment_id: each.lives for each in self._truth.deployments}
        for model, result in results.succeeded.items():
            assert model.deployment_id is not None
            answer = result.unwrap()
            assert answer["life"] in lives[model.deployment_id]
            assert (answer["number"], answer["caught_up"]) == (number, True)

    # The platform

    async def _take_reports(self, reports: trio.MemoryReceiveChannel[dict[str, Any]]) -> None:
        async for report in reports:
            async with self._acting:
                address = Stage.address(report["ip"])
                code = report["failure_code"]
                await self._stage.perform(self._truth.take_report(report["model_id"], address, code))
            self.figures.reports[code] += 1

    async def _await_report(self, model_id: str) -> None:
        """Wait until a model is reported, unless it was already, and stopped."""
        await _wait_until(lambda: self._truth.newest(model_id) is None, lambda: self._describe(model_id))

    # Settling

    async def _settle(self) -> None:
        await _wait_until(self._is_as_expected, self._list_misfits)
        await self._reach_cluster()
        with trio.fail_after(PATIENT):
            while not await self._all_answer():  # noqa: ASYNC110 - as in `_wait_until`
                await trio.sleep(_POLL_INTERVAL)
        async with self._playing:
            await _wait_until(self._has_measured_ready_models, self._describe_remains)
            await _wait_until(self._keeps_no_more_than_it_needs, self._describe_remains)
        async with self._acting:
            if self._truth.orchestrator is OrchestratorState.UP:
                self._truth.note_settled()

    async def _reach_cluster(self) -> None:
        """Wait until the cluster knows what the orchestrator says, if that is there to say anything."""
        if self._truth.orchestrator is OrchestratorState.UP:
            await _wait_until(lambda: self._cluster.snapshot().orchestrator_connected, self._cluster.snapshot)

    def _has_measured_ready_models(self) -> bool:
        """Learn from the first settled moment, when all models are ready, how many tasks one of them has."""
        if not self._of_ready_model:
            per_model, rest = divmod(Remains.now().tasks - self._of_cluster, len(self._cluster.models))
            self._of_ready_model = 0 if rest else per_model
        return self._of_ready_model > 0

    def _is_as_expected(self) -> bool:
        return not self._list_misfits()

    def _list_misfits(self) -> list[str]:
        """The models that are not as they are expected to be, in words."""
        return [self._describe(model_id) for model_id in self._truth.model_ids if not self._fits(model_id)]

    def _fits(self, model_id: str) -> bool:
        expectation, deployment = self._truth.expected(model_id)
        ready = self._cluster.models.get(model_id)
        match expectation:
            case Expectation.READY:
                assert deployment is not None
                return (
                    ready is not None
                    and ready.deployment_id == deployment.deployment_id
                    and ready.host == Stage.host(deployment.address)
                )
            case Expectation.NOT_READY:
                return ready is None
            case Expectation.GONE:
                return model_id not in self._cluster.announced
            case Expectation.EITHER:
                return True

    def _describe(self, model_id: str) -> str:
        expectation, deployment = self._truth.expected(model_id)
        model = self._cluster.announced.get(model_id)
        found = (
            "not announced" if model is None else f"{model.state.value}, {model.deployment_id}: {model.error}"
        )
        wanted = "" if deployment is None else f", {deployment.deployment_id}"
        return f"{model_id} is {found}; expected {expectation.name}{wanted}"

    async def _all_answer(self) -> bool:
        """Whether all that should be ready are, and answer; each from the process that it has now."""
        expected = [self._truth.expected(model_id) for model_id in self._truth.model_ids]
        ready = {deployment.model_id: deployment.life for _, deployment in expected if deployment is not None}
        number = next(self._numbers)
        results = await self._cluster.call("predict", Arguments(number), models=[*ready], timeout=PATIENT)
        self._check_answers(results, number)
        answered = {model.model_id: result.unwrap()["life"] for model, result in results.succeeded.items()}
        return answered == ready and self._is_as_expected()

    def _keeps_no_more_than_it_needs(self) -> bool:
        """Whether there is one connection for each model that is ready, and no task that nobody needs.

        Something on its way up may have a connection already, and tasks. What is about to close may take a
        moment.
        """
        return self._has_fitting_sockets() and self._has_fitting_tasks()

    def _has_fitting_sockets(self) -> bool:
        peers = Remains.now().peers - self._before.peers
        orchestrators = peers.pop(self._stage.orchestrator_host, 0)
        if orchestrators != 1 and self._truth.orchestrator is OrchestratorState.UP:
            return False
        in_use = {Stage.host(each.address) for each in self._list_in_use()}
        ready = {model.host for model in self._cluster.models.values()}
        connecting = peers.pop("", 0) + orchestrators - 1  # until connected, a socket is nobody's
        return (
            connecting <= len(in_use - ready)
            and set(peers) <= in_use
            and ready <= set(peers)
            and set(peers.values()) <= {1}
        )

    def _has_fitting_tasks(self) -> bool:
        models = self._cluster.announced
        ready = len(self._cluster.models)
        least = self._of_cluster + self._of_ready_model * ready + (len(models) - ready)
        most = least + (self._of_ready_model + 2) * sum(map(self._may_be_busy, self._list_in_use()))
        if self._truth.orchestrator is not OrchestratorState.UP:
            least, most = least - _FEED_TASKS, most + _FEED_TASKS
        return least <= Remains.now().tasks <= most

    def _may_be_busy(self, deployment: Deployment) -> bool:
        """Whether it may have tasks for other things than being ready, or out: connecting, or being asked."""
        if deployment.certain:
            return False
        model = self._cluster.announced.get(deployment.model_id)
        is_this = model is not None and model.deployment_id == deployment.deployment_id
        return not (is_this and model is not None and model.state in _OUT)

    def _list_in_use(self) -> list[Deployment]:
        return [each for model_id in self._truth.model_ids for each in self._truth.in_use(model_id)]

    def _describe_remains(self) -> object:
        return Remains.now(), self._of_cluster, self._of_ready_model, len(self._cluster.models)


async def _catch_up(join: Join) -> None:
    (await join.model.call("catch_up", timeout=PATIENT)).unwrap()


async def _wait_until(condition: Callable[[], bool], describe: Callable[[], object]) -> None:
    with trio.move_on_after(PATIENT) as scope:
        while not condition():  # noqa: ASYNC110 - nothing could set an event
            await trio.sleep(_POLL_INTERVAL)
    assert not scope.cancelled_caught, f"still so after {PATIENT} s: {describe()}"
