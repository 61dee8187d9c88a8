"""Labels of a pandas frame, tried before the frame is sent: they come back equal, or are refused.

Arrow's columns have texts as names. What the labels of a pandas frame were stands in the schema's metadata,
and pandas makes them anew where the frame is read. For many it can't: of booleans it makes ``[True, True]``,
and intervals raise an error, which a node takes for its model's. So labels go on a trip here, through
pyarrow, Parquet and pandas, without the frame. What does not come back equal is refused. That covers
whichever releases of both are installed here.

What other releases do is told by what happened when they were tried (pandas 2.0 to 2.3, pyarrow 14 to 26):
see `_lost_elsewhere`, and `_stays_bare` for indexes.

Most frames have labels of few kinds, whose trip does not depend on the values: these go once, as a few of
them, and the outcome is kept for their kind.
"""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Hashable
from typing import Any, Final

import attrs

from ..refusal import Refusal
from .equality import holds_objects, is_missing, kind_of, same_as_labels
from .time_zones import has_moving_times, is_known_zone, told_of_moving

__all__ = ["refuse_changed_labels"]

_ALIKE: Final = frozenset({"bytes", "boolean", "empty"})
"""Kinds of objects (as pandas infers them) of which a few stand for all."""

_LOST: Final = "would not come back equal from Parquet"
_EXACT: Final = 2**53  # floats hold all whole numbers up to here
_MOST_KEPT: Final = 1000
_outcomes: dict[Hashable, str | None] = {}


def refuse_changed_labels(pyarrow: Any, pandas: Any, frame: Any) -> None:
    """Refuse a frame whose labels would not come back equal: those of its columns, then those of its index.

    Raises:
        Refusal: the reason names the axis, the labels' type, and what to do.
    """
    trials = _Trials(pyarrow, pandas)
    for axis in (_Axis("columns", frame.columns), _Axis("index", frame.index)):
        reason = trials.outcome(axis)
        if reason is not None:
            raise Refusal(TypeError, reason)


@attrs.frozen
class _Axis:
    """The labels of one axis of a frame."""

    name: str
    labels: Any

    @property
    def has_levels(self) -> bool:
        """Whether these are tuples, of one value for each level; there may be one level only."""
        return hasattr(self.labels, "levels")

    @property
    def levels(self) -> list[Any]:
        """Each level's different values."""
        return list(self.labels.levels) if self.has_levels else [self.labels]

    @property
    def is_range(self) -> bool:
        return self.name == "index" and type(self.labels).__name__ == "RangeIndex"

    def lacks(self, level: int) -> bool:
        """Say whether a label is missing at a level."""
        labels = self.labels
        return bool((labels.codes[level] < 0).any() if self.has_levels else labels.hasnans)


