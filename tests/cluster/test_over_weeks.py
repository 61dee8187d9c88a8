"""What happens to a fleet over hours, days and weeks, on a clock that jumps."""

from __future__ import annotations

import gc
import itertools
import logging
import math
import random
import weakref
from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating, until
from helpers.insides import actor_of, timeouts_of
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Arguments, ChangeKind, Cluster, ModelRunner, ModelState, Status
from trio_model_runner.config import Backoff, Health, OrchestratorConfig
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.rpc.connection import Connection
from trio_model_runner.testing import LocalCrunch

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
MODELS = [*"abcdef"]
SELDOM = OrchestratorConfig(ping_interval=2 * DAY, resync_interval=HOUR)
"""Nobody has the time to watch thousands of pings of a connection that works, and of lists without news."""


class TimedNetwork(MemoryNetwork):
    """Writes down who was connected to and when, refused or not."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts: list[tuple[int, float]] = []

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        self.attempts.append((port, trio.current_time()))
        return await super().connect(host, port)


def connections(cluster: Cluster) -> dict[str, Connection]:
    # Private: that the very same connections are kept shows in no other way.
    nodes = {model_id: actor_of(model)._steps.node for model_id, model in cluster.models.items()}
    return {model_id: node.connection for model_id, node in nodes.items() if node is not None}


async def all_answer(cluster: Cluster) -> None:
    results = await cluster.call("predict")
    assert {model.model_id: result.status for model, result in results.items()} == dict.fromkeys(
        cluster.announced, Status.SUCCESS
    )


async def test_an_orchestrator_away_for_hours_comes_back_with_another_fleet(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinating(dict.fromkeys(MODELS, Model)) as (crunch, cluster):
        before, kept = dict(cluster.models), connections(cluster)
        crunch.orchestrator.kill()
        for _ in range(36):
            await trio.sleep(10 * MINUTE)
            await all_answer(cluster)
        assert not cluster.snapshot().orchestrator_connected
        assert len([record for record in caplog.records if "no connection" in record.message]) == 2
        await crunch.remove("b")
        await crunch.redeploy("c", Model)
        await crunch.crash("d")
        await crunch.recover("d")
        await crunch.add("g", Model)
        crunch.orchestrator.start()
        await until(cluster, lambda: "b" not in cluster.announced)
        await until(
            cluster, lambda: set(cluster.models) == set("acdefg") and cluster.models["c"] is not before["c"]
        )
        await all_answer(cluster)
        assert cluster.snapshot().orchestrator_connected
        for model_id in "aef":
            assert cluster.models[model_id] is before[model_id]
            assert connections(cluster)[model_id] is kept[model_id]
        assert crunch.reports == []


async def test_a_silent_orchestrator_is_found_out_and_taken_back(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model}) as (crunch, cluster):
        settings = cluster.config.orchestrator
        crunch.orchestrator.pause()
        await trio.sleep(settings.ping_interval + settings.pong_timeout + 1)
        assert not cluster.snapshot().orchestrator_connected
        await trio.sleep(HOUR)
        await crunch.add("b", Model)
        crunch.orchestrator.resume()
        await cluster.wait_for_models(2)
        await all_answer(cluster)


async def flap(crunch: LocalCrunch, model_id: str, chance: random.Random) -> None:
    """One of the things that happen to a model, with all that is said of it, until it is up again."""
    node = crunch.node(model_id)
    match chance.randrange(4):
        case 0:  # it crashes, and comes back where it was
            await crunch.crash(model_id)
            await trio.sleep(chance.uniform(0, 2 * HOUR))
            await crunch.recover(model_id, Model)
        case 1:  # its process dies, and nobody says so
            node.kill()
            await trio.sleep(chance.uniform(0, 25))
            node.restart(Model)
        case 2:  # it is deployed anew, on another port
            await crunch.redeploy(model_id, Model)
            await trio.sleep(chance.uniform(0, HOUR))
            await crunch.retire(model_id)
        case 3:  # it is gone for a while
            await crunch.remove(model_id)
            await trio.sleep(chance.uniform(0, HOUR))
            await crunch.add(model_id, Model)


async def test_a_model_that_flaps_for_weeks_is_there_whenever_it_is_up(autojump_clock: MockClock) -> None:
    chance = random.Random(1)
    seen: weakref.WeakSet[ModelRunner] = weakref.WeakSet()
    async with coordinating(dict.fromkeys(MODELS, Model), orchestrator=SELDOM) as (crunch, cluster):
        await all_answer(cluster)
        tasks = trio.lowlevel.current_statistics().tasks_living
        deployed = 0
        while trio.current_time() < 14 * DAY:
            await flap(crunch, "a", chance)
            await trio.sleep(MINUTE)
            await all_answer(cluster)
            seen.add(cluster.models["a"])
            deployed += 1
            await trio.sleep(chance.uniform(0, 4 * HOUR))
        assert deployed > 50
        assert crunch.reports == []
        await trio.sleep(MINUTE)
        # Nothing grows but what remembers replaced deployments, which has a limit of its own.
        gc.collect()
        assert len(seen) <= 5
        # Private: what grows without end would show only after years.
        fleet, judge = cluster._fleet, cluster._fleet.judge
        assert set(fleet._living) == set(cluster.models.values())
        assert len(fleet._membership._replaced) <= deployed
        assert {record.key for record in judge.records} == fleet._living.keys()
        assert list(judge.reports) == judge.setups.waiting == []
        assert len(judge.forms) == 1
        assert {len(record.standings) for record in judge.records} == {2}  # `predict`, and Setup
        assert cluster._feed.pending_reports == 0
        assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_calls_are_sat_out_as_the_rule_says_however_long_it_goes_on(autojump_clock: MockClock) -> None:
    """Half as many calls of a method as it had timeouts, for at most a minute; and no other method's."""
    chance = random.Random(2)
    settings: dict[str, Any] = {
        "max_consecutive_timeouts": "off",
        "max_consecutive_failures": "off",
        "health": Health(require_witness=False),
        "orchestrator": SELDOM,
    }
    async with coordinating({"a": Model()}, **settings) as (_, cluster):
        timeouts = sits_out = longest = over_by_time = 0
        sits_out_until = -math.inf
        for _ in range(3000):
            await trio.sleep(chance.choices([1.5, 20.0, 70.0], [50, 5, 1])[0])
            if abs(trio.current_time() - sits_out_until) < 0.5:  # it is not known that exactly
                await trio.sleep(1)
            if sits_out and trio.current_time() > sits_out_until:
                sits_out, over_by_time = 0, over_by_time + 1
            kind, seconds = chance.choices(
                [("predict", 0.0), ("fail", 0.0), ("sleep", 0.0), ("sleep", 2.0)], [1, 1, 1, 30]
            )[0]
            if kind == "sleep" and sits_out:
                expected, sits_out = Status.SKIPPED, sits_out - 1
            elif kind == "sleep" and seconds:
                timeouts += 1
                expected, sits_out = Status.TIMEOUT, math.ceil(timeouts / 2)
                sits_out_until = trio.current_time() + seconds + cluster.config.health.mass_window
            elif kind == "sleep":
                expected, timeouts = Status.SUCCESS, 0
            else:
                expected = Status.FAILED if kind == "fail" else Status.SUCCESS
            longest = max(longest, sits_out)
            arguments = Arguments(seconds) if kind == "sleep" else Arguments()
            result = (await cluster.call(kind, arguments, timeout=1)).by_id["a"]
            await wait_all_tasks_blocked()  # the node is asked for a sign of life
            assert (result.status, timeouts_of(cluster.models["a"])) == (expected, timeouts)
        assert longest > 5
        assert over_by_time > 5


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff(), [2, 4, 8, 16]),
        (Backoff(attempts=7), [2, 4, 8, 16, 16, 16]),
        (Backoff(attempts=4, initial=1, factor=3, maximum=100), [1, 3, 9]),
        (Backoff(attempts=1), []),
    ],
)
async def test_attempts_come_exactly_as_configured(
    autojump_clock: MockClock, backoff: Backoff, waits: list[float]
) -> None:
    network = TimedNetwork()
    models = dict.fromkeys(MODELS, Model)
    async with LocalCrunch(models, network=network) as crunch:  # noqa: SIM117 - one line would be too long
        async with Cluster(crunch.config(backoff=backoff, orchestrator=SELDOM), SERVICE) as cluster:
            await trio.sleep(DAY)
            network.attempts.clear()
            crunch.node("a").kill()
            await until(cluster, lambda: cluster.announced["a"].state is ModelState.FAILED)
            failed_at = trio.current_time()
            (report,) = await crunch.wait_for_reports()
            assert report["failure_code"] == "CONNECTION_FAILED"
            assert trio.current_time() == pytest.approx(failed_at + cluster.config.health.mass_window)
            times = [at for port, at in network.attempts if port == crunch.node("a").port]
            window, longest = cluster.config.health.mass_window, backoff.maximum
            # It is tried again while the report waits, and once more before it is sent.
            waits = [*waits, *[longest] * int(window // longest), window % longest]
            assert [later - earlier for earlier, later in itertools.pairwise(times)] == (pytest.approx(waits))
            assert times[0] == pytest.approx(DAY)
            assert failed_at == pytest.approx(times[-1] - window)
            await trio.sleep(DAY)  # it was reported, and nobody has announced it again
            to_nodes = [at for port, at in network.attempts if port != crunch.orchestrator.port]
            assert len(to_nodes) == len(waits) + 1


async def test_a_setup_may_take_all_its_time_and_no_longer(autojump_clock: MockClock) -> None:
    """One that takes longer has timed out, and the model is taken as soon as its node is through with it."""
    async with LocalCrunch(dict.fromkeys(MODELS, Model), network=MemoryNetwork()) as crunch:
        crunch.node("a").faults.setup_delay = 119
        crunch.node("b").faults.setup_delay = 131
        async with Cluster(crunch.config(startup_timeout=0, orchestrator=SELDOM), SERVICE) as cluster:
            a, b = (cluster.announced[each] for each in "ab")
            await trio.sleep(119.5)
            assert [a.state, b.state] == [ModelState.READY, ModelState.SETTING_UP]
            assert timeouts_of(b) == 0
            crunch.node("b").faults.setup_delay = 0  # the one that is under way takes its time all the same
            await trio.sleep(1)
            assert (timeouts_of(a), timeouts_of(b)) == (0, 1)
            assert (await cluster.call("predict")).by_id["b"].status is Status.ABSENT
            await trio.sleep(10)
            assert b.to_dict()["state"] == "setting up"
            await trio.sleep(2)
            assert "b" in cluster.models
            assert timeouts_of(b) == 0
            await all_answer(cluster)
            await trio.sleep(DAY)
            assert crunch.reports == []


@pytest.mark.parametrize("late", [False, True])
async def test_a_setup_that_never_ends_is_reported(autojump_clock: MockClock, late: bool) -> None:
    models = dict.fromkeys(MODELS, Model)
    async with coordinating(models, startup_timeout=0, orchestrator=SELDOM) as (crunch, cluster):
        if late:
            await cluster.wait_for_models(len(MODELS))
            await trio.sleep(HOUR)
        node = await crunch.add("g", Model, announce=False)
        node.faults.hang_setup = True
        begin = trio.current_time()
        crunch.announce("g")
        while not crunch.reports and trio.current_time() < begin + 15 * MINUTE:
            await cluster.call("predict")
            await trio.sleep(10)
        (report,) = crunch.reports
        assert (report["model_id"], report["failure_code"]) == ("g", "MULTIPLE_TIMEOUT")
        # Four times the time that a Setup may take, and the wait.
        assert trio.current_time() - begin == pytest.approx(4 * 120 + 60, abs=60)
        node.faults.hang_setup = False
        node.kill()
        node.restart()
        await trio.sleep(DAY)
        assert cluster.announced["g"].state is ModelState.FAILED
        crunch.announce("g")
        await until(cluster, lambda: "g" in cluster.models)
        await all_answer(cluster)
        assert len(crunch.reports) == 1


async def test_idle_days_cost_no_connection(autojump_clock: MockClock) -> None:
    async with coordinating(dict.fromkeys(MODELS, Model), orchestrator=SELDOM) as (_, cluster):
        kept = connections(cluster)
        for _ in range(3):
            await trio.sleep(3 * DAY + MINUTE)  # not just when somebody looks for silence
            # Private: nodes don't tell how many PINGs they got.
            assert {connection._keepalive.pings_sent for connection in kept.values()} == {0}
            await all_answer(cluster)
        assert connections(cluster) == kept


async def test_nodes_bear_our_pings_for_a_day(autojump_clock: MockClock) -> None:
    """One call goes on for hours; another model overruns all its deadlines; a third one's vary."""
    chance = random.Random(3)
    settings: dict[str, Any] = {
        "max_consecutive_timeouts": "off",
        "timeout": math.inf,
        "orchestrator": SELDOM,
    }
    async with coordinating({"a": Model, "b": Model, "c": Model}, **settings) as (_, cluster):
        kept = connections(cluster)

        overruns = dict.fromkeys("bc", 0)

        async def overrun(model_id: str, deadlines: list[float]) -> None:
            model = cluster.models[model_id]
            while trio.current_time() < DAY:
                timeout = chance.choice(deadlines)
                result = await model.call("sleep", Arguments(timeout + 1), timeout=timeout)
                assert result.status is Status.TIMEOUT
                overruns[model_id] += 1
                await trio.sleep(chance.uniform(2, 600))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(overrun, "b", [1.0])
            nursery.start_soon(overrun, "c", [1.0, 30.0, 400.0, 2000.0])
            result = await cluster.models["a"].call("sleep", Arguments(DAY))
            assert result.value == "awake"
        # Private: as above.
        sent = {model_id: connection._keepalive.pings_sent for model_id, connection in kept.items()}
        assert sent["a"] == DAY // 300
        # The model is at it for another second, and the gap between two questions grows with the overrun.
        assert overruns["b"] > 250
        assert sent["b"] <= (math.log(2, 1.05) + 2) * overruns["b"]
        assert overruns["c"] < sent["c"] < sent["b"]
        assert connections(cluster) == kept


async def test_an_outage_of_an_hour_is_nobodys_fault_and_ends_by_itself(autojump_clock: MockClock) -> None:
    async with coordinating(dict.fromkeys(MODELS, Model)) as (crunch, cluster):
        await trio.sleep(HOUR)
        async with cluster.changes() as changes:
            for model_id in MODELS:
                crunch.node(model_id).kill()
            await trio.sleep(HOUR)
            assert not cluster.models
            assert cluster.snapshot().reports_held >= len(MODELS)
            held = set()
            while len(held) < len(MODELS):
                change = await changes.__anext__()
                if change.kind is ChangeKind.HELD:
                    assert "CONNECTION_FAILED is not reported" in str(change.error)
                    held.add(change.model)
        for model_id in MODELS:
            crunch.node(model_id).restart()
        await trio.sleep(7 * MINUTE)  # by now, they are tried every 5 minutes, more or less
        await all_answer(cluster)
        await trio.sleep(HOUR)
        assert crunch.reports == []
        crunch.node("a").kill()  # this one alone is another matter
        with trio.fail_after(HOUR):
            (report,) = await crunch.wait_for_reports()
        assert (report["model_id"], report["failure_code"]) == ("a", "CONNECTION_FAILED")


async def test_who_stays_away_after_an_outage_is_reported(autojump_clock: MockClock) -> None:
    async with coordinating(dict.fromkeys(MODELS, Model), orchestrator=SELDOM) as (crunch, cluster):
        for model_id in MODELS:
            crunch.node(model_id).kill()
        await trio.sleep(HOUR)
        for model_id in MODELS[1:]:
            crunch.node(model_id).restart()
        with trio.fail_after(HOUR):
            (report,) = await crunch.wait_for_reports()
        assert (report["model_id"], report["failure_code"]) == ("a", "CONNECTION_FAILED")
        await trio.sleep(DAY)
        assert set(cluster.models) == set(MODELS[1:])
        assert len(crunch.reports) == 1


async def test_reports_for_an_orchestrator_that_is_away_do_not_pile_up(autojump_clock: MockClock) -> None:
    async with coordinating(dict.fromkeys(MODELS, Model), orchestrator=SELDOM) as (crunch, cluster):
        models = list(cluster.models.values())
        crunch.orchestrator.kill()
        for hour in range(20):
            await trio.sleep(HOUR)
            for model in models[:3]:
                await cluster.report_failure(model, "LOW_PERFORMANCE", f"hour {hour}")
        assert cluster.snapshot().reports_unsent == 3
        crunch.orchestrator.start()
        await crunch.wait_for_reports(3)
        await trio.sleep(DAY)
        assert [report["failure_reason"] for report in crunch.reports] == ["hour 19"] * 3


async def test_a_typo_in_every_round_of_a_week_is_remembered_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with coordinating(dict.fromkeys(MODELS, Model), orchestrator=SELDOM) as (crunch, cluster):
        while trio.current_time() < 7 * DAY:
            assert len((await cluster.call("prdict")).failed) == len(MODELS)
            await trio.sleep(HOUR)
        assert cluster.snapshot().reports_pending == len(MODELS)
        # Private: what is remembered of a typo shows only in memory.
        assert len(cluster._fleet.reporting._unproved) == len(caplog.records) == 1
        assert crunch.reports == []
