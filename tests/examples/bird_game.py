"""The bird game: models that keep a history follow a dove, and say where it will be next.

Run it against an orchestrator, with a file of settings, or with the environment alone::

    python tests/examples/bird_game.py rounds.jsonl config.toml
    TRIO_MODEL_RUNNER_CRUNCH_ID=bird-game TRIO_MODEL_RUNNER_HOST=orchestrator.example.org \
        python tests/examples/bird_game.py rounds.jsonl

With ``--shards 2`` two processes call the models, and nothing else changes; see ``sharding/README.md``.

Rounds are recorded in the first file, of which ``trio-model-runner timeline rounds.jsonl`` makes a picture.

SIGTERM ends it: it lets the round that is under way end, for five seconds at most. While the cluster is still
coming up there is no round, and it ends at once.

`History` is the part to take home: every instance of a model is told every payload, in order, one in a call,
and none of them twice, though models come late, crash, lose their instance and are too busy to be called.
"""

from __future__ import annotations

import argparse
import logging
import random
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import attrs
import trio

from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterConfig,
    ClusterDraining,
    DynamicSubclassService,
    Join,
    ModelRunner,
    Status,
)
from trio_model_runner.instruments import RoundRecorder
from trio_model_runner.sharding import ShardedCluster
from trio_model_runner.values.results import Model

SERVICE = DynamicSubclassService("birdgame.trackers.trackerbase.TrackerBase")
DRAIN_SECONDS = 5.0
SECONDS_BETWEEN_PAYLOADS = 1.0

Payloads = AsyncGenerator[Mapping[str, Any], None]

logger = logging.getLogger("bird_game")


class History:
    """What happened in the game, and how much of it each deployment of a model was told."""

    def __init__(self) -> None:
        self._payloads: list[Arguments] = []
        self._told: dict[tuple[str, str | None], int] = {}

    async def on_join(self, join: Join) -> None:
        """Tell a model what it lacks before it takes part in rounds, and what happens meanwhile, too.

        No other task runs between the end of this function and the moment in which the model is ready.
        """
        key = _deployment(join.model)
        if join.fresh:  # its instance is new, and knows nothing
            self._told[key] = 0
        while (told := self._told.setdefault(key, 0)) < len(self._payloads):
            self._told[key] = told + 1  # before the call: if this is cancelled, it must not be sent again
            result = await join.model.call("tick", self._payloads[told], sit_out=False)
            if not result.sent:  # then it certainly did not arrive
                self._told[key] = told
                result.unwrap()  # raises, so the model stays out

    async def tick(self, cluster: Cluster, payload: Mapping[str, Any]) -> None:
        """Tell all models a payload, and those that lack more the older ones before.

        It is in the history before anybody is called, and no other task runs in between. So a model that
        joins just now is told it here or by `on_join`, and never by both.
        """
        self._payloads.append(Arguments(payload, performance_metrics={}))
        models: list[Model] = [*cluster.models.values()]
        while models:
            async with cluster.as_completed("tick", self._next, models=models, sit_out=False) as results:
                models = []
                async for result in results:  # at once: a model may have lost its instance, and join soon
                    self._told[_deployment(result.model)] += result.sent
                    if result.status is Status.SUCCESS and self._is_behind(result.model):
                        models.append(result.model)

    def up_to_date(self, cluster: Cluster) -> list[ModelRunner]:
        """The models that lack nothing: whom to ask for a prediction."""
        return [model for model in cluster.models.values() if not self._is_behind(model)]

    def _next(self, model: Model) -> Arguments:
        """What a model is told next; it is asked for anew when the model was set up anew meanwhile."""
        return self._payloads[self._told[_deployment(model)]]

    def _is_behind(self, model: Model) -> bool:
        return self._told[_deployment(model)] < len(self._payloads)


def _deployment(model: Model) -> tuple[str, str | None]:
    return model.model_id, model.deployment_id


@attrs.frozen
class Parameters:
    """Of a distribution: where it is, and how wide."""

    loc: float
    scale: float


