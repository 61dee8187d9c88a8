"""A round as one line of JSON, with its models in columns.

The line is what `RoundRecorder` writes and `StatusSocket` sends. Columns take less room than a line for each
model would, and less time: a round of 1,000 models has about 28 KB. The format has a version (`VERSION`), and
readers must bear keys that they don't know.

JSON is strict here: NaN and the infinities become null. Values are strangers' data: those that are asked for
are bounded, in size and in the time that they take, each and all of a round together: the event loop makes
the line, and waits meanwhile.
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
_NUMBERS: Final = frozenset({int, float})
_LONGEST_DETAIL: Final = 200  # characters
_MOST_DETAILS: Final = 100
_MOST_IN_A_VALUE: Final = 64  # numbers, texts, literals, keys
_LONGEST_IN_A_VALUE: Final = 256  # characters of one text
_DEEPEST_VALUE: Final = 16
_MOST_IN_A_ROUND: Final = 8_000  # numbers, texts, literals, keys; of 1,000 models, these take some 10 ms
_MOST_TEXT_IN_A_ROUND: Final = 1 << 17  # characters, of 1 to 6 bytes each


def round_row(crunch_id: str, played: PredictionRound[Any], *, values: bool = False) -> dict[str, Any]:
    """A round as one line has it.

    Args:
        crunch_id: the competition.
        played: the round.
        values: with the models' answers, those that are small enough, until there are too many.
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
    plain = _Plain()
    for result in results:
        try:
            values.append(plain.answer(result.value))
        except Exception:  # a class of the coordinator's may raise whatever, such as a field without a value
            values.append(None)
            left_out += 1
    return {"values": values, "values_left_out": left_out} if left_out else {"values": values}


class _Plain:
    """Copies the small answers of one round as JSON has them."""

    def __init__(self) -> None:
        self._room = 0
        self._room_of_round = _MOST_IN_A_ROUND
        self._text_of_round = _MOST_TEXT_IN_A_ROUND

    def answer(self, value: Any) -> Any:
        """One model's answer. What is looked at counts, also if it is left out.

        Raises:
            Exception: it is too large, there were too many before it, or it is nothing that JSON has.
        """
        if value is None:  # as most are that have no answer
            return None
        self._room = room = min(_MOST_IN_A_VALUE, self._room_of_round)
        try:
            return self._of(value, 0)
        finally:
            self._room_of_round -= room - max(self._room, 0)

    def _of(self, value: Any, depth: int) -> Any:
        self._room -= 1
        if self._room < 0 or depth > _DEEPEST_VALUE:
            raise ValueError("too large")
        if type(value) in _NUMBERS:  # by far the most
            return self._number(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            return self._of(value.value, depth + 1)
        if isinstance(value, str):
            if len(value) > min(_LONGEST_IN_A_VALUE, self._text_of_round):
                raise ValueError("too long")
            self._text_of_round -= len(value)
            return value
        if isinstance(value, Mapping):
            return {self._key(key): self._of(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._of(each, depth + 1) for each in value]
        if attrs.has(type(value)) or dataclasses.is_dataclass(value):
            fields = attrs.fields if attrs.has(type(value)) else dataclasses.fields
            return {each.name: self._of(getattr(value, each.name), depth + 1) for each in fields(type(value))}
        return self._number(value)

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise ValueError("no text")
        return str(self._of(key, 0))

    def _number(self, value: Any) -> int | float | None:
        number = value if type(value) in _NUMBERS else as_number(value)
        if isinstance(number, int):
            if number.bit_length() > 64:
                raise ValueError("too large")
            return number
        if number is None:
            raise ValueError("nothing that JSON has")
        return number if math.isfinite(number) else None
