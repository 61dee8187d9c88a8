"""The runners: rounds on all models, in the asyncio client's words.

What a round is, who is called, who is to blame: all this is the cluster's affair. Here, arguments and results
are translated. This module must not know how the cluster is kept running.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
import warnings
from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from ..config import ClusterConfig
from ..services import DynamicSubclassService, ModelRunnerService, NodeService
from ..values.data import Arguments
from ..values.encoded import Encoded
from ..values.results import Model, PredictResult
from .credentials import to_credentials
from .messages import ArgumentLike, DataType, KwArgumentLike, to_arguments, to_variant_type
from .model_cluster import ModelCluster
from .results import ModelPredictResult, ModelRunner

if TYPE_CHECKING:
    from ..cluster.caller import ArgumentsFor

__all__ = [
    "ArgumentsType",
    "ConcurrentRunner",
    "DynamicSubclassModelConcurrentRunner",
    "ModelConcurrentRunner",
]

ArgsAndKwargs = tuple[Sequence[ArgumentLike] | None, Sequence[KwArgumentLike] | None]
ArgumentsType = ArgsAndKwargs | Callable[[ModelRunner], ArgsAndKwargs]

_MISSING: Final[Any] = object()
_LONGEST_TURN: Final = 0.005
"""Seconds after which other tasks have a turn, while a function makes arguments for many models."""

logger = logging.getLogger("trio_model_runner.compat")


class ConcurrentRunner:
    """What the runners have in common: their life.

    `init` starts a cluster in a thread of its own; `close` ends it. So does the end of the event loop, and
    the interpreter's exit. ``async with`` does both.

    Attributes:
        timeout: seconds that a round may take when the call doesn't say.
        host: the orchestrator's host.
        port: the orchestrator's port.
        model_cluster: the models; see `ModelCluster.models_run`.
    """

    def __init__(self, config: ClusterConfig, service: NodeService) -> None:
        self.timeout = config.timeout
        self.host = config.host
        self.port = config.port
        self.model_cluster = ModelCluster(config, service)

    async def init(self) -> None:
        """Connect to the orchestrator, and set up the models that it names; see `ModelCluster.init`.

        This waits for slow models for ``startup_timeout`` (10 s) at most; they join later.

        Raises:
            ConnectionError: the orchestrator sent no list of models in a minute.
            RuntimeError: it was initialised in another event loop, which has not ended.
        """
        await self.model_cluster.init()

    async def sync(self) -> None:
        """Wait until the runner is closed; see `ModelCluster.sync`. The models are kept up to date anyway."""
        await self.model_cluster.sync()

    async def close(self) -> None:
        """Say goodbye to nodes and orchestrator, and end the thread. Open calls raise RuntimeError."""
        await self.model_cluster.close()

    async def __aenter__(self) -> Self:
        await self.init()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _play(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor,
        timeout: float | None,
        models: Iterable[Model] | None,
    ) -> dict[ModelRunner, ModelPredictResult]:
        """Play a round. A timeout of 0 is none, as there; nobody is called when no time is left."""
        engine, cluster = self.model_cluster.engine(), self.model_cluster
        seconds = timeout or self.timeout
        if isinstance(seconds, int | float) and not seconds > 0:  # NaN is not, either
            asked = cluster.models_run.values() if models is None else map(cluster.runner_of, models)
            detail = f"no time was left before the call: {seconds!r} s; nothing was sent"
            return {each: ModelPredictResult.of_timeout(each, 0, detail=detail) for each in asked}

        async def play() -> dict[ModelRunner, ModelPredictResult]:
            results = await engine.cluster.call(method, arguments, timeout=seconds, models=models)
            found = (_to_result(cluster.runner_of(each.model), each) for each in results.values())
            return {each.model_runner: each for each in found if each is not None}

        return await engine.run(play)

    def _has_begun(self, method: str) -> bool:
        """Whether there can be models. Before `init` there are none, and that is no error, as there."""
        if not self.model_cluster.initialised:
            logger.warning("%s before the end of init(): there are no models yet", method)
            return False
        self.model_cluster.engine()  # refuses what can't be called, before anything is done for the call
        return True


def _to_result(runner: ModelRunner, result: PredictResult[Any]) -> ModelPredictResult | None:
    """The result in the asyncio client's words, which has none for models that were not called."""
    status = ModelPredictResult.Status.__members__.get(result.status.name)
    if status is None:
        return None
    return ModelPredictResult(
        runner, result.value, status, round(result.elapsed * 1_000_000), result.detail or None
    )


