"""Rounds made by hand, and an instrument's life without a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs

from trio_model_runner import PredictionRound, PredictResult, Status
from trio_model_runner.cluster.instrument import Instrument, ObservedCluster


@attrs.frozen
class PlainModel:
    model_id: str
    deployment_id: str | None = "17"
    name: str = ""


def played(
    statuses: str = "SSTFKA", *, round_id: str = "7", method: str = "predict", values: Any = (), **more: Any
) -> PredictionRound[Any, Any]:
    """A round of models m0, m1 ... whose results have these statuses, by their letters in the record."""
    results = {}
    for number, letter in enumerate(statuses):
        model = PlainModel(f"m{number}", str(17 + number))
        results[model] = PredictResult(
            model=model,
            status=STATUSES[letter],
            value=values[number] if number < len(values) else None,
            elapsed=0.0 if letter in "KA" else 0.12345 * (number + 1),
            detail="" if letter == "S" else f"it is {letter}",
            sent=letter in "SFT",
        )
    settings: dict[str, Any] = {"started_at": 1764133200.1234, "elapsed": 0.91234, "timeout": 5.0, **more}
    return PredictionRound(results, id=round_id, method=method, **settings)


STATUSES = {
    "S": Status.SUCCESS,
    "F": Status.FAILED,
    "T": Status.TIMEOUT,
    "K": Status.SKIPPED,
    "A": Status.ABSENT,
}


class Still:
    """A snapshot in which nothing happens."""

    def __init__(self, models: Mapping[str, int]) -> None:
        self.models = models
        self.orchestrator_connected = True

    def to_dict(self) -> dict[str, Any]:
        return {"models": dict(self.models), "orchestrator_connected": True}


def observed(crunch_id: str = "bird-game", models: Mapping[str, int] | None = None) -> ObservedCluster:
    def snapshot(*, models: bool = False) -> Still:
        return Still(counts)

    counts = {"ready": 6} if models is None else models
    return ObservedCluster(crunch_id, "package.Service/Call", snapshot)


@asynccontextmanager
async def listening(instrument: Instrument, crunch_id: str = "bird-game") -> AsyncIterator[None]:
    """Let an instrument live, without a cluster around it."""
    async with instrument.running(observed(crunch_id)):
        yield