@attrs.frozen
class Distribution:
    """Such as a normal one."""

    name: str
    params: Parameters


@attrs.frozen
class Component:
    """A part of a model's answer: a distribution and its weight. Whatever is no such answer is FAILED."""

    density: Distribution
    weight: float


class Game:
    """A game, and how far off each model has been.

    Attributes:
        history: what has happened.
        errors: how far each model's predictions have been from the dove, on average.
    """

    def __init__(self) -> None:
        self.history = History()
        self.errors: dict[str, float] = {}
        self._rounds: dict[str, int] = {}
        self._expected: dict[str, float] = {}

    async def play(self, cluster: Cluster, payloads: Payloads) -> None:
        """Play rounds until the payloads end, or the cluster takes no more calls."""
        with suppress(ClusterDraining):
            async with aclosing(payloads):
                async for payload in payloads:
                    self._score(payload["dove_location"])
                    await self.history.tick(cluster, payload)
                    models = self.history.up_to_date(cluster)
                    results = await cluster.call("predict", models=models, returns=list[Component])
                    logger.info("%s", results)  # a line with how many have answered
                    self._expected = {
                        model.model_id: _mean(result.unwrap()) for model, result in results.succeeded.items()
                    }

    def _score(self, location: float) -> None:
        for model_id, expected in self._expected.items():
            rounds = self._rounds[model_id] = self._rounds.get(model_id, 0) + 1
            mean = self.errors.get(model_id, 0.0)
            self.errors[model_id] = mean + (abs(location - expected) - mean) / rounds


def _mean(components: list[Component]) -> float:
    total = sum(each.weight for each in components)
    return sum(each.weight * each.density.params.loc for each in components) / total if total else 0.0


async def fly() -> Payloads:
    """What the falcons see of a dove, once a second."""
    location, time = random.uniform(10.0, 30.0), 0.0
    while True:
        yield {
            "falcon_location": location + random.gauss(0.0, 2.0),
            "falcon_id": 1,
            "dove_location": location,
            "dove_id": 1,
            "time": time,
        }
        await trio.sleep(SECONDS_BETWEEN_PAYLOADS)
        location, time = location + random.gauss(0.0, 0.3), time + SECONDS_BETWEEN_PAYLOADS


class Stop:
    """Ends the program at SIGTERM.

    The signal is listened to before the cluster is entered, which can take a minute: Python's own way with
    SIGTERM is to end the process on the spot, so that no model and no orchestrator is told.

    Attributes:
        cluster: the cluster, once it was entered.
    """

    cluster: Cluster | None = None

    async def at_signal(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """Wait for the signal, let rounds end, and cancel the scope."""
        await anext(signals)
        logger.info("stopping")
        if self.cluster is not None:
            await self.cluster.drain(DRAIN_SECONDS)
        scope.cancel()


async def main(
    config: ClusterConfig,
    record: str,
    game: Game,
    payloads: Payloads,
    make_cluster: Callable[..., Cluster] = Cluster,
) -> None:
    """Play until the payloads end, or SIGTERM comes."""
    instruments = [RoundRecorder(record)]
    stop = Stop()
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop.at_signal, signals, nursery.cancel_scope)
            on_join = game.history.on_join
            async with make_cluster(
                config, SERVICE, on_join=on_join, instruments=instruments
            ) as stop.cluster:
                await game.play(stop.cluster, payloads)
            nursery.cancel_scope.cancel()
    for model_id, error in sorted(game.errors.items(), key=lambda item: item[1]):
        logger.info("%s was %.3f off", model_id, error)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="the bird game")
    parser.add_argument("record", help="where rounds are recorded")
    parser.add_argument("config", nargs="*", help="a file of settings")
    parser.add_argument("--shards", type=int, default=0, help="how many processes call the models")
    options = parser.parse_args()
    make_cluster = partial(ShardedCluster, shards=options.shards) if options.shards else Cluster
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    config = ClusterConfig.load(*options.config)
    trio.run(main, config, options.record, Game(), fly(), make_cluster)
