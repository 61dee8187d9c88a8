"""Random scripts: what happens to thirty models and their orchestrator, line by line.

A script is plain text and depends on its seed alone: the generator plays it against the plain model as it
writes (`truth`), never against processes. So it can be printed, cut down by hand, and played again.

It has acts. In each, things go wrong for a while, a few at a time, and then all is mended, so that what is
left over must show. Never are so many models unsound that their reports would be held back as a mass.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from .deployment import Deployment
from .frames import OUTBURSTS
from .truth import Action, OrchestratorState, Truth

__all__ = ["MODELS", "TEMPERS", "VERBS", "make_script", "parse_script"]

MODELS = 30
_GRPCIO_MODELS = 4
_RELAYED_MODELS = range(2, 10)  # the first ones of them are grpcio's
_MAX_UNSOUND = 9
_MIN_LISTED = 24
_INCIDENTS_PER_ACT = 18

_INCIDENTS = {
    "kill": 3,
    "crash": 2,
    "restart": 3,
    "restart elsewhere": 3,
    "restart unsaid": 1,
    "freeze": 3,
    "thaw": 2,
    "temper": 8,
    "outburst": 5,
    "overrun": 3,
    "hold": 2,
    "cut": 3,
    "redeploy": 3,
    "redeploy dead": 1,
    "retire": 1,
    "remove": 1,
    "add": 1,
    "repeat": 1,
    "stale RUNNING": 1,
    "stale STOPPED": 1,
    "mend": 2,
    "await-report": 2,
    "orchestrator-kill": 1,
    "orchestrator-stop": 1,
    "orchestrator-freeze": 1,
    "orchestrator-thaw": 1,
    "orchestrator-start": 2,
    "orchestrator-nonsense": 1,
}
"""How often each is in the deck."""

VERBS = frozenset(kind.partition(" ")[0] for kind in _INCIDENTS)

_HARMFUL = ("kill", "crash", "freeze", "temper", "redeploy", "restart unsaid", "redeploy dead", "remove")
TEMPERS = ("raising", "babbling", "hanging", "silent", "garbage", "flooding", "stalling", "dropping", "tardy")
_OF_THE_MODEL = ("raising", "babbling", "hanging", "tardy")
"""These are reported for certain. A dead one is, too, if few are away: with more, it may be the network."""
_MAX_AWAY = 2

_SECONDS = {
    "overrun": ("0.6", "0.8", "1.3", "2.2", "3.5"),
    "hold": ("1", "2.2", "4"),
    "cut": ("up 0.5", "down 1", "both 1", "up 3", "down 3", "both 4"),
}
"""How long a call takes, or which way is cut for how long."""


def make_script(seed: int, acts: int) -> list[Action]:
    """The script of a seed."""
    return list(_Author(random.Random(seed)).write(acts))


def parse_script(text: str) -> list[Action]:
    """Read a script that was printed; empty lines and what follows a ``#`` are ignored."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [Action.parse(line) for line in lines if line]


class _Deck:
    """Cards in random order; before all were played, none is played again."""

    def __init__(self, choice: random.Random, cards: Sequence[str]) -> None:
        self._random = choice
        self._all = cards
        self._left: list[str] = []

    def deal(self, play: Callable[[str], Iterator[Action]]) -> list[Action]:
        """Play the next card that has an effect."""
        for cards in (self._left, self._random.sample(self._all, len(self._all))):
            for card in cards:
                if played := list(play(card)):
                    cards.remove(card)
                    self._left = cards
                    return played
        return []