class DynamicSubclassModelConcurrentRunner(ConcurrentRunner):
    """Calls any method of models that are subclasses of a base class, as deployed nodes serve them.

    Args:
        timeout: seconds that a round may take when the call doesn't say; None for any time.
        crunch_id: which competition.
        host: the orchestrator's host.
        port: the orchestrator's port.
        base_classname: the base class, as "package.module.ClassName", where the nodes can import it.
        instance_args: positional arguments for making the instances.
        instance_kwargs: keyword arguments for making them.
        max_consecutive_failures: so many failures in a row are not reported yet; 0 or None reports none.
        max_consecutive_timeouts: the same for timeouts.
        secure_credentials: a `SecureCredentials`, ours or the asyncio client's.
        gateway_credentials: a `GatewayCredentials`, ours or the asyncio client's.
        report_failure: report models that exceed the limits; the orchestrator stops them.

    Raises:
        ValueError: an argument is out of range, or both kinds of credentials were given.
        TypeError: an argument is of another type.
    """

    MAX_CONSECUTIVE_FAILURES: ClassVar = 3
    MAX_CONSECUTIVE_TIMEOUTS: ClassVar = 3

    def __init__(
        self,
        timeout: float | None,
        crunch_id: str,
        host: str,
        port: int | str,
        base_classname: str,
        instance_args: Sequence[ArgumentLike] | None = None,
        instance_kwargs: Sequence[KwArgumentLike] | None = None,
        max_consecutive_failures: int | None = MAX_CONSECUTIVE_FAILURES,
        max_consecutive_timeouts: int | None = MAX_CONSECUTIVE_TIMEOUTS,
        secure_credentials: object | None = None,
        gateway_credentials: object | None = None,
        report_failure: bool | int | None = True,
    ) -> None:
        config = ClusterConfig(
            crunch_id,
            host,
            _to_port(port),
            timeout=_to_timeout(timeout),
            max_consecutive_failures=max_consecutive_failures or None,
            max_consecutive_timeouts=max_consecutive_timeouts or None,
            credentials=to_credentials(secure_credentials, gateway_credentials),
            report_failures=_to_flag(report_failure),
            frames="pandas",
        )
        self._instance_args, self._instance_kwargs = list(instance_args or ()), list(instance_kwargs or ())
        arguments = to_arguments(
            self._instance_args, self._instance_kwargs, where="instance_args, instance_kwargs"
        )
        super().__init__(config, DynamicSubclassService(base_classname, arguments))
        self._base_classname = base_classname
        self._limits = max_consecutive_failures, max_consecutive_timeouts
        self._credentials = secure_credentials, gateway_credentials

    # What it was made with, to look at. To change it, make another runner.

    @property
    def base_classname(self) -> str:
        """The base class."""
        return self._base_classname

    @property
    def instance_args(self) -> list[ArgumentLike]:
        """Positional arguments for making the instances."""
        return self._instance_args

    @property
    def instance_kwargs(self) -> list[KwArgumentLike]:
        """Keyword arguments for making them."""
        return self._instance_kwargs

    @property
    def max_consecutive_failures(self) -> int | None:
        """So many failures in a row are not reported yet."""
        return self._limits[0]

    @property
    def max_consecutive_timeouts(self) -> int | None:
        """The same for timeouts; there, the attribute's name is `max_consecutive_timeout`."""
        return self._limits[1]

    max_consecutive_timeout = max_consecutive_timeouts

    @property
    def secure_credentials(self) -> object | None:
        """As it was given."""
        return self._credentials[0]

    @property
    def gateway_credentials(self) -> object | None:
        """As it was given."""
        return self._credentials[1]

    async def call(
        self,
        method_name: str,
        arguments: ArgumentsType = _MISSING,
        args: Sequence[ArgumentLike] = _MISSING,
        kwargs: Sequence[KwArgumentLike] = _MISSING,
        timeout: float | None = None,
        model_runs: Iterable[ModelRunner] | None = None,
    ) -> dict[ModelRunner, ModelPredictResult]:
        """Call a method of all models, and return a result from each that was called, by the deadline.

        If the task is cancelled, so are the calls, at the nodes.

        Args:
            method_name: the method's name.
            arguments: positional and keyword arguments, or a function that takes a `ModelRunner` and returns
                both. It runs in this event loop; if it raises, that model's result is FAILED.
            args: positional arguments; deprecated, and ignored if `arguments` is given.
            kwargs: keyword arguments; deprecated, and ignored if `arguments` is given.
            timeout: seconds; None or 0 for the runner's own. If it is negative or NaN, nothing is sent, and
                all results are TIMEOUT, which count against nobody.
            model_runs: the models to call; all if None, or if there are none in it.

        Raises:
            TypeError, ValueError: an argument is not what it should be. Nothing was sent.
            RuntimeError: the runner was closed, or belongs to another event loop.
        """
        if args is not _MISSING or kwargs is not _MISSING:
            warnings.warn("Using 'args' and 'kwargs' is deprecated.", DeprecationWarning, stacklevel=2)
        if not self._has_begun("call"):
            return {}
        chosen = self.model_cluster.models_of(model_runs) if model_runs else None
        if arguments is _MISSING:
            arguments = (None if args is _MISSING else args, None if kwargs is _MISSING else kwargs)
        if not callable(arguments):
            return await self._play(method_name, _from_pair(arguments), timeout, chosen)
        if chosen is None:
            chosen = self.model_cluster.models_of(self.model_cluster.models_run.values())
        made = await _make_for_each(arguments, chosen)
        return await self._play(method_name, made, timeout, chosen)


