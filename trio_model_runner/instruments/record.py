"""A round as one line of JSON, with its models in columns.

The line is what `RoundRecorder` writes and `StatusSocket` sends. Columns take less room than a line for each
model would, and less time: a round of 1,000 models has about 28 KB. The format has a version (`VERSION`), and
readers must bear keys that they don't know.

JSON is strict here: NaN and the infinities become null. Values are strangers' data: those that are asked for
are bounded, in size and in the time that they take.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from ..text import readable
from ..values.jsonable import as_number
from ..values.results import Status

if TYPE_CHECKING:
    from ..values.prediction_round import PredictionRound
    from ..values.results import PredictResult

__all__ = ["LETTERS", "VERSION", "as_line", "round_row"]

VERSION: Final = 1

LETTERS: Final = {
    Status.SUCCESS: "S",
    Status.FAILED: "F",
    Status.TIMEOUT: "T",
    Status.SKIPPED: "K",
    Status.ABSENT: "A",
}
"""The statuses, a letter each."""
_LONGEST_DETAIL: Final = 200  # characters
_MOST_DETAILS: Final = 100
_MOST_IN_A_VALUE: Final = 64  # numbers, texts, literals, keys
_LONGEST_IN_A_VALUE: Final = 256  # characters of one text
_DEEPEST_VALUE: Final = 16


def round_row(crunch_id: str, played: PredictionRound[Any], *, values: bool = False) -> dict[str, Any]:
    """A round as one line has it.

    Args:
        crunch_id: the competition.
        played: the round.
        values: with the models' answers, those that are small enough.
    """
    results = list(played.values())
    models = list(played)
    row = {
        "v": VERSION,
        "crunch_id": crunch_id,
        "id": int(played.id) if played.id.isdecimal() else played.id,
        "method": played.method,
        "started": _finite(played.started_at, 3),
        "timeout": _finite(played.timeout, 6),
        "seconds": _finite(played.elapsed, 4),
        "model_ids": [model.model_id for model in models],
        "deployment_ids": [model.deployment_id for model in models],
        "statuses": "".join([LETTERS[result.status] for result in results]),
        "elapsed": [_finite(result.elapsed, 4) if result.sent else None for result in results],
        "sent": "".join(["1" if result.sent else "0" for result in results]),
        "details": _details(results),
    }
    if values:
        row |= _values(results)
    return row


def as_line(row: Mapping[str, Any]) -> bytes:
    """A row as compact, strict JSON in UTF-8, with a line break."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"{text}\n".encode("utf-8", "replace")


def _finite(number: float, digits: int) -> float | None:
    return round(number, digits) if math.isfinite(number) else None


def _details(results: list[PredictResult[Any]]) -> dict[str, str]:
    details: dict[str, str] = {}
    for result in results:
        if result.detail and result.status is not Status.SUCCESS:
            if len(details) == _MOST_DETAILS:
                break
            details[result.model.model_id] = readable(result.detail, _LONGEST_DETAIL)
    return details


def _values(results: list[PredictResult[Any]]) -> dict[str, Any]:
    values: list[Any] = []
    left_out = 0
    for result in results:
        try:
            values.append(_Plain().of(result.value, 0))
        except ValueError:
            values.append(None)
            left_out += 1
    return {"values": values, "values_left_out": left_out} if left_out else {"values": values}


class _Plain:
    """Copies one small value as JSON has it."""

    def __init__(self) -> None:
        self._room = _MOST_IN_A_VALUE

    def of(self, value: Any, depth: int) -> Any:
        """A value, or a part of it.

        Raises:
            ValueError: it is too large, or nothing that JSON has.
        """
        self._room -= 1
        if self._room < 0 or depth > _DEEPEST_VALUE:
            raise ValueError("too large")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            return self.of(value.value, depth + 1)
        if isinstance(value, str):
            if len(value) > _LONGEST_IN_A_VALUE:
                raise ValueError("too long")
            return value
        if isinstance(value, Mapping):
            return {self._key(key): self.of(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(each, depth + 1) for each in value]
        if attrs.has(type(value)) or dataclasses.is_dataclass(value):
            fields = attrs.fields if attrs.has(type(value)) else dataclasses.fields
            return {each.name: self.of(getattr(value, each.name), depth + 1) for each in fields(type(value))}
        return self._number(value)

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise ValueError("no text")
        return str(self.of(key, 0))

    def _number(self, value: Any) -> int | float | None:
        number = as_number(value)
        if isinstance(number, int):
            if number.bit_length() > 64:
                raise ValueError("too large")
            return number
        if number is None:
            raise ValueError("nothing that JSON has")
        return number if math.isfinite(number) else None
