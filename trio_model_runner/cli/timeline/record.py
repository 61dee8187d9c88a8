"""Reads a record of rounds, line by line, from files as they are and from gzipped ones.

`RoundRecorder` writes the record: a JSON line a round, in parts that are rotated. A program that was killed
leaves half a line, a disk that was full leaves more of them, and a record that is years old may have been
written by another version. So whatever is no round is counted, and the rest is read: nobody wants to lose
10,000 rounds to one line.

Only one line is in memory at a time. This file knows what a line means, and nothing of what is made of it.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final, NoReturn, cast

import attrs

from ...instruments.record import LETTERS, VERSION

__all__ = ["Round", "Skipped", "read_record"]

_STATUSES: Final = frozenset(LETTERS.values())
_GZIP_MAGIC: Final = b"\x1f\x8b"
_LONGEST_LINE: Final = 64 << 20  # bytes; 10,000 models take 300 KB without their values
_LONGEST_NUMBER: Final = 1e9  # seconds; whatever takes longer is no measurement
_END_OF_TIME: Final = 253_402_300_800.0  # the first second that `datetime` can't say
_START: Final = re.compile(rb'\{"v":\d+,"crunch_id":')
_MOST_STARTS: Final = 16


@attrs.frozen
class Round:
    """One line of the record. The columns have one entry a model, in the order of `model_ids`.

    Attributes:
        crunch_id: of which crunch.
        id: the round's number in its process; a coordinator that starts again begins again. A text, if it was
            given one.
        method: what was called.
        started: POSIX seconds.
        timeout: seconds; None if the round had no deadline.
        seconds: how long the round took.
        model_ids: the models.
        deployment_ids: their deployments; None where unknown.
        statuses: a letter each: S SUCCESS, F FAILED, T TIMEOUT, K SKIPPED, A ABSENT.
        elapsed: seconds each; a success always has them.
        sent: "1" or "0" each: whether the request may have reached the model.
        details: by model id, what went wrong; of some.
        values: the answers, if they were recorded.
    """

    crunch_id: str
    id: int | str
    method: str
    started: float
    timeout: float | None
    seconds: float
    model_ids: list[str]
    deployment_ids: list[str | None]
    statuses: str
    elapsed: list[float | None]
    sent: str
    details: dict[str, str]
    values: list[Any] | None


@attrs.define
class Skipped:
    """What could not be read.

    Attributes:
        torn: lines that are no JSON, as after a crash.
        unreadable: lines with what Python can't read: NaN, a number of thousands of digits, too deep nesting.
        later: lines of a later version of the format.
        foreign: lines that are JSON, but no round.
        damaged: files that ended too early, with the reason.
    """

    torn: int = 0
    unreadable: int = 0
    later: int = 0
    foreign: int = 0
    damaged: list[str] = attrs.Factory(list)

    def __str__(self) -> str:
        kinds = {
            "torn": self.torn,
            "unreadable": self.unreadable,
            "of a later version": self.later,
            "no round": self.foreign,
        }
        return ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)


def read_record(paths: Iterable[Path], skipped: Skipped) -> Iterator[Round]:
    """All rounds of some files, those of the file that begins first before the others'.

    Within a file they come as they were written: when they ended.

    Args:
        paths: the record's parts in any order, gzipped or not, whatever their names say.
        skipped: is told what could not be read.

    Raises:
        OSError: a file can't be read.
    """
    parts = list(paths)
    if len(parts) > 1:  # a pipe can be read only once
        parts.sort(key=_begin)
    for path in parts:
        yield from _rounds_of(path, skipped)


def _begin(path: Path) -> float:
    first = next(_rounds_of(path, Skipped()), None)
    return first.started if first else 0.0


def _rounds_of(path: Path, skipped: Skipped) -> Iterator[Round]:
    with path.open("rb") as file:
        unpacked: IO[bytes] = file
        if file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
            unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=file))
        try:
            for line in _lines(unpacked, skipped):
                yield from _read(line, skipped)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            skipped.damaged.append(f"{path.name}: {error}")
        except OSError as error:
            error.filename = error.filename or str(path)
            raise


def _lines(file: IO[bytes], skipped: Skipped) -> Iterator[bytes]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) < _LONGEST_LINE or line.endswith(b"\n"):
            yield line
            continue
        skipped.foreign += 1
        while line and not line.endswith(b"\n"):
            line = file.readline(_LONGEST_LINE)


def _read(line: bytes, skipped: Skipped) -> Iterator[Round]:
    """The round of a line; also the one that was written behind a torn one, when the program was back."""
    if line.isspace():
        return
    try:
        told = _decode(line)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
            skipped.torn += 1
        else:
            skipped.unreadable += 1
        yield from _behind_torn(line)
        return
    if (found := _as_round(told)) is not None:
        yield found
    elif isinstance(told, dict) and type(version := told.get("v")) is int and version > VERSION:
        skipped.later += 1
    else:
        skipped.foreign += 1


def _behind_torn(line: bytes) -> Iterator[Round]:
    """A whole round at the end of a line; no text can look like its start, since its quotes are escaped."""
    for start in itertools.islice(_START.finditer(line, 1), _MOST_STARTS):
        with contextlib.suppress(ValueError, RecursionError):
            if (found := _as_round(_decode(line[start.start() :]))) is not None:
                yield found
                return


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)


def _decode(line: bytes) -> Any:
    return _DECODER.decode(line.decode())


def _as_round(told: Any) -> Round | None:
    """The round that a line tells of; None if it has another form."""
    if not isinstance(told, dict) or told.get("v") != VERSION:
        return None
    try:
        fields: dict[str, Any] = {field: told.get(field) for field in _FIELDS}
        found = Round(**fields)
        return found if _is_sound(found) else None
    except (TypeError, OverflowError):
        return None


_FIELDS: Final = tuple(field.name for field in attrs.fields(Round))
_NUMBERS: Final = frozenset({int, float})
_NUMBERS_OR_NONE: Final = _NUMBERS | {type(None)}
_SUCCEEDED: Final = bytes(letter == ord("S") for letter in range(256))


def _is_sound(found: Round) -> bool:
    """Whether all that is made of a round can be made of it."""
    count = len(found.model_ids)
    columns = (found.model_ids, found.deployment_ids, found.elapsed)
    return (
        all(type(text) is str for text in (found.crunch_id, found.method, found.statuses, found.sent))
        and (type(found.id) is str or (type(found.id) is int and abs(found.id) < 1 << 62))
        and all(type(column) is list for column in columns)
        and all(len(column) == count for column in (*columns, found.statuses, found.sent))
        and set(found.statuses) <= _STATUSES
        and set(found.sent) <= set("01")
        and set(map(type, found.model_ids)) <= {str}
        and set(map(type, found.deployment_ids)) <= {str, type(None)}
        and type(found.details) is dict
        and all(type(text) is str for text in found.details.values())
        and (found.values is None or (type(found.values) is list and len(found.values) == count))
        and _is_time(found.started, _END_OF_TIME)
        and _is_time(found.seconds)
        and (found.timeout is None or _is_time(found.timeout))
        and _are_times(found.elapsed, found.statuses)
    )


def _is_time(seconds: Any, most: float = _LONGEST_NUMBER) -> bool:
    return type(seconds) in _NUMBERS and 0 <= seconds < most


def _are_times(elapsed: list[float | None], statuses: str) -> bool:
    kinds = set(map(type, elapsed))
    if not kinds <= _NUMBERS_OR_NONE:
        return False
    numbers = elapsed
    if type(None) in kinds:
        if None in itertools.compress(elapsed, statuses.encode().translate(_SUCCEEDED)):
            return False
        numbers = [each for each in elapsed if each is not None]
    return not numbers or (min(numbers) >= 0 and max(numbers) < _LONGEST_NUMBER)  # type: ignore[type-var, operator]