class _Trials:
    def __init__(self, pyarrow: Any, pandas: Any) -> None:
        self._pyarrow = pyarrow
        self._pandas = pandas

    def outcome(self, axis: _Axis) -> str | None:
        """Try the labels of an axis, or remember their kind's outcome: the reason to refuse them, if any."""
        reason = _refused_names(axis) or self._refused_times(axis) or self._refused_texts(axis)
        if reason is not None:
            return reason
        kinds = [self._kind(axis, place, level) for place, level in enumerate(axis.levels)]
        if axis.is_range:
            return None  # pandas' metadata have its start, stop and step
        if None in kinds:
            return self._tried(axis)
        names = tuple((type(name), name) for name in axis.labels.names)
        key = (axis.name, axis.has_levels, tuple(kinds), names)
        if key not in _outcomes:
            if len(_outcomes) >= _MOST_KEPT:
                _outcomes.clear()
            _outcomes[key] = self._tried(_Axis(axis.name, self._few(axis)))
        return _outcomes[key]

    def _refused_times(self, axis: _Axis) -> str | None:
        """Say which times in a zone are other ones on a node; those of an index are looked at as a column."""
        for place, level in enumerate(axis.levels if axis.name == "columns" else ()):
            if isinstance(level.dtype, self._pandas.DatetimeTZDtype):
                times = self._pyarrow.array(level)
                if has_moving_times(times):
                    what = f"{_blamed(axis, place)} are times {told_of_moving(times.type.tz)}"
                    return f"the labels of {what}{_cure(axis, place)}"
        return None

    def _refused_texts(self, axis: _Axis) -> str | None:
        """Say which level has texts with a zero byte: pandas 2 takes such a text for one that ends there."""
        from pyarrow import compute

        for place, level in enumerate(axis.levels if axis.has_levels else ()):
            if self._pandas.api.types.infer_dtype(level, skipna=True) != "string":
                continue
            try:
                found = compute.any(compute.match_substring(self._pyarrow.array(level), "\0"))
            except (self._pyarrow.ArrowException, TypeError, ValueError):
                continue  # lone surrogates, which do not come back from the trip either
            if found.as_py():
                return f"the labels of {_blamed(axis, place)} (with a zero byte) {_LOST}{_cure(axis, place)}"
        return None

    def _kind(self, axis: _Axis, place: int, level: Any) -> Hashable | None:
        """Say of which kind a level is, if a few of its labels stand for all."""
        dtype, lacks = level.dtype, axis.lacks(place)
        if hasattr(dtype, "categories"):
            if axis.name == "columns":
                return None
            inner = self._kind(_Axis("index", dtype.categories), 0, dtype.categories)
            return None if inner is None else ("category", inner, lacks, dtype.ordered)
        if holds_objects(dtype):
            kind = self._pandas.api.types.infer_dtype(level, skipna=True)
            # Texts of an index are Arrow's; those of columns are shown as Python shows them, in tuples.
            alike = kind in _ALIKE or (kind == "string" and axis.name == "index") or _are_alike(kind, level)
            return (kind, lacks) if alike else None
        if axis.name == "columns" and getattr(dtype, "kind", "") == "M":
            length = _length_of_all(level)
            return None if length is None else (str(dtype), lacks, length)
        if axis.name == "columns" and dtype.kind not in "iuf" and not hasattr(dtype, "storage"):
            return None  # what becomes of the text of a boolean depends on which it is
        if axis.name == "columns" and hasattr(dtype, "pyarrow_dtype"):
            return None  # of unsigned ones, only those that a signed one holds come back
        if lacks and axis.has_levels and dtype.kind in "iu" and _has_long_numbers(level):
            return None  # they are floats then
        return str(dtype), lacks, len(level.dropna() if lacks else level) > 0

    def _few(self, axis: _Axis) -> Any:
        """Take two labels of each level, and a missing one, if there are."""
        labels = axis.labels
        places: set[int] = set()
        for level in range(labels.nlevels):
            if axis.lacks(level):
                missing = labels.codes[level] < 0 if axis.has_levels else labels.isna()
                places.update(missing.nonzero()[0][:1].tolist(), (~missing).nonzero()[0][:2].tolist())
            else:
                places.update(range(min(len(labels), 2)))
        few = labels.take(sorted(places))
        return few.remove_unused_levels() if axis.has_levels else few

    def _tried(self, axis: _Axis) -> str | None:
        """Send labels on the trip, and say what is wrong with those that come to harm."""
        if self._comes_back(axis):
            return None
        if len(axis.levels) == 1:
            return self._reason(axis, 0)
        parts = (self._level(axis, place) for place in range(len(axis.levels)))
        guilty = next((place for place, part in enumerate(parts) if not self._comes_back(part)), None)
        if guilty is None:  # pyarrow takes the zone of any level from the first one
            times = (place for place, level in enumerate(axis.levels[1:], 1) if level.dtype.kind == "M")
            guilty = next(times, None)
        return self._reason(axis, guilty)

    def _level(self, axis: _Axis, place: int) -> _Axis:
        values = axis.labels.get_level_values(place).rename(None)
        return _Axis(axis.name, values.unique() if axis.name == "columns" else values)

    def _comes_back(self, axis: _Axis) -> bool:
        labels = axis.labels
        if axis.name == "columns" and any(map(self._is_mixed, axis.levels)):
            return False  # pyarrow would warn, and make text of them
        if any(str(level.dtype).endswith("_view[pyarrow]") for level in axis.levels):
            return False  # an older pyarrow does not know them
        try:
            table = self._pyarrow.Table.from_pandas(self._pandas.DataFrame(**{axis.name: labels}))
            if axis.name == "columns":
                lost = _lost_elsewhere(table, axis)
            else:
                lost = any(_stays_bare(self._pyarrow, kind) for kind in table.schema.types)
            got = getattr(self._read(table), axis.name)
        except MemoryError:
            raise
        except Exception:  # pyarrow's and pandas' own, of any class, and those of objects that are labels
            return False
        return not lost and _are_same(labels, got)

    def _is_mixed(self, level: Any) -> bool:
        return "mixed" in self._pandas.api.types.infer_dtype(level, skipna=False)

    def _read(self, table: Any) -> Any:
        from pyarrow import parquet

        if not table.num_rows:  # labels of columns: Parquet keeps the metadata as they are
            return table.to_pandas()
        sink = io.BytesIO()
        parquet.write_table(table, sink)
        return parquet.ParquetFile(sink).read().to_pandas()

    def _reason(self, axis: _Axis, place: int | None) -> str:
        """Say what the labels are, or those of one level, and what to do."""
        if place is None:
            return f"the labels of the {axis.name} {_LOST}{_cure(axis, None)}"
        level = axis.levels[place]
        kind = str(level.dtype)
        if holds_objects(level.dtype):
            kind = f"objects, {self._pandas.api.types.infer_dtype(level, skipna=True)}"
        if axis.has_levels and len(axis.levels) == 1:
            kind = f"a MultiIndex of one level, {kind}"
        lacks = ", some missing" if axis.lacks(place) else ""
        return f"the labels of {_blamed(axis, place)} ({kind}{lacks}) {_LOST}{_cure(axis, place)}"


