"""The cluster: every model of a crunch, kept up and called, for as long as its block lasts.

This module has all that a coordinator can do, with full signatures, for people and for type checkers: the
type in `returns=` is the type of the values. The work is done elsewhere: `block` runs everything and ends it,
`caller` plays rounds, `fleet` has the models.
"""

from __future__ import annotations

import importlib.util
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import attrs
import trio
from trio.lowlevel import enable_ki_protection
from typing_extensions import TypeVar

from ..config import ClusterConfig
from ..errors import ConfigError
from ..given import check_flag, check_whole_number
from ..model.handle import ModelRunner
from ..model.lifecycle import JoinReason
from ..model.node_resources import NodeResources
from ..model.round_spec import check_size
from ..orchestrator import OrchestratorFeed
from ..services.base import NodeService
from ..text import shown_scalar
from ..trio_needed import trio_needed
from ..values.data import Arguments
from ..values.failure_codes import FailureCode
from ..values.prediction_round import PredictionRound
from ..values.results import Model
from .actors import Actors, OrdinaryActors
from .as_completed import ResultsAsCompleted
from .async_block import AsyncBlock
from .block import Block
from .caller import ArgumentsFor, Caller, MakeRound, Models
from .changes import ChangeListener
from .fleet import Fleet
from .hooks import Hooks, check_instruments
from .instrument import Instrument, ObservedCluster
from .joining import call_on_join
from .rounds import OrdinaryRound
from .snapshot import ClusterSnapshot, take_snapshot

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from ..returns.typing import Returns
    from ..values.encoded import Encoded

__all__ = ["Cluster", "Join", "existing_clusters", "limit_to"]

T = TypeVar("T", default=Any)

Completed = AbstractAsyncContextManager[ResultsAsCompleted[T]]
OnJoin = Callable[["Join"], Awaitable[None]]

_NO_ARGUMENTS = Arguments()


@attrs.frozen
class Join:
    """A model that is about to take part in rounds.

    Attributes:
        model: the model. Its `call` and `predict` work already.
        cluster: the cluster that the model joins.
        reason: "joined" for a new model, "redeployed" for a new deployment of a model, "restarted" for a
            deployment that was set up again after it had been ready.
        fresh: Setup made a new instance, so the model has no history.
    """

    model: ModelRunner
    cluster: Cluster
    reason: JoinReason
    fresh: bool


