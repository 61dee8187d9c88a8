"""The demo's models: trackers of the bird game, with all the faults that a coordinator meets.

They are ordinary Python objects with the two methods of the game, ``tick`` and ``predict``. Nodes serve them.
Neither these classes nor the coordinator's code know that this is a demo. `demo` does what happens to a whole
node: it joins late, crashes, is redeployed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
import trio

__all__ = ["LATE", "PHOENIX", "REDEPLOYED", "Bird", "better_swift", "make_birds"]

LATE = "heron"
PHOENIX = "phoenix"
REDEPLOYED = "swift"


@attrs.frozen
class Bird:
    """A model of the demo.

    Attributes:
        name: its name, and its id.
        temper: how it behaves, in a few words.
        make: makes an instance, as the node does at every Setup.
    """

    name: str
    temper: str
    make: Callable[[], Any]


class Tracker:
    """Expects that the dove flies on as it did before.

    Args:
        delay: seconds that a prediction takes.
        memory: how much of its estimate of the velocity it keeps at a tick, 0 to 1.
        doubt: how wide its density is, in standard deviations of its errors so far.
    """

    def __init__(self, delay: float = 0.0, memory: float = 0.5, doubt: float = 1.0) -> None:
        self.ticks = 0
        self._delay, self._memory, self._doubt = delay, memory, doubt
        self._location = self._velocity = self._time = 0.0
        self._error = 0.5

    async def tick(self, payload: Mapping[str, Any], performance_metrics: Mapping[str, Any]) -> None:
        """Learn where the dove is."""
        await trio.lowlevel.checkpoint()
        location, time = payload["dove_location"], payload["time"]
        if self.ticks:
            passed = time - self._time
            missed_by = abs(location - self._location - self._velocity * passed)
            self._error = 0.5 * self._error + 0.5 * missed_by
            seen = (location - self._location) / passed
            self._velocity = self._memory * self._velocity + (1 - self._memory) * seen
        self._location, self._time = location, time
        self.ticks += 1

    async def predict(self) -> Any:
        """Say where it is next."""
        await trio.sleep(self._delay)
        return self.density()

    def density(self) -> list[dict[str, Any]]:
        """One normal distribution around where it flies to."""
        scale = max(0.01, self._doubt * self._error)
        return [_normal(self._location + self._velocity, scale)]


class Doubter(Tracker):
    """Expects that the dove flies on, or stays where it is."""

    def density(self) -> list[dict[str, Any]]:
        """Two normal distributions, one for each."""
        scale = max(0.01, self._error)
        return [
            _normal(self._location + self._velocity, scale, weight=3),
            _normal(self._location, 2 * scale, weight=1),
        ]


class Magpie(Tracker):
    """Is late now and then, when it sees something shiny."""

    asked = 0

    async def predict(self) -> Any:
        """Say where it is next, in time or not."""
        self.asked += 1
        shiny = self.asked % 4 == 3
        await trio.sleep(self._delay * (3 if shiny else 1))
        return self.density()


class Owl(Tracker):
    """Sleeps by day, and never answers."""

    async def predict(self) -> Any:
        """Never return."""
        await trio.sleep_forever()


class Cuckoo(Tracker):
    """Looks for a nest that it has not built, and raises."""

    async def tick(self, payload: Mapping[str, Any], performance_metrics: Mapping[str, Any]) -> None:
        """Fail."""
        await trio.lowlevel.checkpoint()
        raise KeyError("nest")

    async def predict(self) -> Any:
        """Fail."""
        await trio.lowlevel.checkpoint()
        raise ValueError("no nest in sight")


class Parrot(Tracker):
    """Repeats a text instead of a prediction."""

    def density(self) -> Any:
        """A text, which is no density."""
        return "pretty Polly"


def _dodo() -> Any:
    raise RuntimeError("extinct in 1662")


def better_swift() -> Any:
    """The better version of the swift, which is deployed in the middle of the game."""
    return Tracker(memory=0.2)


def make_birds(timeout: float) -> tuple[Bird, ...]:
    """Make the models. They are quick or slow against `timeout`, the seconds for a prediction."""
    return (
        Bird("kestrel", "quick", Tracker),
        Bird("merlin", "quick", partial(Tracker, memory=0.8)),
        Bird("osprey", "quick", Doubter),
        Bird("goshawk", "thinks for a while", partial(Tracker, delay=0.25 * timeout, memory=0.3)),
        Bird("buzzard", "slow, but in time", partial(Tracker, delay=0.7 * timeout, memory=0.1)),
        Bird("magpie", "is too late now and then", partial(Magpie, delay=0.4 * timeout)),
        Bird("owl", "hangs: never answers", Owl),
        Bird("cuckoo", "raises an exception", Cuckoo),
        Bird("parrot", "answers what is no density", Parrot),
        Bird("dodo", "can't be set up", _dodo),
        Bird(PHOENIX, "crashes in mid-call, and comes back", partial(Tracker, delay=0.5 * timeout)),
        Bird(REDEPLOYED, "is replaced by a better version", partial(Tracker, memory=0.9, doubt=10.0)),
        Bird(LATE, "joins late", Tracker),
    )


def _normal(loc: float, scale: float, weight: int = 1) -> dict[str, Any]:
    return {"density": {"name": "normal", "params": {"loc": loc, "scale": scale}}, "weight": weight}
