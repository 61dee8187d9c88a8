"""The bird game: a dove flies along a line, falcons report where it is, and models say where it will be.

The demo's models play it. A payload is what one falcon saw at one time. An answer is a density over the
dove's next location, as a mixture: a list of weighted distributions. Answers come from models, so they may be
anything: `read_density` reads a density, and says what is wrong with other answers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["BirdGame", "Component", "Density", "read_density"]

FALCONS = 3
DOVE_ID = 1
_STEP = (0.8, 1.2)
_MAX_COMPONENTS = 1000


class BirdGame:
    """A flight of the dove. The same seed makes the same flight.

    Args:
        seed: for the random moves of the dove.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._time = 0.0
        self._location = self._random.uniform(10.0, 30.0)
        self._velocity = self._random.uniform(-0.5, 0.5)

    def next_payload(self) -> dict[str, Any]:
        """Let time pass, and return what a falcon saw.

        Keys: ``falcon_location``, ``falcon_id``, ``dove_location``, ``dove_id`` and ``time`` (seconds since
        the flight began).
        """
        step = self._random.uniform(*_STEP)
        self._velocity = 0.9 * self._velocity + self._random.gauss(0.0, 0.05)
        self._location += self._velocity * step
        self._time += step
        return {
            "falcon_location": round(self._location + self._random.gauss(0.0, 2.0), 4),
            "falcon_id": self._random.randrange(1, FALCONS + 1),
            "dove_location": round(self._location, 4),
            "dove_id": DOVE_ID,
            "time": round(self._time, 3),
        }


@attrs.frozen
class Component:
    """One distribution of a mixture.

    Attributes:
        name: the distribution's, such as "normal".
        loc: where it is.
        scale: how wide it is.
        weight: its weight, in any unit.
    """

    name: str
    loc: float
    scale: float
    weight: float


@attrs.frozen
class Density:
    """A model's answer: a mixture of at least one distribution; weights add up to 1."""

    components: tuple[Component, ...]

    def __str__(self) -> str:
        """Write the heaviest component: ``N(20.31, 0.05)``, or ``75% N(20.31, 0.05) + 1 more``."""
        heaviest = max(self.components, key=lambda each: each.weight)
        name = "N" if heaviest.name == "normal" else heaviest.name
        shown = f"{name}({heaviest.loc:.2f}, {heaviest.scale:.2f})"
        others = len(self.components) - 1
        return f"{heaviest.weight:.0%} {shown} + {others} more" if others else shown


def read_density(answer: Any) -> Density:
    """Read a model's answer.

    Args:
        answer: a component, or a list of them, each a dict such as
            ``{"density": {"name": "normal", "params": {"loc": 20.3, "scale": 0.05}}, "weight": 1}``.

    Raises:
        ValueError: the answer is no density; the text says why.
    """
    rows = answer if isinstance(answer, list) else [answer]
    if not 0 < len(rows) <= _MAX_COMPONENTS:
        raise ValueError(f"a density has 1 to {_MAX_COMPONENTS} components, not {len(rows)}")
    components = [_read_component(row) for row in rows]
    total = sum(each.weight for each in components)
    return Density(tuple(attrs.evolve(each, weight=each.weight / total) for each in components))


def _read_component(row: Any) -> Component:
    if not isinstance(row, Mapping):
        raise ValueError(f"a {type(row).__name__} is no density")
    density = row.get("density")
    params = density.get("params") if isinstance(density, Mapping) else None
    if not isinstance(density, Mapping) or not isinstance(params, Mapping):
        raise ValueError("a component lacks its density, or that its params")
    name = density.get("name")
    if not isinstance(name, str):
        raise ValueError("a density lacks its name")
    loc, scale, weight = (
        _number(key, value)
        for key, value in (
            ("loc", params.get("loc")),
            ("scale", params.get("scale")),
            ("weight", row.get("weight", 1)),
        )
    )
    if not (scale > 0 and weight > 0):
        raise ValueError("scale and weight must be > 0")
    return Component(name, loc, scale, weight)


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{key} is no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{key} is not finite")
    return number