class Cluster:
    """The models of one crunch, as an async context manager.

        async with Cluster(config, DynamicSubclassService("birdgame.trackers.TrackerBase")) as cluster:
            results = await cluster.call("predict", Arguments("BTC"))

    Entering waits for the orchestrator's list of models, and then, for at most ``startup_timeout``, until
    each of them is ready or has failed. Slower ones join later. All methods may be called from any task.

    Without a service, a cluster only **observes**. It connects to the orchestrator and to all nodes, verifies
    TLS and, where a node's answer to a health check carries one, the proof. It asks for nothing but health,
    every ``keepalive.interval``: no Setup, no calls, no reports, and `call` and its like raise RuntimeError.
    Models whose nodes answer are ``ModelState.REACHABLE``. Whether the model behind such a node works, nobody
    was asked. Where this class speaks of models that are ready, these are meant then: in `models`,
    `wait_for_models` and JOINED of `changes`.

    Args:
        config: the settings.
        service: the gRPC service that the model nodes have; None only observes.
        on_join: an async function that catches a model up before it takes part in rounds. It is called at the
            model's first join, and again whenever the model has lost its history. It may call the model
            through ``join.model``. If it raises, or takes longer than ``on_join_timeout``, the model stays
            out until it is announced again.
        instruments: what listens, such as a `RoundRecorder`; see `trio_model_runner.instruments`. They live
            as long as the block, and can't harm it.

    Raises:
        TypeError: `config`, `service`, `on_join`, `instruments` or an argument for the setup is of another
            type; or `on_join` is given without a service.
        ValueError: an argument for the setup is out of range or too large.
        ConfigError: ``frames`` is "pandas", and pandas or pyarrow is not installed.
        OrchestratorUnavailable: on entering, if no list came within ``orchestrator_timeout``.
        RuntimeError: on entering, if no Trio runs here, or the cluster was entered before.
    """

    def __init__(
        self,
        config: ClusterConfig,
        service: NodeService | None = None,
        *,
        on_join: OnJoin | None = None,
        instruments: Iterable[Instrument] = (),
    ) -> None:
        if not isinstance(config, ClusterConfig):
            raise TypeError(f"config: must be a ClusterConfig, got {type(config).__name__}")
        if service is not None and not isinstance(service, NodeService):
            example = "DynamicSubclassService('package.module.ClassName')"
            raise TypeError(f"service: must be a service such as {example}, got {shown_scalar(service)}")
        if on_join is not None and not callable(on_join):
            raise TypeError(f"on_join: must be an async function, got {type(on_join).__name__}")
        if service is not None:
            if config.frames == "pandas":
                _check_installed("pandas", "pyarrow")
            check_size(service.setup_request(), config.limits.max_message_bytes)
        elif on_join is not None:
            raise TypeError(
                "on_join: needs a service; a Cluster without one only observes, and nothing joins"
            )
        else:
            config = attrs.evolve(config, report_failures=False)
        self._config = config
        self._on_join = on_join
        self._feed = OrchestratorFeed(config)
        self._hooks = self._hooks_of(check_instruments(instruments), service)
        actors, make_round = self._kind_of_actors(service)
        self._fleet: Fleet[Any] = Fleet(
            config,
            self._feed,
            actors,
            join=self._join,
            hooks=self._hooks,
            instance_name="" if service is None else service.instance_name,
        )
        self._caller = self._fleet.calls = Caller(config, service, self._fleet, make_round, self._hooks)
        self._manager: AbstractAsyncContextManager[None] | None = None
        _existing.add(self)

    def _kind_of_actors(self, service: NodeService | None) -> tuple[Actors[Any], MakeRound[Any]]:
        """What makes the models' actors, and rounds of them. It is all that kinds of clusters differ in."""
        self._resources = NodeResources(self._config, service)
        return OrdinaryActors(self._resources), OrdinaryRound

    def __repr__(self) -> str:
        """How it is, for a log or a debugger: ``<Cluster bird-game: 45 of 50 models ready>``."""
        models = self._fleet.announced
        up = "reachable" if self._caller.observes else "ready"
        words = [f"{len(self._fleet.ready)} of {len(models)} models {up}"]
        if not self._caller.open:
            words = ["left" if self._caller.run is not None else "not entered"]
        elif not self._feed.connected:
            words.append("orchestrator away")
        if self._caller.draining:
            words.append("draining")
        return f"<{type(self).__name__} {self._config.crunch_id}: {', '.join(words)}>"

    @property
    def config(self) -> ClusterConfig:
        """The settings. `report_failures` is False if the cluster only observes."""
        return self._config

    @property
    def models(self) -> Mapping[str, ModelRunner]:
        """The models that are ready, or reachable if the cluster only observes, by model id, as of now."""
        return self._fleet.ready

    @property
    def announced(self) -> Mapping[str, ModelRunner]:
        """All models that the orchestrator says run or recover, by model id, as of now."""
        return self._fleet.announced

    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: None = ...,
        decode: Literal[False],
    ) -> PredictionRound[Encoded]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: None = ...,
        decode: bool = ...,
    ) -> PredictionRound[Any]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: Returns[T],
    ) -> PredictionRound[T]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: TypeForm[T],
    ) -> PredictionRound[T]: ...
    @enable_ki_protection  # an interrupt at the wrong line could leave a place in a queue taken for ever
    async def call(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = _NO_ARGUMENTS,
        *,
        timeout: float | None = None,
        models: Models | None = None,
        optional: bool = False,
        sit_out: bool = True,
        returns: Any = None,
        decode: bool = True,
    ) -> PredictionRound[Any]:
        """Call a method of all models, and return a result from each by the deadline.

        Args:
            method: the method's name.
            arguments: the arguments for all models; or a function that takes a model and returns its
                arguments.
            timeout: seconds; None for the configured timeout. If the deadline of an enclosing cancel scope is
                nearer, the round ends just before that deadline.
            models: the models to call, as runners or ids; None for all announced models.
            optional: a model without such a method is not reported.
            sit_out: models sit out some calls after timeouts. False calls them, too: for methods that carry
                state, such as `tick`.
            returns: what an answer must look like: a type, or a function that takes the answer and returns
                the value, or raises ValueError. A function runs in the event loop.
            decode: False leaves the answers as they came, as `Encoded`.

        Raises:
            TypeError: an argument can't be sent, or has the wrong type. Nothing was sent.
            ValueError: an argument is out of range, or one of `models` is another cluster's. Nothing was
                sent.
            RuntimeError: the cluster only observes.
            ClusterDraining: `drain` was called.
            trio.ClosedResourceError: the block was not entered, or was left.
        """
        return await self._caller.call(
            method,
            arguments,
            models,
            timeout=timeout,
            optional=optional,
            sit_out=sit_out,
            returns=returns,
            decode=decode,
        )

    @overload
    async def predict(
        self,
        *values: Any,
        timeout: float | None = ...,
        models: Models | None = ...,
        returns: None = ...,
        decode: Literal[False],
    ) -> PredictionRound[Encoded]: ...
    @overload
    async def predict(
        self,
        *values: Any,
        timeout: float | None = ...,
        models: Models | None = ...,
        returns: None = ...,
        decode: bool = ...,
    ) -> PredictionRound[Any]: ...
    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., models: Models | None = ..., returns: Returns[T]
    ) -> PredictionRound[T]: ...
    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., models: Models | None = ..., returns: TypeForm[T]
    ) -> PredictionRound[T]: ...
    @enable_ki_protection
    async def predict(
        self,
        *values: Any,
        timeout: float | None = None,
        models: Models | None = None,
        returns: Any = None,
        decode: bool = True,
    ) -> PredictionRound[Any]:
        """Have all models predict from these values; see `call`.

        This calls the method ``predict`` on `DynamicSubclassService`. On the services that infer, it calls
        `Infer`, which takes exactly one value.
        """
        return await self._caller.predict(values, models, timeout=timeout, returns=returns, decode=decode)

    @overload
    def as_completed(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: None = ...,
        decode: Literal[False],
    ) -> Completed[Encoded]: ...
    @overload
    def as_completed(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: None = ...,
        decode: bool = ...,
    ) -> Completed[Any]: ...
    @overload
    def as_completed(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: Returns[T],
    ) -> Completed[T]: ...
    @overload
    def as_completed(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = ...,
        *,
        timeout: float | None = ...,
        models: Models | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: TypeForm[T],
    ) -> Completed[T]: ...
    def as_completed(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor = _NO_ARGUMENTS,
        *,
        timeout: float | None = None,
        models: Models | None = None,
        optional: bool = False,
        sit_out: bool = True,
        returns: Any = None,
        decode: bool = True,
    ) -> Completed[Any]:
        """Call as `call` does, and get each result as it comes.

            async with cluster.as_completed("predict") as results:
                async for result in results:
                    ...
                print(results.round)

        What is iterated over has ``id`` (the round's), ``missing`` (ids in `models` that have never been
        announced) and, once all results have come, ``round``, the `PredictionRound`; before, that is a
        RuntimeError.

        Leaving the block early cancels the calls that are still open. Deadlines are kept, even if the block
        is slow.
        """
        block = self._caller.as_completed(
            method,
            arguments,
            models,
            timeout=timeout,
            optional=optional,
            sit_out=sit_out,
            returns=returns,
            decode=decode,
        )
        return AsyncBlock(block, "async with cluster.as_completed(...) as results:")

    def changes(self, *, initial: bool = False) -> AbstractAsyncContextManager[ChangeListener]:
        """Listen to what happens to the models.

            async with cluster.changes() as changes:
                async for change in changes:
                    ...

        Args:
            initial: begin with the present state: ANNOUNCED for each announced model, then JOINED for each
                ready model, and FAILED for each model that is given up or recovering. If a listener is too
                slow and misses changes, it gets a RESYNC, and then the present state again.

        Raises:
            TypeError: `initial` is neither True nor False.
            RuntimeError: it is used in another way, or entered twice.
            trio.ClosedResourceError: on entering, if the cluster's block was not entered, or was left.
        """
        check_flag(initial, "initial")
        return AsyncBlock(self._listening(initial), "async with cluster.changes() as changes:")

    @asynccontextmanager
    @enable_ki_protection
    async def _listening(self, initial: bool) -> AsyncIterator[ChangeListener]:
        self._caller.check_open()
        with self._fleet.changes.listening(self._fleet.picture if initial else None) as listener:
            yield listener

    @enable_ki_protection
    async def wait_for_models(self, count: int = 1) -> None:
        """Wait until at least `count` models are ready, or reachable if the cluster only observes.

        Raises:
            TypeError: `count` is no whole number.
            ValueError: it is negative.
            trio.ClosedResourceError: the cluster's block was not entered, or is left before that.
        """
        check_whole_number(count, "count")
        self._caller.check_open()
        await trio.lowlevel.checkpoint()
        await self._fleet.changed.wait_until(
            lambda: self._fleet.count_ready() >= count or not self._caller.open
        )
        self._caller.check_open()

    @enable_ki_protection
    async def report_failure(self, model: Model, code: FailureCode | str, reason: str | None = None) -> None:
        """Report a model to the orchestrator. The orchestrator stops it and shows its author the reason.

        This returns when the report is queued. The report is sent when the orchestrator is connected, if the
        orchestrator still lists this deployment then. While reporting is off, this logs a warning and does
        nothing.

        Args:
            model: the deployment to report.
            code: a `FailureCode` or its name, such as "LOW_PERFORMANCE".
            reason: the text that the model's author will read.

        Raises:
            TypeError: `model` is no ModelRunner, or `reason` is no text.
            ValueError: there is no such code, or the model is another cluster's.
            RuntimeError: the cluster only observes.
            trio.ClosedResourceError: the cluster's block was not entered, or was left.
        """
        self._caller.check_calls()
        self._caller.check_open()
        self._fleet.report(model, code, reason)
        await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def drain(self, timeout: float) -> None:
        """Take no new calls, and wait until running rounds have ended, for at most `timeout` seconds.

        Rounds that have not ended by then return with the results that they have. Calls that this cuts off
        count against no model.

        Raises:
            TypeError: `timeout` is no number.
            ValueError: `timeout` is negative, or NaN.
            trio.ClosedResourceError: the cluster's block was not entered, or was left.
        """
        await self._caller.drain(timeout)

    def snapshot(self, *, models: bool = False) -> ClusterSnapshot:
        """The present state of the cluster, in plain values.

        Args:
            models: with a row for each announced model; see `ClusterSnapshot.model_rows`.

        Raises:
            TypeError: `models` is neither True nor False.
        """
        check_flag(models, "models")
        return take_snapshot(self._config, self._feed, self._fleet, self._caller, models=models)

    def _hooks_of(self, instruments: Sequence[Instrument], service: NodeService | None) -> Hooks | None:
        if not instruments:
            return None
        call_path = "" if service is None else service.call_path.strip("/")
        observed = ObservedCluster(self._config.crunch_id, call_path, self.snapshot)
        return Hooks(instruments, observed, self._config.shutdown_grace)

    async def _join(self, model: ModelRunner, reason: JoinReason, fresh: bool) -> None:
        if self._on_join is not None:
            join = Join(model=model, cluster=self, reason=reason, fresh=fresh)
            await call_on_join(self._on_join, join, self._config.on_join_timeout)

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        if (error := trio_needed("a Cluster")) is not None:
            raise error
        if self._manager is not None:
            raise RuntimeError("a Cluster can be entered only once: make a new one for another block")
        self._manager = Block(self._config, self._feed, self._fleet, self._caller, self._hooks).run()
        await self._manager.__aenter__()
        return self

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._manager is not None
        return await self._manager.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - it shields itself

    if not TYPE_CHECKING:  # type checkers know by themselves that this is wrong

        def __enter__(self):
            raise RuntimeError("use 'async with Cluster(...)', not 'with Cluster(...)'")

        def __exit__(self, kind, error, traceback):
            raise AssertionError  # Python looks for it before it enters


def _check_installed(*packages: str) -> None:
    """Refuse ``frames="pandas"`` where nothing can make such frames: else every frame would be lost.

    Raises:
        ConfigError: a package is missing.
    """
    missing = [each for each in packages if not _is_installed(each)]
    if missing:
        names = " and ".join(missing)
        text = f"frames: 'pandas' needs {names}, not installed here: pip install {' '.join(missing)}"
        raise ConfigError(text)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # it can't be imported, whatever is there
        return False


def limit_to(cluster: Cluster, model_ids: Collection[str]) -> None:
    """Have a cluster know these models alone, before its block is entered: no other is connected or set up.

    It is for a command that calls one model by hand. A coordinator calls some of its models by ``models=``.
    """
    cluster._fleet.only = frozenset(model_ids)


_existing: weakref.WeakSet[Cluster] = weakref.WeakSet()


def existing_clusters() -> list[Cluster]:
    """The clusters of this process, open or not, for whoever shows how they are, as a failing test does."""
    return list(_existing)
