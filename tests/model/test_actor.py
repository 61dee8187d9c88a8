"""Whatever happens to a model, in any order: what a cluster says of it agrees, and in the end it is ready.

Random stories are played on a virtual clock: words of the orchestrator, deaths and goodbyes of nodes, setups
that are slow, fail or hang, reports, resets, calls that are late. A second model has no part in them.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import attrs
import pytest
import trio
from helpers.coordinating import Model, coordinating, until
from helpers.insides import actor_of
from helpers.lives import ANSWERS, STATES_OF
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Arguments, Cluster, Join, ModelRunner, ModelState, Status
from trio_model_runner.model.actor import ModelActor
from trio_model_runner.model.bringing_up import BringUpError, connect
from trio_model_runner.model.lifecycle import CONNECTED, Event, Step
from trio_model_runner.model.node_connection import NodeConnection
from trio_model_runner.model.policy import Fact, outcome_of_fact
from trio_model_runner.model.steps import StepResult
from trio_model_runner.testing import Faults, LocalCrunch


@attrs.define
class Joining:
    """An `on_join` that takes so many seconds, and then may fail."""

    delay: float = 0.0
    fails: bool = False

    async def __call__(self, join: Join) -> None:
        if join.model.model_id == "a":
            await trio.sleep(self.delay)
            if self.fails:
                raise LookupError("no history")


@attrs.define
class Story:
    """A model, and whatever can happen to it.

    Attributes:
        meanwhile: what its coordinator waits for at the end.
        join: what its `on_join` does.
    """

    crunch: LocalCrunch
    cluster: Cluster
    meanwhile: trio.Nursery
    join: Joining

    async def crashes(self) -> None:
        await self.crunch.crash("a")

    async def dies(self) -> None:
        self.crunch.node("a").kill()

    async def is_started(self) -> None:
        with contextlib.suppress(RuntimeError):  # it runs
            self.crunch.node("a").restart()

    async def is_announced(self) -> None:
        self.crunch.announce("a")

    async def is_said_to_recover(self) -> None:
        self.crunch.announce("a", "RECOVERING")

    async def is_said_to_have_stopped(self) -> None:
        self.crunch.announce("a", "STOPPED")

    async def is_said_to_be_elsewhere(self) -> None:
        self.crunch.announce("a", port=self.crunch.node("b").port)

    async def is_redeployed(self) -> None:
        await self.crunch.redeploy("a", Model)

    async def loses_its_old_deployments(self) -> None:
        await self.crunch.retire("a")

    async def is_slow_to_set_up(self) -> None:
        self.faults.setup_delay = 3.0

    async def hangs_in_setup(self) -> None:
        self.faults.hang_setup = True

    async def fails_in_setup(self) -> None:
        self.faults.setup_status = ("SETUP_FAILED", "no weights")

    async def is_well_again(self) -> None:
        self.crunch.node("a").faults = Faults()

    async def accepts_and_says_nothing(self) -> None:
        self.faults.silent = True
        self.crunch.node("a").break_connections()

    async def says_goodbye(self) -> None:
        self.crunch.node("a").goaway()

    async def loses_its_connections(self) -> None:
        self.crunch.node("a").break_connections()

    async def must_prove_itself_anew(self) -> None:
        for model in self.announced():
            actor_of(model)._prove_anew("for the test")  # private: real proofs need real servers

    async def stands_still(self) -> None:
        self.crunch.node("a").pause()

    async def goes_on(self) -> None:
        self.crunch.node("a").resume()

    async def takes_long_to_join(self) -> None:
        self.join.delay = 2.0

    async def fails_to_join(self) -> None:
        self.join.fails = True

    async def joins_again(self) -> None:
        self.join.delay, self.join.fails = 0.0, False

    async def loses_its_orchestrator(self) -> None:
        self.crunch.orchestrator.kill()

    async def has_its_orchestrator_again(self) -> None:
        self.crunch.orchestrator.start()

    async def is_reported(self) -> None:
        for model in self.announced():
            await self.cluster.report_failure(model, "LOW_PERFORMANCE")

    async def is_reset(self) -> None:
        for model in self.announced():
            self.meanwhile.start_soon(partial(model.reset, timeout=5))

    async def is_late(self) -> None:
        for model in self.announced():
            self.meanwhile.start_soon(partial(model.call, "sleep", Arguments(4.0), timeout=2))

    async def is_called(self) -> None:
        for model in self.announced():
            self.meanwhile.start_soon(partial(model.call, "predict", timeout=5))

    async def has_no_instance(self) -> None:
        self.faults.call_status = ("FAILED_PRECONDITION", "no instance")
        for model in self.announced():
            self.meanwhile.start_soon(partial(model.call, "predict", timeout=5))

    @property
    def faults(self) -> Faults:
        return self.crunch.node("a").faults

    def announced(self) -> list[ModelRunner]:
        return [model for model in self.cluster.announced.values() if model.model_id == "a"]

    async def ends_well(self) -> None:
        """All faults are over, and the orchestrator says so."""
        for each in self.crunch.deployments:
            each.node.faults = Faults()
            each.node.resume()
            if each.node.busy:  # with a setup that never ends
                each.node.kill()
            with contextlib.suppress(RuntimeError):  # it runs
                each.node.restart()
        await self.joins_again()
        self.crunch.orchestrator.start()
        self.crunch.announce("a")


HAPPENINGS = (
    Story.crashes,
    Story.dies,
    Story.is_started,
    Story.is_announced,
    Story.is_said_to_recover,
    Story.is_said_to_have_stopped,
    Story.is_said_to_be_elsewhere,
    Story.is_redeployed,
    Story.loses_its_old_deployments,
    Story.is_slow_to_set_up,
    Story.hangs_in_setup,
    Story.fails_in_setup,
    Story.is_well_again,
    Story.accepts_and_says_nothing,
    Story.says_goodbye,
    Story.loses_its_connections,
    Story.must_prove_itself_anew,
    Story.stands_still,
    Story.goes_on,
    Story.takes_long_to_join,
    Story.fails_to_join,
    Story.joins_again,
    Story.loses_its_orchestrator,
    Story.has_its_orchestrator_again,
    Story.is_reported,
    Story.is_reset,
    Story.is_late,
    Story.is_called,
    Story.has_no_instance,
)
Happening = tuple[Callable[[Story], Awaitable[None]], float]

WAITS = (0.0, 0.001, 0.5, 2.0, 5.0, 20.0, 90.0)


class Watch(trio.abc.Instrument):
    """Looks at a cluster after every step of any task; what raises here would only be logged."""

    def __init__(self, cluster: Cluster) -> None:
        self.mistakes: list[str] = []
        self._cluster = cluster
        self._lost_at: dict[ModelRunner, float] = {}

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        for model in self._cluster.announced.values():
            state, connected = (
                model.state,
                actor_of(model)._steps.node is not None,
            )  # private: it shows nowhere
            if connected != (state in CONNECTED):
                self.mistakes.append(f"{model.model_id} is {state.value}, connected: {connected}")
            if not is_ready(model) or actor_of(model).ready:
                self._lost_at.pop(model, None)
            elif trio.current_time() > self._lost_at.setdefault(model, trio.current_time()):
                self.mistakes.append(f"{model.model_id} is ready, and has lost its connection before")
        called = {name: each for name, each in self._cluster.announced.items() if is_called(each)}
        if self._cluster.models != called:
            self.mistakes.append(f"{self._cluster.models}, and called are {called}")


def is_ready(model: ModelRunner) -> bool:
    return model.state is ModelState.READY


def is_called(model: ModelRunner) -> bool:
    """Whether a model is in rounds: it is ready, or its calls wait for the next connection."""
    return is_ready(model) or model.state is ModelState.REPLACING


async def check_agreement(cluster: Cluster) -> None:
    """What a cluster says in several ways is the same, once nothing is left to be noticed."""
    await wait_all_tasks_blocked()
    announced, called = cluster.announced, cluster.models
    assert called == {name: model for name, model in announced.items() if is_called(model)}
    assert cluster.snapshot().models == Counter(model.state.value for model in announced.values())
    for model in called.values():
        assert (actor_of(model).usable(joining=False) is not None) == is_ready(model)
        assert model.error is None or not is_ready(model)
    assert await comes_back_at_once(cluster.wait_for_models, len(called))
    assert not await comes_back_at_once(cluster.wait_for_models, len(called) + 1)


async def comes_back_at_once(wait: Callable[[int], Awaitable[None]], count: int) -> bool:
    came_back = trio.Event()

    async def wait_and_tell() -> None:
        await wait(count)
        came_back.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_and_tell)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return came_back.is_set()


async def play(happenings: list[Happening]) -> None:
    join = Joining()
    async with coordinating({"a": Model, "b": Model}, on_join=join) as (crunch, cluster):
        watch = Watch(cluster)
        trio.lowlevel.add_instrument(watch)
        async with trio.open_nursery() as meanwhile:
            story = Story(crunch, cluster, meanwhile, join)
            for happen, wait in happenings:
                await happen(story)
                await trio.sleep(wait)
                await check_agreement(cluster)
            await story.ends_well()
        await trio.sleep(10)  # a goodbye may have been on its way
        with trio.fail_after(600):
            await cluster.wait_for_models(2)
        await check_agreement(cluster)
        while (results := await cluster.call("predict")).skipped:  # it sits out what it was late for
            pass
        assert {result.status for result in results.values()} == {Status.SUCCESS}
        assert watch.mistakes == []


class SaysAWord(trio.abc.Instrument):
    """Says a word to a model after so many steps of any tasks."""

    def __init__(self, word: Callable[[ModelActor], object], actor: ModelActor, steps: int) -> None:
        self.left = steps
        self._say = partial(word, actor)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self._say()


WORDS: dict[str, Callable[[ModelActor], object]] = {
    "recover": lambda actor: actor.recover(),
    "move": lambda actor: actor.move(actor.host, actor.port),
    "stop": lambda actor: actor.stop(),
    "prove anew": lambda actor: actor._prove_anew("for the test"),
}


@pytest.mark.parametrize("word", WORDS)
async def test_a_word_may_come_after_any_step(autojump_clock: MockClock, word: str) -> None:
    for count in itertools.count(1):
        async with coordinating({"a": Model}, on_join=Joining(), startup_timeout=0) as (_, cluster):
            watch, actor = Watch(cluster), actor_of(cluster.announced["a"])
            trio.lowlevel.add_instrument(watch)
            speaker = SaysAWord(WORDS[word], actor, count)
            trio.lowlevel.add_instrument(speaker)
            await wait_all_tasks_blocked()
            if speaker.left > 0:
                break
            await check_agreement(cluster)
            if actor.state is not ModelState.GONE:
                actor.revive()
                with trio.fail_after(600):
                    await cluster.wait_for_models()
            await check_agreement(cluster)
            assert watch.mistakes == []
            assert actor._steps.node is None or actor.ready
    assert count > 10


async def test_a_node_that_drops_each_connection_once_it_is_set_up_is_given_up(
    autojump_clock: MockClock,
) -> None:
    """No call succeeded on any of these connections, so each of them was a failed attempt."""
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster):
        model, times = cluster.models["a"], list[float]()
        while model.state is ModelState.READY and len(times) < 10:
            times.append(trio.current_time())
            crunch.node("a").break_connections()
            await until(cluster, lambda: model.state is not ModelState.READY)
            await until(cluster, lambda: model.state in (ModelState.READY, ModelState.FAILED))
        assert [round(after - before) for before, after in itertools.pairwise(times)] == [2, 4, 8, 16]
        assert model.state is ModelState.FAILED


async def test_who_is_announced_again_while_it_is_tried_once_more_is_not_reported(
    autojump_clock: MockClock,
) -> None:
    """That attempt would be the last proof, and began before its node was mended."""
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster):
        model, node = cluster.models["a"], crunch.node("a")
        node.faults = Faults(silent=True)
        node.break_connections()
        await until(cluster, lambda: model.state is ModelState.FAILED)
        await trio.sleep(60 + 5)  # the report has waited; an attempt takes 10 s
        assert model.state is ModelState.CONNECTING
        assert cluster.snapshot().reports_pending == 1
        node.faults = Faults()
        crunch.announce("a")
        with trio.fail_after(60):
            await cluster.wait_for_models(2)
        crunch.assert_no_reports()


async def test_a_node_that_never_proves_itself_fails_once_more_and_is_reported(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # private: real proofs need real servers, and real time
    async def connect_to(nursery: trio.Nursery, model: ModelRunner, *others: Any) -> NodeConnection:
        if model.model_id == "a":
            raise BringUpError(outcome_of_fact(Fact.PROOF_UNANSWERED), "the health check was not answered")
        return await connect(nursery, model, *others)

    async with coordinating(dict.fromkeys("abcdefgh", Model)) as (crunch, cluster):
        monkeypatch.setattr("trio_model_runner.model.steps.connect", connect_to)
        crunch.node("a").break_connections()
        await trio.sleep(59)
        assert crunch.orchestrator.reports == []
        await trio.sleep(60)
        assert [report["failure_code"] for report in crunch.orchestrator.reports] == ["CONNECTION_FAILED"]
        assert len(cluster.models) == 7


async def test_proofs_that_lapse_again_and_again_do_not_keep_this_process_busy(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call waits for a connection that is proved. After three at once, there are two in two seconds."""
    made: list[float] = []

    async def connect_and_note(nursery: trio.Nursery, model: ModelRunner, *others: Any) -> NodeConnection:
        made.append(trio.current_time())
        return await connect(nursery, model, *others)

    async with coordinating({"a": Model}) as (_, cluster):
        began = trio.current_time()
        monkeypatch.setattr("trio_model_runner.model.steps.connect", connect_and_note)
        lapsed = property(lambda node: node._model.state is ModelState.READY)
        monkeypatch.setattr(NodeConnection, "must_prove", lapsed)
        result = (await cluster.call("predict", timeout=5)).by_id["a"]
        assert (result.status, result.sent) == (Status.TIMEOUT, False)
        assert [round(time - began) for time in made] == [0, 0, 0, 2, 2, 4, 4]
        monkeypatch.setattr(NodeConnection, "must_prove", False)
        with trio.fail_after(60):
            await cluster.wait_for_models()
        assert (await cluster.call("predict")).by_id["a"].unwrap() == 1.5


