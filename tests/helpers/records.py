"""Records of rounds that were never played: models of every temper, and rounds in which many miss at once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

__all__ = ["HOSTILE", "TEMPERS", "Crunch", "line"]

DEADLINE: Final = 2.0
BEGIN: Final = 1_764_133_200.0

HOSTILE: Final = (
    "</script><script>document.title='owned'</script>",
    "\"'><img src=x onerror=alert(1)>&amp;",
    "\x1b]0;owned\x07\x1b[2J",
    "\u202edlrow\u2066 \u200bolleh",
    "m" * 200,
    "鳥" * 90,
    "lone \ud800 half",
    "</style></svg>]]><!-- --> {}",
    "a model of many short words that could be broken " * 4,
    "",
)
"""Names that a page must not obey."""

Told = tuple[str, float | None]


def _usual(rng: random.Random, usual: float) -> Told:
    return "S", min(usual * rng.lognormvariate(0, 0.25), DEADLINE * 0.97)


def _stops(part: float, rng: random.Random, usual: float) -> Told:
    return _usual(rng, usual) if part < 0.7 else ("T", DEADLINE)


def _is_late(part: float, rng: random.Random, usual: float) -> Told:
    return ("T", DEADLINE) if rng.random() < 0.45 else _usual(rng, 0.7 * DEADLINE)


def _slows(part: float, rng: random.Random, usual: float) -> Told:
    return _usual(rng, usual if part < 0.6 else 5 * usual)


def _fails(part: float, rng: random.Random, usual: float) -> Told:
    return ("F", usual) if rng.random() < 0.15 else _usual(rng, usual)


def _flaps(part: float, rng: random.Random, usual: float) -> Told:
    return ("A", None) if int(part * 80) % 4 == 3 else _usual(rng, usual)


def _never(part: float, rng: random.Random, usual: float) -> Told:
    return "K", None


def _breaks(part: float, rng: random.Random, usual: float) -> Told:
    return _usual(rng, usual) if part < 0.8 else ("F", usual)


def _well(part: float, rng: random.Random, usual: float) -> Told:
    return _usual(rng, usual)


TEMPERS: Final[Mapping[str, Callable[[float, random.Random, float], Told]]] = {
    "stops": _stops,
    "late": _is_late,
    "slows": _slows,
    "fails": _fails,
    "flaps": _flaps,
    "never": _never,
    "breaks": _breaks,
    "joins": _well,
    "redeployed": _well,
    "well": _well,
}
"""How a model is: it is told which part of the record has passed, and returns its status and seconds."""


@attrs.frozen
class Crunch:
    """A coordinator's record.

    Attributes:
        rounds: how many.
        models: how many; those with a temper come first.
        each: how many there are of each temper but `well`.
        mass: in which part of the record a quarter of the models miss some rounds.
        names: of the first models that are well; the others are m0000 and so on.
        seed: the same seed, the same record.
        method: what is called.
    """

    rounds: int
    models: int
    each: int = 2
    mass: float | None = 0.45
    names: tuple[str, ...] = ()
    seed: int = 1
    method: str = "predict"

    def tempers(self) -> list[str]:
        """The temper of each model."""
        special = [temper for temper in TEMPERS if temper != "well" for _ in range(self.each)]
        return (special + ["well"] * self.models)[: self.models]

    def ids(self) -> list[str]:
        """The id of each model."""
        names = [f"m{number:04}" for number in range(self.models)]
        first = self.tempers().index("well") if self.names else 0
        names[first : first + len(self.names)] = self.names
        return names

    def lines(self) -> Iterator[str]:
        """The record's lines, without their ends."""
        rng = random.Random(self.seed)
        tempers, ids = self.tempers(), self.ids()
        usual = [DEADLINE * 0.12 * rng.lognormvariate(0, 0.35) for _ in ids]
        mass = -1 if self.mass is None else int(self.mass * self.rounds)
        for position in range(self.rounds):
            part = position / self.rounds
            there = [at for at, temper in enumerate(tempers) if temper != "joins" or part >= 0.5]
            told = [TEMPERS[tempers[at]](part, rng, usual[at]) for at in there]
            if mass <= position < mass + max(1, self.rounds // 300):
                told = [("T", DEADLINE) if rng.random() < 0.25 else each for each in told]
            yield line(
                id=2 * position + 1,
                started=BEGIN + 7.5 * position,
                method=self.method,
                model_ids=[ids[at] for at in there],
                deployment_ids=[
                    "18" if tempers[at] == "redeployed" and part >= 0.3 else "17" for at in there
                ],
                statuses="".join(status for status, _ in told),
                elapsed=[seconds and round(seconds, 4) for _, seconds in told],
                details={
                    ids[at]: f"ValueError: no nest in round {position}"
                    for at, (status, _) in zip(there, told, strict=True)
                    if status == "F"
                },
            )


def line(**told: Any) -> str:
    """A line of a record; what is not told is as it usually is."""
    statuses = told.setdefault("statuses", "S" * len(told.get("model_ids", ())))
    whole = {
        "v": 1,
        "crunch_id": "bird-game",
        "id": 1,
        "method": "predict",
        "started": BEGIN,
        "timeout": DEADLINE,
        "seconds": 0.5,
        "model_ids": [f"m{number}" for number in range(len(statuses))],
        "deployment_ids": ["17"] * len(statuses),
        "elapsed": [None if status in "KA" else 0.25 for status in statuses],
        "sent": "".join("01"[status in "SFT"] for status in statuses),
        "details": {},
    }
    return json.dumps(whole | told, separators=(",", ":"))
