"""What happens that is told in the log alone, and what becomes of models then; see `causing_events`."""

from __future__ import annotations

import time
from typing import Any

import trio

from helpers.causing_events import Events, Said, enter, until_failed
from helpers.coordinating import SERVICE, Model, coordinating, until
from trio_model_runner import Cluster
from trio_model_runner.config import OrchestratorConfig
from trio_model_runner.instruments import Instrument, RoundRecorder, StatusSocket
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch

__all__ = ["LOG_LINES"]

LOG_LINES = Events()


@LOG_LINES.cause("on_join took longer than … s (on_join_timeout)", "on_join raised, so model … stays out")
async def slow_on_join(said: Said) -> None:
    async def on_join(join: object) -> None:
        await trio.sleep_forever()

    async with coordinating({"a": Model()}, on_join=on_join, on_join_timeout=2.0) as (_, cluster):
        await until_failed(cluster)
        said.errors(cluster)


@LOG_LINES.cause(
    "connected to the orchestrator, which lists … deployments",
    "the orchestrator is away: …",
    "no connection to the orchestrator: …; the next attempt is in … s",
)
async def orchestrator_away(said: Said) -> None:
    async with coordinating({"a": Model()}) as (crunch, _):
        crunch.orchestrator.kill()
        await trio.sleep(30.0)


@LOG_LINES.cause("lost: … (the first: …)")
async def connections_lost(said: Said) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (crunch, _):
        crunch.node("a").break_connections()
        crunch.node("b").break_connections()
        await trio.sleep(5.0)


@LOG_LINES.cause(
    "no other model has succeeded with … and such arguments, so nobody is blamed; …",
    "as many models lack … as have shown that they have it, or more, so nobody is blamed; …",
)
async def our_own_mistakes(said: Said) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (_, cluster):
        for _ in range(5):
            await cluster.call("fail")
            await cluster.call("predikt")


@LOG_LINES.cause("orchestrator.max_models is …: models beyond that are left out: …")
async def too_many_models(said: Said) -> None:
    async with coordinating({"a": Model(), "b": Model()}, orchestrator=OrchestratorConfig(max_models=1)):
        pass


@LOG_LINES.cause(
    "model … may be reported: …",
    "model … is reported: …",
    "reported as …: …",
)
async def reported(said: Said) -> None:
    async with coordinating({"good": Model(), "bad": Model()}) as (crunch, cluster):
        crunch.node("bad").faults.call_status = ("MODEL_FAILED", "no feathers")
        for _ in range(5):
            await cluster.call("predict")
        await crunch.wait_for_report("bad")
        said.errors(cluster)


@LOG_LINES.cause("model … would be reported, but …: …", "reporting is off (report_failures)")
async def reporting_off(said: Said) -> None:
    models = {"good": Model(), "bad": Model()}
    async with coordinating(models, report_failures=False) as (crunch, cluster):
        crunch.node("bad").faults.call_status = ("MODEL_FAILED", "no feathers")
        for _ in range(5):
            await cluster.call("predict")
        await trio.sleep(100.0)


@LOG_LINES.cause("model … is not reported after all: …")
async def withdrawn(said: Said) -> None:
    async with coordinating({"good": Model(), "bad": Model()}) as (crunch, cluster):
        crunch.node("bad").faults.call_status = ("MODEL_FAILED", "no feathers")
        for _ in range(4):
            await cluster.call("predict")
        crunch.node("bad").faults.call_status = None
        await cluster.call("predict")


@LOG_LINES.cause(
    "not reported, since too many have trouble at the same time; it may be us, or the network: …",
)
async def held(said: Said) -> None:
    async with coordinating({name: Model() for name in "abcd"}) as (crunch, cluster):
        for name in "abc":
            crunch.node(name).faults.call_status = ("MODEL_FAILED", "no feathers")
        for _ in range(5):
            await cluster.call("predict")
        await trio.sleep(200.0)


@LOG_LINES.cause("model … is not reported as …: this deployment has left")
async def report_too_late(said: Said) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        (model,) = cluster.models.values()
        await crunch.remove("a")
        await until(cluster, lambda: not cluster.announced)
        await cluster.report_failure(model, "LOW_PERFORMANCE")


class Raising(Instrument):
    """Raises, and is slow."""

    def round_ended(self, token: Any, round: Any) -> None:  # noqa: A002
        raise LookupError("no pager")

    def round_started(self, start: Any) -> None:
        time.sleep(0.06)


@LOG_LINES.cause(
    "instruments: this … listens to another cluster; make one for each",
    "instrument …: … raised; more of this is not logged",
    "instrument …: … took … ms (… ms of processor time), in which all else waited; …",
    "another recorder writes this file",
    "another process listens at …",
)
async def instruments(said: Said) -> None:
    record, socket = said.directory / "rounds.jsonl", said.directory / "status.sock"
    recorder = RoundRecorder(record)
    async with LocalCrunch({"a": Model()}, network=MemoryNetwork()) as crunch:
        first = [recorder, StatusSocket(socket), Raising()]
        async with Cluster(crunch.config(), SERVICE, instruments=first) as cluster:
            await cluster.call("predict")
            for second in (recorder, RoundRecorder(record), StatusSocket(socket)):
                other = Cluster(crunch.config(), SERVICE, instruments=[second])
                await said.raised(enter(other))
