"""What comes back from calling models: one result for each, and the round that holds them.

A coordinator must account for every model, so there is a result for those too that failed, were late, sat
out or were not there. Nothing here raises for what a model did; `PredictResult.unwrap` does, for who wants
it. Results are plain values and need no network to be made: a program's own tests make them by hand.

Models are known here only as a `ModelIdentity`. Values never show in a repr, since logs are full of reprs
and predictions may be secret, or large; `PredictResult.to_dict` is the way to write them down on purpose.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast

import attrs
from typing_extensions import TypeVar

from ..errors import ModelError
from .jsonable import to_plain
from .refusal import Refusal

if TYPE_CHECKING:  # of the house above, and only its name: what a type checker takes where none is given
    from ..model.runner import ModelRunner

__all__ = ["ModelIdentity", "PredictResult", "PredictionRound", "Status"]

ValueT_co = TypeVar("ValueT_co", covariant=True, default=Any)
ModelT = TypeVar("ModelT", bound="ModelIdentity", default="ModelRunner")
ModelT_co = TypeVar("ModelT_co", bound="ModelIdentity", covariant=True, default="ModelRunner")

_LONGEST_DETAIL_SHOWN = 80


class ModelIdentity(Protocol):
    """What a result needs to know of a model; a `ModelRunner` has it, and so may a test's own class.

    Attributes:
        model_id: stable over deployments.
        deployment_id: new for every deployment; None where the orchestrator is too old to say.
        name: for people; "" where unknown.
    """

    @property
    def model_id(self) -> str: ...  # noqa: D102

    @property
    def deployment_id(self) -> str | None: ...  # noqa: D102

    @property
    def name(self) -> str: ...  # noqa: D102


class Status(enum.StrEnum):
    """How a call ended.

    Attributes:
        SUCCESS: there is a value (None, if that is what the model's method returned).
        FAILED: the model raised, its answer could not be read, or the connection was lost.
        TIMEOUT: no answer by the deadline.
        SKIPPED: it was not called: it sits out after timeouts, or has too many calls waiting.
        ABSENT: announced, but not ready when the round began; or it has left.
    """

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    SKIPPED = "SKIPPED"
    ABSENT = "ABSENT"


@attrs.frozen(repr=False)
class PredictResult(Generic[ValueT_co, ModelT_co]):
    """What became of one call on one model.

    For type checkers: ``PredictResult[float]`` has a float for a value and is from a `ModelRunner`; one from
    a model of another class is a ``PredictResult[float, ThatClass]``.

    Attributes:
        model: whom it is from.
        status: how it ended; the name of a status is taken too.
        value: the answer; None unless `status` is SUCCESS.
        elapsed: seconds from handing the request to the connection until the answer; 0.0 for SKIPPED and
            ABSENT.
        detail: what went wrong, for people, in the model's or the node's words where there are any.
        error: the exception behind it, where there is one.
    """

    model: ModelT_co
    status: Status = attrs.field(converter=Status)
    value: ValueT_co | None = attrs.field(default=None, hash=False)
    elapsed: float = 0.0
    detail: str = ""
    error: BaseException | None = attrs.field(default=None, hash=False)

    def unwrap(self) -> ValueT_co:
        """Return the value.

        Raises:
            ModelError: there is none, since `status` is not SUCCESS. Its text names the model, its
                ``result`` is this result, and its cause is `error`.
        """
        if self.status is Status.SUCCESS:
            return cast("ValueT_co", self.value)
        model_id, name = self.model.model_id, self.model.name
        who = f"model {name} ({model_id})" if name else f"model {model_id}"
        text = f"{who}: {self.status}" + (f": {self.detail}" if self.detail else "")
        raise ModelError(text, result=self) from self.error

    def to_dict(self) -> dict[str, Any]:
        """Return this result as a dict that `json.dumps` takes, a copy.

        Keys: ``model_id``, ``deployment_id``, ``model_name``, ``status``, ``value``, ``elapsed`` (seconds),
        ``detail`` and ``error`` (the exception's type, or None). Values are converted as for sending them in
        JSON: tuples become lists, attrs and dataclass instances dicts. One that JSON can't express, such as
        a data frame, is None there, and a key ``value_type`` names its type. NaN and infinities stay.
        """
        row: dict[str, Any] = {
            "model_id": self.model.model_id,
            "deployment_id": self.model.deployment_id,
            "model_name": self.model.name,
            "status": self.status.value,
            "value": None,
            "elapsed": self.elapsed,
            "detail": self.detail,
            "error": None if self.error is None else type(self.error).__name__,
        }
        try:
            row["value"] = to_plain(self.value)
        except Refusal:
            row["value_type"] = f"{type(self.value).__module__}.{type(self.value).__qualname__}"
        return row

    def __repr__(self) -> str:
        """Show the model, the status and the beginning of the detail, never the value."""
        detail = self.detail
        if len(detail) > _LONGEST_DETAIL_SHOWN:
            detail = f"{detail[:_LONGEST_DETAIL_SHOWN]}..."
        told = f", detail={detail!r}" if detail else ""
        return f"<PredictResult {self.model.model_id}: {self.status} after {self.elapsed:.3f} s{told}>"


class PredictionRound(Mapping[ModelT, PredictResult[ValueT_co, ModelT]], Generic[ValueT_co, ModelT]):
    """The results of calling many models at once: a read-only mapping from model to `PredictResult`.

    It has one entry for every model that was announced, or asked for, when the round began. ``str()`` of
    it is one line with counts::

        round 7f3a: predict: 45 of 50 SUCCESS (2 FAILED, 3 TIMEOUT) in 0.998 s of 1.0 s

    For type checkers: ``PredictionRound[float]`` maps `ModelRunner` to ``PredictResult[float]``.

    Attributes:
        id: of this round, for logs.
        method: the method that was called.
        started_at: when it began, POSIX seconds.
        elapsed: how long it took, seconds.
        timeout: how long it could have taken, seconds; `math.inf` for no limit.
        missing: ids that were asked for and have never been announced, so that there is no model to have a
            result.
    """

    def __init__(
        self,
        results: Mapping[ModelT, PredictResult[ValueT_co, ModelT]],
        *,
        id: str,  # noqa: A002  what it is called outside, too
        method: str,
        started_at: float,
        elapsed: float,
        timeout: float,
        missing: Iterable[str] = (),
    ) -> None:
        self._results = dict(results)
        self.id = id
        self.method = method
        self.started_at = started_at
        self.elapsed = elapsed
        self.timeout = timeout
        self.missing = tuple(missing)

    def __getitem__(self, model: ModelT, /) -> PredictResult[ValueT_co, ModelT]:
        """Return the result of `model`."""
        return self._results[model]

    def __iter__(self) -> Iterator[ModelT]:
        """Iterate over the models."""
        return iter(self._results)

    def __len__(self) -> int:
        """Count the models."""
        return len(self._results)

    @property
    def succeeded(self) -> Mapping[ModelT, PredictResult[ValueT_co, ModelT]]:
        """The results with a value."""
        return self._by_status[Status.SUCCESS]

    @property
    def failed(self) -> Mapping[ModelT, PredictResult[ValueT_co, ModelT]]:
        """The results that are FAILED."""
        return self._by_status[Status.FAILED]

    @property
    def timed_out(self) -> Mapping[ModelT, PredictResult[ValueT_co, ModelT]]:
        """The results that are TIMEOUT."""
        return self._by_status[Status.TIMEOUT]

    @property
    def skipped(self) -> Mapping[ModelT, PredictResult[ValueT_co, ModelT]]:
        """The results that are SKIPPED."""
        return self._by_status[Status.SKIPPED]

    @property
    def absent(self) -> Mapping[ModelT, PredictResult[ValueT_co, ModelT]]:
        """The results that are ABSENT."""
        return self._by_status[Status.ABSENT]

    @cached_property
    def by_id(self) -> Mapping[str, PredictResult[ValueT_co, ModelT]]:
        """The results by model id. Where two deployments of one model took part, the later entry counts."""
        return MappingProxyType({model.model_id: result for model, result in self._results.items()})

    @cached_property
    def _by_status(self) -> dict[Status, Mapping[ModelT, PredictResult[ValueT_co, ModelT]]]:
        return {
            status: MappingProxyType(
                {model: result for model, result in self._results.items() if result.status is status}
            )
            for status in Status
        }

    def to_dict(self) -> dict[str, Any]:
        """Return this round as a dict that `json.dumps` takes.

        Keys: ``id``, ``method``, ``started_at`` (POSIX seconds), ``elapsed`` (seconds), ``timeout`` (seconds,
        None for no limit), ``counts`` (by status), ``missing`` (ids) and ``results`` (a list; see
        `PredictResult.to_dict`).
        """
        return {
            "id": self.id,
            "method": self.method,
            "started_at": self.started_at,
            "elapsed": self.elapsed,
            "timeout": None if math.isinf(self.timeout) else self.timeout,
            "counts": {status.value: len(group) for status, group in self._by_status.items()},
            "missing": list(self.missing),
            "results": [result.to_dict() for result in self._results.values()],
        }

    def __str__(self) -> str:
        """Say in one line what came of it."""
        others = [
            f"{len(group)} {status}"
            for status, group in self._by_status.items()
            if group and status is not Status.SUCCESS
        ]
        if self.missing:
            others.append(f"{len(self.missing)} missing")
        rest = f" ({', '.join(others)})" if others else ""
        limit = "" if math.isinf(self.timeout) else f" of {round(self.timeout, 3)} s"
        counts = f"{len(self.succeeded)} of {len(self)} SUCCESS{rest}"
        return f"round {self.id}: {self.method}: {counts} in {self.elapsed:.3f} s{limit}"

    def __repr__(self) -> str:
        """Show the same line, never a value."""
        return f"<PredictionRound: {self}>"
