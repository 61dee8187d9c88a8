"""The models of a runner, and the life of its cluster: one after each `init`, until it is closed.

A runner belongs to the asyncio loop in which it was initialised; in another one it is refused. When its loop
has ended, it may be initialised again. In a process that was forked meanwhile, it has no models, and is
refused. Nothing here refers to its owner: so a runner that is dropped ends at once. This module must not know
what a call carries.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
import weakref
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any

from ..cluster.snapshot import counts_of
from ..config import ClusterConfig
from ..errors import OrchestratorUnavailable
from ..model.actor import ModelActor
from ..model.handle import ModelRunner as Handle
from ..model.handle import operator_of
from ..services import NodeService
from ..text import quoted, shown
from ..values.failure_codes import FailureCode
from ..values.results import Model, ModelState
from .engine import Engine
from .results import ModelRunner, homes

__all__ = ["ModelCluster", "ModelsRun"]


class ModelCluster:
    """The models of one runner.

    Attributes:
        crunch_id: the competition.
        models_run: the models that are ready, by id.
    """

    def __init__(self, config: ClusterConfig, service: NodeService) -> None:
        self.crunch_id = config.crunch_id
        self._known = _Known()
        self.models_run = ModelsRun(self._known)
        self._config = config
        self._service = service
        self._engine: Engine | None = None
        self._ends_if_dropped = weakref.finalize(self, lambda: None)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changing = asyncio.Lock()

    @property
    def report_failure(self) -> bool:
        """Whether models that exceed the limits are reported."""
        return self._config.report_failures

    @property
    def initialised(self) -> bool:
        """Whether `init` has succeeded, be it closed since or not."""
        return self._engine is not None

    async def init(self) -> None:
        """Connect to the orchestrator, and set up the models that it names. Does nothing if that was done.

        Raises:
            ConnectionError: the orchestrator sent no list of models within ``orchestrator_timeout``.
            RuntimeError: it was initialised in another event loop, which has not ended.
        """
        await self._enter_loop()
        async with self._changing:
            if self._engine is not None and not self._engine.ended:
                return
            engine = Engine(self._config, self._service)
            try:
                await engine.enter()
            except OrchestratorUnavailable as error:
                raise ConnectionError(str(error)) from error
            self._engine = self.models_run.engine = engine
            self._ends_if_dropped.detach()
            self._ends_if_dropped = weakref.finalize(self, engine.begin_end)

    async def sync(self) -> None:
        """Wait until the cluster is closed: it keeps itself up to date. This begins with `init` if need be.

        Raises:
            ConnectionError: see `init`.
            RuntimeError: see `engine`.
            Exception: whatever ended the cluster, if it was not closed.
        """
        if self._engine is None:
            await self.init()
        await self.engine().wait_ended()

    async def close(self) -> None:
        """Tell all nodes and the orchestrator goodbye, and end the thread. Does nothing if that was done.

        Nor in a forked process, which need not say goodbye.

        Raises:
            RuntimeError: it was initialised in another event loop, which has not ended.
        """
        if self._is_forked:
            return
        await self._enter_loop()
        async with self._changing:
            if self._engine is not None:
                await self._engine.close()

    async def process_failure(
        self, model_runner: ModelRunner, failure_code: FailureCode | str, failure_reason: str | None = None
    ) -> None:
        """Report a model to the orchestrator, which stops it; see `Cluster.report_failure`.

        This logs a warning and does nothing where `report_failure` is False; nor for a model that is gone.

        Raises:
            TypeError: an argument is of another type.
            ValueError: there is no such code, or the model is another runner's.
            RuntimeError: see `engine`.
        """
        engine = self.engine()
        for model in self.models_of([model_runner]):
            await engine.run(engine.cluster.report_failure, model, failure_code, failure_reason)

    def engine(self) -> Engine:
        """The running cluster.

        Raises:
            RuntimeError: there is none for this event loop.
        """
        engine = self._engine
        if engine is None:
            raise RuntimeError("this runner is not initialised: await init() first")
        if engine.is_forked:
            raise RuntimeError(_FORKED)
        if engine.loop is not asyncio.get_running_loop():
            if engine.ended or engine.loop.is_closed():
                raise RuntimeError("the event loop of this runner has ended: await init() in the new one")
            raise RuntimeError(_ELSEWHERE)
        return engine

    def runner_of(self, model: Model) -> ModelRunner:
        """The runner that stands for a model; always the same one, with what is known now."""
        return self._known.runner_of(model)

    def models_of(self, runners: Iterable[ModelRunner]) -> dict[Model, ModelRunner]:
        """The models that some runners stand for, without those that are gone.

        Raises:
            TypeError: one is no `ModelRunner`.
            ValueError: one stands for another runner's model.
        """
        return self._known.models_of(runners)

    @property
    def _is_forked(self) -> bool:
        return self._engine is not None and self._engine.is_forked

    async def _enter_loop(self) -> None:
        if self._is_forked:
            raise RuntimeError(_FORKED)
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed() and self._is_busy():
            raise RuntimeError(_ELSEWHERE)
        if self._engine is not None and not self._engine.ended:  # its loop was closed, but not what ran in it
            await asyncio.to_thread(self._engine.end_at_once)
        self._loop, self._changing = loop, asyncio.Lock()

    def _is_busy(self) -> bool:
        return self._changing.locked() or (self._engine is not None and not self._engine.ended)


_ELSEWHERE = "this runner was initialised in another event loop: each loop needs a runner of its own"
_FORKED = (
    "this runner was initialised before this process was forked: make another one here, and await init()"
)


class ModelsRun(Mapping[str, ModelRunner]):
    """The models that are ready, by id. It changes with them; each look at it sees one moment.

    Attributes:
        engine: what has them; None before `init`.
    """

    def __init__(self, known: _Known) -> None:
        self.engine: Engine | None = None
        self._known = known

    def __getitem__(self, model_id: str) -> ModelRunner:
        return self._known.runner_of(self._models[model_id])

    def __contains__(self, model_id: object) -> bool:
        return model_id in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def keys(self) -> KeysView[str]:
        """The ids."""
        return self._models.keys()

    def values(self) -> ValuesView[ModelRunner]:
        """The models."""
        return self.copy().values()

    def items(self) -> ItemsView[str, ModelRunner]:
        """Both."""
        return self.copy().items()

    def copy(self) -> dict[str, ModelRunner]:
        """The models as of now, as a dict."""
        return {model_id: self._known.runner_of(model) for model_id, model in self._models.items()}

    @property
    def _models(self) -> Mapping[str, Model]:
        if self.engine is None or self.engine.is_forked:
            return {}
        return self.engine.cluster.models

    def __repr__(self) -> str:
        return repr(self.copy())


class _Known:
    """Which runner stands for which model. Both threads ask."""

    def __init__(self) -> None:
        self._home = uuid.uuid4().hex
        homes[self._home] = self
        self._lock = threading.Lock()
        self._runners: weakref.WeakKeyDictionary[Model, tuple[ModelRunner, Mapping[str, Any]]] = (
            weakref.WeakKeyDictionary()
        )
        self._models: weakref.WeakValueDictionary[str, Model] = weakref.WeakValueDictionary()

    def runner_of(self, model: Model) -> ModelRunner:
        infos = model.infos
        with self._lock:
            runner, seen = self._runners.get(model, (None, None))
            if runner is None:
                runner = ModelRunner(model.model_id, "", model.deployment_id, "", 0, home=self._home)
                self._models[runner.runner_id] = model
            if seen is not infos:
                runner.infos, runner.model_name = _thawed(infos), model.name
                self._runners[model] = runner, infos
            runner.ip, runner.port = model.host, model.port
        return runner

    def counts_of(self, runner_id: str) -> tuple[int, int] | None:
        """See `Home`."""
        model = self._models.get(runner_id)
        actor = operator_of(model) if isinstance(model, Handle) else None
        if not isinstance(actor, ModelActor) or actor.state is ModelState.GONE:
            return None
        return counts_of(actor.conduct.record)

    def models_of(self, runners: Iterable[ModelRunner]) -> dict[Model, ModelRunner]:
        found: dict[Model, ModelRunner] = {}
        for runner in runners:
            if not isinstance(runner, ModelRunner):
                raise TypeError(f"model_runs: must be ModelRunners, got {shown(runner)}")
            if runner.home != self._home:
                raise ValueError(f"model_runs: {quoted(runner.model_id)} is another runner's model")
            with self._lock:
                model = self._models.get(runner.runner_id)
            if model is not None:
                found[model] = runner
        return found


def _thawed(value: Any) -> Any:
    """What a program may change, and pickle: dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _thawed(item) for key, item in value.items()}
    return [_thawed(item) for item in value] if isinstance(value, tuple) else value