class ModelConcurrentRunner(ConcurrentRunner, metaclass=ABCMeta):
    """Has the models of the first release's nodes predict: each takes one value and answers one.

    It reports no model, as the first release did not. Later releases have a base class of this name: so a
    `DynamicSubclassModelConcurrentRunner` is an instance of this class, too, and inherits nothing from it.

    Args:
        timeout: seconds that a round may take; None for any time.
        crunch_id: which competition.
        host: the orchestrator's host.
        port: the orchestrator's port.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, timeout: float | None, crunch_id: str, host: str, port: int | str) -> None:
        config = ClusterConfig(
            crunch_id,
            host,
            _to_port(port),
            timeout=_to_timeout(timeout),
            report_failures=False,
            frames="pandas",
        )
        super().__init__(config, ModelRunnerService())

    async def predict(
        self, argument_type: DataType | int, argument_value: bytes
    ) -> dict[ModelRunner, ModelPredictResult]:
        """Have all models predict, and return a result from each that was called, by the deadline.

        Args:
            argument_type: a bare number is one of `DataType`.
            argument_value: the value, as `encode_data` makes it.

        Raises:
            TypeError, ValueError: an argument is not what it should be. Nothing was sent.
            RuntimeError: the runner was closed, or belongs to another event loop.
        """
        if not self._has_begun("predict"):
            return {}
        value = Encoded(to_variant_type(argument_type, of=DataType), argument_value)
        results = await self._play("Infer", Arguments(value), None, None)
        for result in results.values():
            if result.status is ModelPredictResult.Status.FAILED:
                result.result = result.detail
        return results


ModelConcurrentRunner.register(DynamicSubclassModelConcurrentRunner)


def _to_port(port: int | str) -> int:
    """A port, also one that comes from a variable of the environment; what is none is for the settings."""
    return int(port) if isinstance(port, str) and port.isascii() and port.isdecimal() else port  # type: ignore[return-value]


def _to_timeout(timeout: float | None) -> float:
    return math.inf if timeout is None else timeout


def _to_flag(flag: bool | int | None) -> bool:
    """A flag; of what only looks like one, such as "false", the settings complain."""
    return bool(flag) if flag is None or isinstance(flag, int) else flag


def _from_pair(pair: Any) -> Arguments:
    try:
        args, kwargs = pair
    except (TypeError, ValueError):
        raise TypeError("arguments: must be a pair of lists, ([Argument, ...], [KwArgument, ...])") from None
    return to_arguments(args, kwargs)


async def _make_for_each(
    function: Callable[[ModelRunner], Any], models: Mapping[Model, ModelRunner]
) -> ArgumentsFor:
    """Call a coordinator's function for each model, in its own loop, where it may use what it likes.

    What it raises is kept until the round asks for that model's arguments; the cluster logs it.
    """
    if inspect.iscoroutinefunction(function):
        raise TypeError("arguments: must be a plain function, not an async one")
    made: dict[Model, Arguments | Exception] = {}
    turn_ends = time.monotonic() + _LONGEST_TURN
    for model, runner in models.items():
        try:
            made[model] = _from_pair(function(runner))
        except Exception as error:
            made[model] = error
        if time.monotonic() > turn_ends:
            await asyncio.sleep(0)
            turn_ends = time.monotonic() + _LONGEST_TURN

    def arguments_for(model: Model) -> Arguments:
        arguments = made[model]
        if isinstance(arguments, Exception):
            raise arguments
        return arguments

    return arguments_for
