"""What a coordinator holds of a model: its identity, its state, and ways to call it.

A handle decides nothing and owns nothing. The object that runs the model is its `Operator`, in this process
or elsewhere; the handle asks it for everything. So a coordinator can keep a handle for as long as it likes,
and can't break anything with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, Unpack, overload

from trio.lowlevel import enable_ki_protection
from typing_extensions import TypeVar

from ..text import readable, readable_error
from ..values.data import Arguments
from ..values.strict_json import strict_json

if TYPE_CHECKING:
    import grpclib.client
    from typing_extensions import TypeForm

    from ..returns.typing import Returns
    from ..values.encoded import Encoded
    from ..values.results import ModelState, PredictResult
    from .round_spec import CallOptions

__all__ = ["ModelRunner", "Operator", "operator_of"]

T = TypeVar("T", default=Any)

_NO_ARGUMENTS = Arguments()


class Operator(Protocol):
    """The object that runs a model, as the model's handle sees it.

    Attributes:
        infos: what else the orchestrator says of it; replaced when it says something new.
        host: where its node listens, a name or an address.
        port: where its node listens.
        error: why it is not ready, or None.
    """

    infos: Mapping[str, Any]
    host: str
    port: int
    error: BaseException | None

    @property
    def state(self) -> ModelState:
        """Where it is in its life."""

    @property
    def channel(self) -> grpclib.client.Channel:
        """A channel for generated stubs, on the model's connection."""

    def belongs_to(self, supervisor: object) -> bool:
        """Whether this is the object that runs all models of its cluster."""

    async def call(
        self, method: str | None, arguments: Arguments, **options: Unpack[CallOptions]
    ) -> PredictResult[Any]:
        """Make one call on the model. A method of None is the service's method for predictions."""

    async def reset(self, timeout: float | None) -> PredictResult[None]:
        """Have the model forget what it has learnt, and join again."""