def _blamed(axis: _Axis, place: int) -> str:
    return f"level {place + 1} of the {axis.name}" if axis.labels.nlevels > 1 else f"the {axis.name}"


def _cure(axis: _Axis, level: int | None) -> str:
    this = f"frame.{axis.name}"
    levels = axis.levels if level is None else [axis.levels[level]]
    way = "ascii" if any(map(_needs_escapes, levels)) else "str"
    if not axis.has_levels:
        # What is missing stays missing with `astype`.
        text = f"{this}.map({way})" if axis.lacks(0) or way == "ascii" else f"{this}.astype(str)"
    elif len(axis.levels) == 1:
        text = f"{this}.get_level_values(0).map({way})"
    elif level is None or axis.lacks(level):
        text = f"{this}.map(lambda label: tuple(map({way}, label)))"
    else:
        old = f"{this}.levels[{level}]"
        new = f"{old}.map(ascii)" if way == "ascii" else f"{old}.astype(str)"
        text = f"{this}.set_levels({new}, level={level})"
    return f" (make them text: {this} = {text})"


def _needs_escapes(level: Any) -> bool:
    """Say whether some labels are no text that arrives: bytes, lone surrogates, zero bytes."""
    texts = (each for each in level if isinstance(each, str))
    return any(isinstance(each, bytes) for each in level) or any(
        "\0" in each or not _is_utf8(each) for each in texts
    )


def _refused_names(axis: _Axis) -> str | None:
    """Say which name of labels would not come back: pyarrow makes text of some, and fails at others."""
    fits: tuple[str, ...] = ("text",)
    if axis.name == "columns" or axis.is_range:
        fits = ("text", "bool", "integer", "number")
    names = axis.labels.names
    wrong = (
        place for place, name in enumerate(names) if name is not None and not _comes_back_as_name(name, fits)
    )
    place = next(wrong, None)
    if place is None:
        if axis.name == "columns" and not len(axis.labels) and any(name is not None for name in names):
            none = f"frame.columns = frame.columns.rename({[None] * len(names) if axis.has_levels else None})"
            return f"the name of the columns {_LOST}, since there are none (leave it out: {none})"
        return None
    this = f"frame.{axis.name}"
    of = _blamed(axis, place)
    if isinstance(names[place], str):
        return f"the name of {of} {_LOST} (give it another one: {this}.names = ...)"
    text = f"{this}.rename(str({this}.name))"
    if axis.has_levels:
        text = f"{this}.set_names(str({this}.names[{place}]), level={place})"
    return f"the name of {of} ({type(names[place]).__name__}) {_LOST} (make it text: {this} = {text})"


