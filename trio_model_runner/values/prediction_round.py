"""What comes back from calling many models: a mapping with one result for each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Generic

from typing_extensions import TypeVar

from ..text import shown
from .results import Model, ModelIdentity, PredictResult, Status
from .strict_json import strict_json

__all__ = ["PredictionRound"]

ValueT_co = TypeVar("ValueT_co", covariant=True, default=Any)
ModelT = TypeVar("ModelT", bound=ModelIdentity, default=Model)


class PredictionRound(Mapping[ModelT, PredictResult[ValueT_co, ModelT]], Generic[ValueT_co, ModelT]):
    """The results of calling many models at once: a read-only mapping from model to `PredictResult`.

    It has one entry for every model that was announced when the round began, or for every model in
    ``models=`` if that was given. ``str()`` of a round is one line with counts::

        round 7f3a: predict: 45 of 50 SUCCESS (2 FAILED, 3 TIMEOUT) in 0.998 s of 1.0 s

    For type checkers: ``PredictionRound[float]`` maps `Model` to ``PredictResult[float]``.

    Attributes:
        id: the round's id, for logs.
        method: the method that was called.
        started_at: when it began, POSIX seconds.
        elapsed: how long it took, seconds.
        timeout: how long it could have taken, seconds; `math.inf` for no limit.
        missing: the ids in ``models=`` that have never been announced. There is no model for them, and no
            result.
    """

    def __init__(
        self,
        results: Mapping[ModelT, PredictResult[ValueT_co, ModelT]],
        *,
        id: str,  # noqa: A002 - coordinators know it by this name
        method: str,
        started_at: float,
        elapsed: float,
        timeout: float,
        missing: Iterable[str] = (),
    ) -> None:
        self._results: Mapping[ModelT, PredictResult[ValueT_co, ModelT]] = dict(results)
        self.id = id
        self.method = method
        self.started_at = started_at
        self.elapsed = elapsed
        self.timeout = timeout
        self.missing = tuple(missing)

    def __getitem__(self, model: ModelT, /) -> PredictResult[ValueT_co, ModelT]:
        """Return the result of `model`.

        Raises:
            KeyError: it was not in this round, or is an id.
        """
        if isinstance(model, str):
            raise KeyError(f"the keys are models; by_id has the results by model id, such as {shown(model)}")
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
        """The results by model id. If two deployments of one model took part, the later entry counts."""
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
        """Return this round as strict JSON, a copy: ``json.dumps(..., allow_nan=False)`` takes it.

        Keys: ``id``, ``method``, ``started_at`` (POSIX seconds), ``elapsed`` (seconds), ``timeout`` (seconds,
        None for no limit), ``counts`` (by status), ``missing`` (ids) and ``results`` (a list; see
        `PredictResult.to_dict`).
        """
        told = {
            "id": self.id,
            "method": self.method,
            "started_at": self.started_at,
            "elapsed": self.elapsed,
            "timeout": self.timeout,
            "counts": {status.value: len(group) for status, group in self._by_status.items()},
            "missing": self.missing,
        }
        row: dict[str, Any] = strict_json(told)
        row["results"] = [result.to_dict() for result in self._results.values()]
        return row

    def __str__(self) -> str:
        """Say in one line how the round ended."""
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
        """Show the line of ``str()``, never a value."""
        return f"<PredictionRound: {self}>"