class _Author:
    """Writes one script, and follows what it means."""

    def __init__(self, choice: random.Random) -> None:
        self._random = choice
        self._truth = Truth()
        self._incidents = _Deck(choice, [kind for kind, times in _INCIDENTS.items() for _ in range(times)])
        self._tempers = _Deck(choice, TEMPERS)
        self._outbursts = _Deck(choice, [*OUTBURSTS])
        self._durations = {verb: _Deck(choice, details) for verb, details in _SECONDS.items()}

    def write(self, acts: int) -> Iterator[Action]:
        for number in range(MODELS):
            traits = {"grpcio": number < _GRPCIO_MODELS, "relayed": number in _RELAYED_MODELS}
            yield from self._act("add", f"m{number:02}", " ".join(filter(traits.get, traits)))
        yield from self._settle()
        for _ in range(acts):
            yield from self._go_wrong()
            yield from self._rest(1, 3, 6)
            yield from self._mend()
        yield from self._end()

    def _act(self, verb: str, target: str = "", detail: str = "") -> Iterator[Action]:
        """The action, if there is anything to it."""
        action = Action(verb, target, detail)
        if self._truth.apply(action):
            yield action

    def _settle(self) -> Iterator[Action]:
        yield Action("settle")
        if self._truth.orchestrator is OrchestratorState.UP:
            self._truth.note_settled()

    def _rest(self, *seconds: float) -> Iterator[Action]:
        yield Action("rest", f"{self._random.choice(seconds):g}")

    def _go_wrong(self) -> Iterator[Action]:
        for _ in range(_INCIDENTS_PER_ACT):
            yield from self._incidents.deal(self._incident)
            if self._random.random() < 0.4:
                yield from self._rest(0, 0.01, 0.1, 0.4, 1)
            if self._random.random() < 0.3:
                yield from self._settle()

    def _incident(self, kind: str) -> Iterator[Action]:
        if kind in ("orchestrator-kill", "orchestrator-stop"):
            yield from self._take_down_orchestrator(kind)
            return
        if kind.startswith("orchestrator-"):
            yield from self._act(kind)
            return
        verb, _, detail = kind.partition(" ")
        unsound = self._truth.unsound
        if kind in _HARMFUL and len(unsound) >= _MAX_UNSOUND:
            return
        if verb == "remove" and len(self._listed()) <= _MIN_LISTED:
            return
        target = self._choose_target(verb, unsound)
        if target is None:
            return
        if verb == "await-report":
            yield from self._await_report(target)
        elif verb == "temper":
            yield from self._tempers.deal(lambda temper: self._act(verb, target, temper))
        elif verb == "outburst":
            yield from self._outbursts.deal(lambda kind: self._act(verb, target, kind))
        elif verb in _SECONDS:
            yield from self._durations[verb].deal(lambda duration: self._act(verb, target, duration))
        else:
            yield from self._act(verb, target, detail)

    def _take_down_orchestrator(self, verb: str) -> Iterator[Action]:
        """What happens while it is away is news in the next ``init``."""
        downed = list(self._act(verb))
        yield from downed
        if downed and len(self._truth.unsound) < _MAX_UNSOUND and len(self._listed()) > _MIN_LISTED:
            removed, moved, replaced = self._random.sample(self._listed(), 3)
            yield from self._act("remove", removed)
            yield from self._act("restart", moved, "elsewhere")
            yield from self._act("redeploy", replaced)

    def _listed(self) -> list[str]:
        return [model_id for model_id in self._truth.model_ids if self._truth.newest(model_id) is not None]

    def _choose_target(self, verb: str, unsound: list[str]) -> str | None:
        """Whom it happens to; what puts something right happens to those who need it."""
        needy = verb in ("restart", "thaw", "retire", "add", "mend", "await-report")
        some = unsound if needy and unsound else self._truth.model_ids
        if verb in _SECONDS:
            some = [model_id for model_id in some if self._truth.can_take(verb, model_id)]
        return self._random.choice(some) if some else None

    def _await_report(self, model_id: str) -> Iterator[Action]:
        deployment = self._truth.newest(model_id)
        if (
            deployment is not None
            and self._truth.orchestrator is OrchestratorState.UP
            and (deployment.condition in _OF_THE_MODEL or self._is_surely_missed(deployment))
            and not deployment.frozen
            and deployment.told == "RUNNING"
            and not self._truth.has_two(model_id)
        ):
            yield from self._settle()
            yield Action("await-report", model_id)
            self._truth.take_report(model_id, deployment.address, next(iter(deployment.excuses)))

    def _is_surely_missed(self, deployment: Deployment) -> bool:
        newest = [self._truth.newest(model_id) for model_id in self._truth.unsound]
        away = [each for each in newest if each is not None and each.condition not in _OF_THE_MODEL]
        return deployment.condition == "dead" and len(away) <= _MAX_AWAY

    def _mend(self) -> Iterator[Action]:
        yield from self._act("orchestrator-thaw")
        yield from self._act("orchestrator-start")
        unsound = self._truth.unsound
        self._random.shuffle(unsound)
        for model_id in unsound:
            yield from self._act("mend", model_id)
        yield from self._settle()
        yield from self._settle()

    def _end(self) -> Iterator[Action]:
        """When the cluster is left, some stand still."""
        for model_id in self._random.sample(self._truth.model_ids, 5):
            yield from self._act("freeze", model_id)
        yield from self._act("orchestrator-freeze")
        yield from self._rest(0, 0.1, 1)
