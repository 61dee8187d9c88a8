"""The demo: a coordinator of the bird game and its models, in one process.

New users see it first, so it shows what the library is for: in a few rounds some models are slow, hang, fail,
crash, come late or are replaced, and still every round ends by its deadline with a result from each model.
`Demo._play_rounds` and `Demo._catch_up` look like a coordinator's own program. `Demo._before_round` and
`Demo._crash` do something to the models, through `LocalCrunch` only: the coordinator learns of it as it would
in a real crunch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import trio
from rich.padding import Padding
from rich.text import Text

from ..cluster.changes import ChangeKind
from ..cluster.cluster import Cluster
from ..config import Health
from ..services import DynamicSubclassService
from ..testing import LocalCrunch
from ..values.data import Arguments
from ..values.results import Status
from .bird_game import BirdGame, read_density
from .birds import LATE, PHOENIX, REDEPLOYED, better_swift, make_birds
from .board import INDENT, Board
from .events import EventLine, EventLog, quiet_logging, shorter
from .output import ascii_only, clean, layout_width, write
from .table import TallyRow, name_width, tally_table

if TYPE_CHECKING:
    from rich.console import Console

    from ..cluster.cluster import Join
    from ..values.results import PredictResult

__all__ = ["Demo"]

_TICK_FRACTION = 0.25  # of the deadline of a prediction
_CRASH_FRACTION = 0.3  # the same; the phoenix takes longer for a prediction
_PAUSE = 0.15  # seconds between rounds
_LONGEST_WAIT = 2.0  # seconds for the cluster to notice what the demo did


class Demo:
    """One game.

    Args:
        console: where the game is shown.
        rounds: how many rounds to play.
        timeout: seconds that a model has for a prediction.
        seed: the seed of the flight.
    """

    def __init__(self, console: Console, *, rounds: int, timeout: float, seed: int) -> None:
        self._console = console
        self._rounds = rounds
        self._timeout = timeout
        self._game = BirdGame(seed)
        self._birds = {bird.name: bird for bird in make_birds(timeout)}
        self._names = name_width(self._birds)
        self._crash_round = max(1, rounds // 3)
        self._redeploy_round = max(2, (rounds + 1) // 2)
        self._history: list[Arguments] = []
        self._caught_up: dict[str, int] = {}
        self._events = EventLog(self._caught_up)
        self._counts: defaultdict[str, Counter[Status]] = defaultdict(Counter)
        self._seconds: defaultdict[str, float] = defaultdict(float)

    async def play(self) -> None:
        """Play the game and show it."""
        self._introduce()
        models = {bird.name: bird.make for bird in self._birds.values() if bird.name != LATE}
        with quiet_logging(self._events):
            async with LocalCrunch(models, crunch_id="bird-game") as crunch:
                # A report is pending for a minute by default. The demo is shorter than that.
                config = crunch.config(
                    timeout=self._timeout, max_consecutive_failures=5, health=Health(mass_window=0.5)
                )
                service = DynamicSubclassService("birdgame.trackers.trackerbase.TrackerBase")
                async with (
                    Cluster(config, service, on_join=self._catch_up) as cluster,
                    cluster.changes(initial=True) as changes,
                    trio.open_nursery() as nursery,
                ):
                    ready = list(cluster.models)
                    nursery.start_soon(self._events.listen, changes)
                    for model_id in ready:
                        await self._events.wait_for(ChangeKind.JOINED, model_id)
                    await self._play_rounds(crunch, cluster)
                    nursery.cancel_scope.cancel()
                self._sum_up(crunch)

    async def _play_rounds(self, crunch: LocalCrunch, cluster: Cluster) -> None:
        for number in range(1, self._rounds + 1):
            await self._before_round(number, crunch)
            self._show_events(first=number == 1)
            payload = self._game.next_payload()
            arguments = Arguments(payload, performance_metrics={})
            self._history.append(arguments)
            ticked = await cluster.call("tick", arguments, timeout=_TICK_FRACTION * self._timeout)
            about = (
                f"dove at {payload['dove_location']:.2f}   "
                f"tick {len(ticked.succeeded)}/{len(ticked)} in {ticked.elapsed:.2f} s"
            )
            async with trio.open_nursery() as nursery:
                if number == self._crash_round:
                    nursery.start_soon(self._crash, crunch)
                await self._predict(cluster, f"Round {number} of {self._rounds}", about)
            await trio.sleep(_PAUSE)
        self._show_events()

    async def _catch_up(self, join: Join) -> None:
        """Tell a model that has just joined what the others were told before."""
        sent = 0
        while sent < len(self._history):
            (await join.model.call("tick", self._history[sent])).unwrap()
            sent += 1
        self._caught_up[join.model.model_id] = sent

    async def _predict(self, cluster: Cluster, title: str, about: str) -> None:
        """Ask all models where the dove is next, and show each answer as it comes."""
        models = list(cluster.announced.values())
        board = Board(
            self._console,
            title,
            about,
            models,
            deadline=self._timeout,
            describe=_cell_text,
            names=self._names,
        )
        async with (
            cluster.as_completed("predict", models=models, returns=read_density) as results,
            board.shown(),
        ):
            async for result in results:
                board.add(result)
                self._counts[result.model.model_id][result.status] += 1
                if result.status is Status.SUCCESS:
                    self._seconds[result.model.model_id] += result.elapsed

    async def _before_round(self, number: int, crunch: LocalCrunch) -> None:
        """Do to the models what is planned before this round, and wait until the cluster knows it."""
        self._events.forget()
        with trio.move_on_after(_LONGEST_WAIT):
            if number == 2:
                await crunch.add(LATE, self._birds[LATE].make)
                await self._events.wait_for(ChangeKind.JOINED, LATE)
            if number == self._crash_round + 2:
                await crunch.recover(PHOENIX)
                await self._events.wait_for(ChangeKind.JOINED, PHOENIX)
            if number == self._redeploy_round:
                await crunch.redeploy(REDEPLOYED, better_swift)
                await self._events.wait_for(ChangeKind.REDEPLOYED, REDEPLOYED)
                await crunch.retire(REDEPLOYED)

    async def _crash(self, crunch: LocalCrunch) -> None:
        await trio.sleep(_CRASH_FRACTION * self._timeout)
        await crunch.crash(PHOENIX)

    def _introduce(self) -> None:
        rounds = "one round" if self._rounds == 1 else f"{self._rounds} rounds"
        text = (
            f"{len(self._birds)} models follow a dove's flight for {rounds}. In each, all are told where it "
            "is (tick) and asked where it will be next (predict). Watch that every round ends by its "
            "deadline with a result from each, and that nobody has to wait for those who misbehave:"
        )
        tempers = [
            Text.assemble(f"  {bird.name:<{self._names}}  ", (bird.temper, "bright_black"))
            for bird in self._birds.values()
        ]
        width = layout_width(self._console)
        heading = Text.assemble(("trio-model-runner demo", "bold"))
        write(self._console, heading, *Text(text).wrap(self._console, width), *tempers, Text())

    def _show_events(self, *, first: bool = False) -> None:
        lines = self._events.take()
        if first:
            joined = [line for line in lines if line.kind is ChangeKind.JOINED]
            lines = [line for line in lines if line not in joined]
            lines.insert(0, EventLine("+", "green", "", f"{len(joined)} models joined"))
        if not lines:
            return
        width, plain = layout_width(self._console) - INDENT, ascii_only(self._console)
        shown = [line.render(self._names, width, ascii_only=plain) for line in lines]
        write(self._console, *(() if first else (Text(),)), *(_indented(line) for line in shown))

    def _sum_up(self, crunch: LocalCrunch) -> None:
        rows = [
            TallyRow(bird.name, self._counts[bird.name], self._mean(bird.name), bird.temper)
            for bird in self._birds.values()
            if bird.name in self._counts
        ]
        width, plain = layout_width(self._console) - INDENT, ascii_only(self._console)
        total = sum(sum(counts.values()) for counts in self._counts.values())
        heading = Text.assemble(
            ("Summary", "bold"), (f"  {total} calls of predict, and what became of them", "bright_black")
        )
        reported = defaultdict(list)
        for report in crunch.reports:
            reported[report["failure_code"]].append(report["model_id"])
        lines = [
            f"Reported to the orchestrator as {code}: {', '.join(models)}"
            for code, models in reported.items()
        ]
        lines.append("Models like these for your own tests: trio_model_runner.testing.LocalCrunch")
        write(
            self._console,
            Text(),
            heading,
            _indented(tally_table(rows, width=width, ascii_only=plain)),
            Text(),
            *(Text(clean(line)) for line in lines),
        )

    def _mean(self, model_id: str) -> float | None:
        succeeded = self._counts[model_id][Status.SUCCESS]
        return self._seconds[model_id] / succeeded if succeeded else None


def _cell_text(result: PredictResult[Any]) -> str:
    if result.status is Status.SUCCESS:
        return str(result.value)
    detail = result.detail.removeprefix("failed: ") if result.status is Status.ABSENT else result.detail
    return shorter(detail)


def _indented(what: Any) -> Padding:
    return Padding(what, (0, 0, 0, INDENT), expand=False)