StepsTaken = set[tuple[ModelState, Step, Event]]


@pytest.fixture(scope="module")
def steps_taken() -> Iterator[StepsTaken]:
    """The steps that actors took to their end, in which state, and what came of each."""
    taken: StepsTaken = set()
    event_of = ModelActor._event_of  # private: what comes of each step is told to nobody

    def remember(actor: ModelActor, result: StepResult) -> Event:
        state, step = actor.state, actor._life.step
        event = event_of(actor, result)
        taken.add((state, step, event))
        return event

    with patch.object(ModelActor, "_event_of", remember):
        yield taken


REPAIRED_WHILE_IT_IS_TRIED_ONCE_MORE: list[Happening] = [
    (Story.accepts_and_says_nothing, 0.0),
    (Story.stands_still, 90.0),
    (Story.goes_on, 20.0),
    (Story.is_started, 20.0),
]


@settings(max_examples=100)
@example(REPAIRED_WHILE_IT_IS_TRIED_ONCE_MORE)
@given(st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.sampled_from(WAITS)), max_size=25))
def test_whatever_happens_all_agree_and_it_is_ready_in_the_end(
    steps_taken: StepsTaken,
    happenings: list[Happening],
) -> None:
    trio.run(play, happenings, clock=MockClock(autojump_threshold=0))


async def test_each_step_ends_as_it_can(steps_taken: StepsTaken, autojump_clock: MockClock) -> None:
    """What the tests of the table take for granted is so, in all these stories and in one more."""
    await play([(Story.is_called, 1.0), (Story.says_goodbye, 1.0), (Story.is_redeployed, 1.0)])
    assert {
        Event.CONNECTED,
        Event.MUST_JOIN,
        Event.JOINED,
        Event.RETIRED_IN_PEACE,
        Event.SET_UP,
        Event.DRAINED,
    } <= {event for *_, event in steps_taken}
    for state, step, event in steps_taken:
        assert state in STATES_OF[step]
        assert event in ANSWERS[step]
