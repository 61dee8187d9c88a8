"""What the figures of a flood and of its control come to: targets met or missed, and a table."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hostile_peer import Kind

__all__ = ["Figures", "Row", "as_markdown", "summary"]

MOST_LATE = 0.050
"""Seconds by which a round may be late."""
MOST_SLOWED = 0.020
"""Seconds by which the median of the honest answers may be above the control's."""
MOST_DELAYED = 0.100
"""Seconds by which the latest honest answer may be above the control's."""
HEAD = (
    "| kind | round, s: median, max | honest, ms: p50, max | control, ms: p50, max | p50 +ms | max +ms "
    "| late ms, control's | missed | MB | connections | hostile nodes at the end | verdict |"
)
TEXT_LENGTH = 90


@dataclass(frozen=True)
class Figures:
    """What one coordinator's process measured; times in seconds.

    Attributes:
        timeout: of its rounds.
        failure: why there are no figures; None if there are.
        joined: until all honest models were there.
        walls: the rounds' times.
        answers: the honest answers' times.
        missed: in how many rounds an honest model had no answer.
        memory: by how much the process has grown at most, MB.
        states: the hostile models' states and errors at the end.
        connections: how many were made to the hostile nodes.
        sent: what the hostile nodes sent, bytes.
        package: where the measured package is.
    """

    timeout: float
    failure: str | None = None
    joined: float = 0.0
    walls: Sequence[float] = (0.0,)
    answers: Sequence[float] = (0.0,)
    missed: int = 0
    memory: float = 0.0
    states: Sequence[str] = ()
    connections: int = 0
    sent: int = 0
    package: str = ""

    @property
    def late(self) -> float:
        """By how much the latest round was late, seconds."""
        return max(self.walls) - self.timeout

    @property
    def p50(self) -> float:
        """The median of the honest answers' times, seconds."""
        return statistics.median(self.answers or [0.0])

    @property
    def longest(self) -> float:
        """The longest time of an honest answer, seconds."""
        return max(self.answers, default=0.0)

    @property
    def fate(self) -> str:
        """What most of the hostile models came to, and how many came to something else."""
        ends = Counter(self.states)
        if not ends:
            return (self.failure or "")[:TEXT_LENGTH].replace("|", "/")
        most, count = ends.most_common(1)[0]
        others = len(self.states) - count
        return f"{count} {most[:TEXT_LENGTH].strip()}{f'; {others} otherwise' if others else ''}".replace(
            "|", "/"
        )


@dataclass(frozen=True)
class Row:
    """A kind's flood beside its control.

    Attributes:
        name: the kind's, with "+tls" if it was played over TLS.
        kind: the kind.
        flood: what was measured with the flood.
        control: the same, with the flood going to somebody else.
    """

    name: str
    kind: Kind
    flood: Figures
    control: Figures
    misses: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "misses", list(self._judge()))

    @property
    def slowed(self) -> float:
        """By how much the median honest answer is above the control's, seconds."""
        return self.flood.p50 - self.control.p50

    @property
    def delayed(self) -> float:
        """By how much the latest honest answer is above the control's, seconds."""
        return self.flood.longest - self.control.longest

    def _judge(self) -> list[str]:
        if self.flood.failure or self.control.failure:
            return ["failed"]
        judged = {
            "late": self.flood.late > MOST_LATE,
            "p50": self.slowed > MOST_SLOWED,
            "max": self.delayed > MOST_DELAYED,
            "missed": self.flood.missed > 0,
            "memory": self.flood.memory - self.control.memory > self.kind.memory,
        }
        return [target for target, missed in judged.items() if missed]

    @property
    def verdict(self) -> str:
        """PASS, or FAIL with the targets that are missed."""
        return f"FAIL: {', '.join(self.misses)}" if self.misses else "PASS"

    @property
    def data(self) -> dict[str, Any]:
        """All that was measured, for JSON."""
        return {
            "kind": self.name,
            "description": self.kind.description,
            "misses": self.misses,
            "flood": asdict(self.flood),
            "control": asdict(self.control),
        }

    @property
    def cells(self) -> list[str]:
        """The row's text, cell by cell."""
        flood, control = self.flood, self.control
        return [
            self.name,
            f"{statistics.median(flood.walls):.3f}, {max(flood.walls):.3f}",
            f"{flood.p50 * 1e3:.1f}, {flood.longest * 1e3:.0f}",
            f"{control.p50 * 1e3:.1f}, {control.longest * 1e3:.0f}",
            f"{self.slowed * 1e3:+.1f}",
            f"{self.delayed * 1e3:+.0f}",
            f"{max(flood.late, 0) * 1e3:.0f}, {max(control.late, 0) * 1e3:.0f}",
            f"{flood.missed} of {len(flood.walls)}",
            f"{flood.memory:.0f}",
            f"{flood.connections}",
            flood.fate,
            self.verdict,
        ]


def as_markdown(rows: Sequence[Row]) -> str:
    """All rows as a table."""
    return "\n".join([HEAD, separator(), *map(as_line, rows)])


def separator() -> str:
    """The line below a table's head."""
    return "|---" * HEAD.count(" | ") + "|---|"


def as_line(row: Row) -> str:
    """One row of the table."""
    return f"| {' | '.join(row.cells)} |"


def summary(rows: Sequence[Row]) -> str:
    """How many kinds met their targets, and which missed which."""
    missed: dict[str, list[str]] = {}
    for row in rows:
        for target in row.misses:
            missed.setdefault(target, []).append(row.name)
    good = sum(not row.misses for row in rows)
    lines = [f"{good} of {len(rows)} kinds PASS"]
    lines += [f"{target}: missed with {', '.join(names)}" for target, names in missed.items()]
    return "\n".join(lines)