def _comes_back_as_name(name: Any, fits: tuple[str, ...]) -> bool:
    return kind_of(name) in fits and _is_plain(name)


def _is_plain(name: Any) -> bool:
    """Say whether JSON has a name as it is, and pyarrow does not take it for one that it made up."""
    if isinstance(name, str):
        return _is_utf8(name) and not (name.startswith("__index_level_") and name.endswith("__"))
    return type(name) in (bool, int, float) and not is_missing(name) and abs(name) < 2**63


def _has_long_numbers(level: Any) -> bool:
    return len(level) > 0 and max(abs(int(level.min())), abs(int(level.max()))) > _EXACT


def _are_alike(kind: str, labels: Any) -> bool:
    """Say whether a few stand for all texts, whole numbers or dates: none has a class of its own."""
    there = labels.dropna()
    types = set(map(type, there))
    if kind == "string":
        return types == {str} and _is_utf8("".join(there))
    if kind == "integer":
        return types == {int} and -(2**63) <= min(there) <= max(there) < 2**63
    return kind == "date" and types == {datetime.date}


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stays_bare(pyarrow: Any, kind: Any) -> bool:
    """Say whether a node reads another type for an index: it may not have registered extension types yet."""
    if isinstance(kind, pyarrow.BaseExtensionType):
        return True
    return pyarrow.types.is_timestamp(kind) and kind.tz is not None and not is_known_zone(kind.tz)


def _lost_elsewhere(table: Any, axis: _Axis) -> bool:
    """Say whether labels of columns are lost with other releases, although they may not be with those here.

    With pyarrow 18 bytes are an error, with 15 booleans, decimals, and several levels without any label. With
    pandas 2.0 times are one whose texts have different forms, or that nanoseconds can't hold. A missing text
    may be None, NaN or the text ``nan``.
    """
    facts = json.loads(table.schema.metadata[b"pandas"])
    if axis.labels.nlevels > 1 and not len(axis.labels):
        return True
    for place, (said, level) in enumerate(zip(facts["column_indexes"], axis.levels, strict=True)):
        if said["pandas_type"] in ("bytes", "decimal", "bool", "boolean"):
            return True
        if level.dtype.kind == "O" and axis.lacks(place):
            return True
        if said["pandas_type"].startswith("datetime") and _length_of_all(level) is None:
            return True
    return False


def _length_of_all(times: Any) -> int | None:
    """Say how long the texts of times are, if all are alike, and in nanoseconds' years (1678 to 2261)."""
    there = [time for time in times if not is_missing(time)]
    lengths = {len(str(time)) if 1678 <= time.year <= 2261 else None for time in there}
    return lengths.pop() if len(lengths) == 1 else (None if lengths else 0)


def _are_same(labels: Any, got: Any) -> bool:
    if labels.nlevels != got.nlevels or len(labels) != len(got):
        return False
    if hasattr(labels, "levels") != hasattr(got, "levels"):
        return False
    if not all(map(same_as_labels, labels.names, got.names)):
        return False
    if not hasattr(labels, "levels"):
        return all(map(same_as_labels, labels, got))
    return all(_are_same_at(labels, got, place) for place in range(labels.nlevels))


def _are_same_at(labels: Any, got: Any, place: int) -> bool:
    """Compare one level: its different values, if both have the same codes for them, or label by label.

    The labels of all levels as tuples would be made at once, and hold up the event loop.
    """
    ours, theirs = labels.levels[place], got.levels[place]
    codes = labels.codes[place]
    is_alike = len(ours) == len(theirs) and bool((codes == got.codes[place]).all())
    if is_alike and not (codes < 0).any():
        return all(map(same_as_labels, ours, theirs))
    return all(map(same_as_labels, labels.get_level_values(place), got.get_level_values(place)))
