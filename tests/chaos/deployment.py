"""One deployment in the plain model: how its process is, what was said of it, and what it may be blamed for.

There is nothing of the library here: what may be reported is a contract, and is written down once more.
"""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["NEVER_READY", "Deployment"]

_EXCUSES: Final = {
    "dead": "CONNECTION_FAILED",
    "frozen": "CONNECTION_FAILED",
    "silent": "CONNECTION_FAILED",
    "garbage": "CONNECTION_FAILED",
    "flooding": "CONNECTION_FAILED",
    "stalling": "CONNECTION_FAILED",
    "dropping": "CONNECTION_FAILED",
    "outburst": "CONNECTION_FAILED",
    "raising": "MULTIPLE_FAILED",
    "babbling": "MULTIPLE_FAILED",
    "hanging": "MULTIPLE_TIMEOUT",
    "tardy": "MULTIPLE_TIMEOUT",
}
"""What a model may be reported as for what its node does, and for nothing else."""

NEVER_READY: Final = frozenset({"dead", "silent", "garbage", "flooding"})
"""In these conditions a node can't be brought up."""


_LIKE_HOLDING: Final = frozenset({"frozen", "stalling"})
"""Then a node doesn't say that it is through, so a call that is late seems to go on."""


@attrs.define(eq=False)
class Deployment:
    """One deployment of one model.

    Attributes:
        relayed: its node is reached through a relay.
        addresses: the numbers of those that it had and may still be reported at; the last one is in use.
        lives: the numbers of its processes; it has a new one after each death.
        condition: "sound", or what is the matter with it.
        frozen: its process is stopped.
        booked: what the orchestrator says of it: "RUNNING", "RECOVERING", or "STOPPED".
        told: what the cluster was last told.
        certain: it was told that this runs, and it has been sound since.
        promoted: it was ready for certain, so those before it are replaced.
        replaced: one after it was promoted, while this was in the book.
        wavered: it was sound when it was told, and then it was not, and nobody looked in between.
        excuses: what it may be reported as.
        calm: it was seen to answer, and nothing was done to it since.
        blameless: for how many settled moments it has given no cause.
        version: of its infos.
    """

    model_id: str
    deployment_id: str
    addresses: list[int]
    lives: list[int]
    grpcio: bool
    relayed: bool
    condition: str = "sound"
    frozen: bool = False
    booked: str = "RUNNING"
    told: str = "STOPPED"
    certain: bool = False
    promoted: bool = False
    replaced: bool = False
    wavered: bool = False
    calm: bool = False
    excuses: set[str] = attrs.field(factory=set)
    blameless: int = 0
    version: int = 0

    @property
    def address(self) -> int:
        """The number of its address."""
        return self.addresses[-1]

    @property
    def life(self) -> int:
        """The number of its process."""
        return self.lives[-1]

    @property
    def sound(self) -> bool:
        """Whether it does all that a node should."""
        return self.condition == "sound" and not self.frozen

    @property
    def alive(self) -> bool:
        """Whether it has a process."""
        return self.condition != "dead"

    def suffer(self, condition: str) -> None:
        """Note that something is the matter with it."""
        self.wavered = self.wavered or (self.certain and not self.promoted)
        if condition in _LIKE_HOLDING and not self.calm:  # it may be at a call that is late
            self.blame("tardy")
        self.certain = self.calm = False
        self.blame(condition)

    def blame(self, condition: str) -> None:
        """Note that this may be reported."""
        self.excuses.add(_EXCUSES[condition])
        self.blameless = 0

    def note_told(self) -> None:
        """Note that the cluster has just been told what is booked."""
        self.told = self.booked
        if self.told == "RUNNING":
            self.certain = self.sound
            if not self.sound:
                self.blame("frozen" if self.frozen else self.condition)