class ModelRunner:
    """One deployment of one model. Equality is identity: a redeployed model is another `ModelRunner`."""

    __slots__ = ("__weakref__", "_deployment_id", "_longest_text", "_model_id", "_operator")

    def __init__(
        self, operator: Operator, *, model_id: str, deployment_id: str | None, longest_text: int
    ) -> None:
        self._operator = operator
        self._model_id = model_id
        self._deployment_id = deployment_id
        self._longest_text = longest_text

    def __repr__(self) -> str:
        return f"<ModelRunner {self.model_id!r} {self.state.value} at {self.host}:{self.port}>"

    @property
    def model_id(self) -> str:
        """The model's id. It stays the same over deployments."""
        return self._model_id

    @property
    def deployment_id(self) -> str | None:
        """The deployment's id, another one for each; None where the orchestrator is too old to say."""
        return self._deployment_id

    @property
    def name(self) -> str:
        """The model's name, chosen by its author and made fit to be shown; empty where unknown."""
        return self._info("model_name")

    @property
    def cruncher_id(self) -> str:
        """The id of the model's author, made fit to be shown; empty where unknown."""
        return self._info("cruncher_id")

    @property
    def cruncher_name(self) -> str:
        """The name of the model's author, made fit to be shown; empty where unknown."""
        return self._info("cruncher_name")

    @property
    def infos(self) -> Mapping[str, Any]:
        """What else the orchestrator says about the model; a new mapping whenever that changes."""
        return self._operator.infos

    @property
    def host(self) -> str:
        """The host on which the model's node listens: a name or an IP address."""
        return self._operator.host

    @property
    def port(self) -> int:
        """The TCP port on which the model's node listens."""
        return self._operator.port

    @property
    def state(self) -> ModelState:
        """Where the model is in its life."""
        return self._operator.state

    @property
    def error(self) -> BaseException | None:
        """Why the model is not ready, or None."""
        return self._operator.error

    @property
    def channel(self) -> grpclib.client.Channel:
        """A grpclib channel on the model's own connection: any generated stub runs on it.

            answer = await HealthStub(model.channel).check(HealthCheckRequest(), timeout=2.0)

        Calls carry the connection's tokens, and its proof is verified before the first message is delivered.
        A failed proof ends the connection. Calls of the health service carry no token, and need no proof.
        Calls of the model's own service take their turn, as `call` does. Nothing else that happens here
        counts for or against the model. A call waits while the connection is being replaced. While the model
        is not connected at all, calls raise `channel.CallInterrupted`.
        """
        return self._operator.channel

    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments = ...,
        *,
        timeout: float | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: None = ...,
        decode: Literal[False],
    ) -> PredictResult[Encoded]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments = ...,
        *,
        timeout: float | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: None = ...,
        decode: bool = ...,
    ) -> PredictResult[Any]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments = ...,
        *,
        timeout: float | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: Returns[T],
    ) -> PredictResult[T]: ...
    @overload
    async def call(
        self,
        method: str,
        arguments: Arguments = ...,
        *,
        timeout: float | None = ...,
        optional: bool = ...,
        sit_out: bool = ...,
        returns: TypeForm[T],
    ) -> PredictResult[T]: ...
    @enable_ki_protection
    async def call(
        self,
        method: str,
        arguments: Arguments = _NO_ARGUMENTS,
        *,
        timeout: float | None = None,
        optional: bool = False,
        sit_out: bool = True,
        returns: Any = None,
        decode: bool = True,
    ) -> PredictResult[Any]:
        """Call a method of this model alone; see `Cluster.call`.

        What the model does is in the result's status, and is never raised. In `on_join`, this calls the model
        before it takes part in rounds.
        """
        if method is None:  # which would predict
            raise TypeError("method: must be a str, got NoneType")
        return await self._operator.call(
            method,
            arguments,
            timeout=timeout,
            optional=optional,
            sit_out=sit_out,
            returns=returns,
            decode=decode,
        )

    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., returns: None = ..., decode: Literal[False]
    ) -> PredictResult[Encoded]: ...
    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., returns: None = ..., decode: bool = ...
    ) -> PredictResult[Any]: ...
    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., returns: Returns[T]
    ) -> PredictResult[T]: ...
    @overload
    async def predict(
        self, *values: Any, timeout: float | None = ..., returns: TypeForm[T]
    ) -> PredictResult[T]: ...
    @enable_ki_protection
    async def predict(
        self, *values: Any, timeout: float | None = None, returns: Any = None, decode: bool = True
    ) -> PredictResult[Any]:
        """Have this model alone predict; see `Cluster.predict`."""
        return await self._operator.call(
            None, Arguments(*values), timeout=timeout, returns=returns, decode=decode
        )

    @enable_ki_protection
    async def reset(self, *, timeout: float | None = None) -> PredictResult[None]:
        """Have this model forget all that it has learnt, and join again.

        Its node drops the model's instance (`Rest`; `Reinitialize` on the services that infer). Then Setup
        and `on_join` follow, as after every loss of an instance. Calls that wait for the model are made after
        that. SUCCESS says that the model is ready again; in `on_join` the result is ABSENT.

        Deployed nodes (release 0.4.2) remember the methods that were called before, and go on calling those
        on the old instance. There, this resets only methods that are called for the first time afterwards.

        Args:
            timeout: seconds for all of it; None for the configured timeout. If the model is not ready again
                by then, the result is TIMEOUT, and the model goes on joining.
        """
        return await self._operator.reset(timeout)

    def to_dict(self) -> dict[str, Any]:
        """The model's identity and state, as strict JSON: ``json.dumps(..., allow_nan=False)`` takes it.

        Keys: ``model_id``, ``deployment_id``, ``name``, ``cruncher_id``, ``cruncher_name``, ``host``,
        ``port``, ``state`` and ``error`` (its text, or None). `infos` are left out.
        """
        told = {
            "model_id": self.model_id,
            "deployment_id": self.deployment_id,
            "name": self.name,
            "cruncher_id": self.cruncher_id,
            "cruncher_name": self.cruncher_name,
            "host": self.host,
            "port": self.port,
            "state": self.state.value,
            "error": readable_error(self.error, self._longest_text),
        }
        row: dict[str, Any] = strict_json(told)
        return row

    def _info(self, key: str) -> str:
        return readable(str(self._operator.infos.get(key) or ""), self._longest_text)


def operator_of(model: ModelRunner) -> Operator:
    """The operator of a model, for the parts of a cluster."""
    return model._operator
