"""The models of a runner, and the life of its cluster: one after each `init`, until it is closed.

A runner belongs to the asyncio loop in which it was initialised; in another one it is refused. When its loop
has ended, it may be initialised again. This module must not know what a call carries.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import AbstractAsyncContextManager
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..config import ClusterConfig
from ..errors import OrchestratorUnavailable
from ..services import NodeService
from ..text import quoted, shown
from ..values.results import Model
from .engine import Engine, running_engine
from .results import ModelRunner

__all__ = ["ModelCluster", "ModelsRun"]


class ModelCluster:
    """The models of one runner.

    Attributes:
        crunch_id: the competition.
        models_run: the models that are ready, by id.
    """

    def __init__(self, config: ClusterConfig, service: NodeService) -> None:
        self.crunch_id = config.crunch_id
        self.models_run = ModelsRun(self)
        self._config = config
        self._service = service
        self._known = _Known()
        self._engine: Engine | None = None
        self._manager: AbstractAsyncContextManager[Engine] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changing = asyncio.Lock()

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
            manager = running_engine(self._config, self._service)
            try:
                self._engine = await manager.__aenter__()
            except OrchestratorUnavailable as error:
                raise ConnectionError(str(error)) from error
            self._manager = manager  # if it is dropped, what it manages ends

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

        Raises:
            RuntimeError: it was initialised in another event loop, which has not ended.
        """
        await self._enter_loop()
        async with self._changing:
            manager, self._manager = self._manager, None
            if manager is not None:
                await manager.__aexit__(None, None, None)

    def engine(self) -> Engine:
        """The running cluster.

        Raises:
            RuntimeError: there is none for this event loop.
        """
        engine = self._engine
        if engine is None:
            raise RuntimeError("this runner is not initialised: await init() first")
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

    def ready(self) -> dict[str, ModelRunner]:
        """The models that are ready, by id, as of now."""
        if self._engine is None:
            return {}
        return {model_id: self.runner_of(model) for model_id, model in self._engine.cluster.models.items()}

    async def _enter_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed() and self._is_busy():
            raise RuntimeError(_ELSEWHERE)
        if self._engine is not None and not self._engine.ended:  # its loop was closed, but not what ran in it
            await asyncio.to_thread(self._engine.end_at_once)
        self._loop, self._changing, self._manager = loop, asyncio.Lock(), None

    def _is_busy(self) -> bool:
        return self._changing.locked() or (self._engine is not None and not self._engine.ended)


_ELSEWHERE = "this runner was initialised in another event loop: each loop needs a runner of its own"


class ModelsRun(Mapping[str, ModelRunner]):
    """The models that are ready, by id. It changes with them; each look at it sees one moment."""

    def __init__(self, cluster: ModelCluster) -> None:
        self._cluster = cluster

    def __getitem__(self, model_id: str) -> ModelRunner:
        return self._cluster.ready()[model_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cluster.ready())

    def __len__(self) -> int:
        return len(self._cluster.ready())

    def keys(self) -> KeysView[str]:
        """The ids."""
        return self._cluster.ready().keys()

    def values(self) -> ValuesView[ModelRunner]:
        """The models."""
        return self._cluster.ready().values()

    def items(self) -> ItemsView[str, ModelRunner]:
        """Both."""
        return self._cluster.ready().items()

    def copy(self) -> dict[str, ModelRunner]:
        """The models as of now, as a dict."""
        return self._cluster.ready()

    def __repr__(self) -> str:
        return repr(self._cluster.ready())


class _Known:
    """Which runner stands for which model. Both threads ask."""

    def __init__(self) -> None:
        self._home = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._runners: WeakKeyDictionary[Model, tuple[ModelRunner, Mapping[str, Any]]] = WeakKeyDictionary()
        self._models: WeakValueDictionary[str, Model] = WeakValueDictionary()

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
