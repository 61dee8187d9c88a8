"""What comes back from a call on one model, and what a coordinator can see of a model.

A coordinator must account for every model. So there is a result for each: also for models that failed, were
late, sat out or were not there. Only `PredictResult.unwrap` raises for what a model did. Results are plain
values, and a program's own tests can make them by hand.

Results, the models that they hold and `ModelError` name each other, so they are in one file. The class
`ModelRunner` is not known here: the `Model` Protocol has all of it that a coordinator can see. A repr never
shows a value, since logs are full of reprs, and predictions may be secret, or large. To write values down on
purpose, use `PredictResult.to_dict`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, cast, overload

import attrs
from typing_extensions import TypeVar

from ..errors import TrioModelRunnerError
from ..text import quoted
from .data import Arguments
from .frames.writing import is_frame
from .strict_json import strict_json

if TYPE_CHECKING:
    import grpclib.client
    from typing_extensions import TypeForm

    from ..returns.typing import Returns
    from .encoded import Encoded

__all__ = ["Model", "ModelError", "ModelIdentity", "ModelState", "PredictResult", "Status"]

T = TypeVar("T", default=Any)
ValueT_co = TypeVar("ValueT_co", covariant=True, default=Any)
ModelT_co = TypeVar("ModelT_co", bound="ModelIdentity", covariant=True, default="Model")

_LONGEST_DETAIL_SHOWN = 80


class ModelIdentity(Protocol):
    """What a result needs to know of a model. A `ModelRunner` has it; a test's own class can have it, too."""

    @property
    def model_id(self) -> str:
        """The model's id. It stays the same over deployments."""

    @property
    def deployment_id(self) -> str | None:
        """The deployment's id, another one for each; None where the orchestrator is too old to say."""

    @property
    def name(self) -> str:
        """The model's name, for people; "" where unknown."""


class ModelState(enum.StrEnum):
    """Where a model is in its life; `model.lifecycle` has the table of all states and events.

    Attributes:
        ANNOUNCED: the orchestrator says that the model runs.
        CONNECTING: a connection to its node is being made, or the next attempt is waited for.
        PROVING: its node must prove that it belongs to the model.
        SETTING_UP: its node is asked to make an instance.
        JOINING: the coordinator's `on_join` catches it up.
        READY: it takes part in rounds.
        REACHABLE: its node answers. The cluster only observes, so it does not know what the model does.
        REPLACING: it takes part in rounds. Its node has retired the connection in peace, or must prove itself
            anew, and calls wait for the next connection, which is being made.
        LOST: its connection is gone, and will be made again.
        RECOVERING: the orchestrator says that it crashed, and is being restarted.
        FAILED: it is given up until it is announced again; its `error` says why.
        RETIRING: another deployment has taken its place; its last calls may end.
        GONE: it was stopped, or replaced by another deployment.
    """

    ANNOUNCED = "announced"
    CONNECTING = "connecting"
    PROVING = "proving"
    SETTING_UP = "setting up"
    JOINING = "joining"
    READY = "ready"
    REACHABLE = "reachable"
    REPLACING = "replacing"
    LOST = "lost"
    RECOVERING = "recovering"
    FAILED = "failed"
    RETIRING = "retiring"
    GONE = "gone"


class Model(ModelIdentity, Protocol):
    """What a coordinator can see of a model, and do with it; a `ModelRunner` is one."""

    @property
    def cruncher_id(self) -> str:
        """The id of the model's author; "" where unknown."""

    @property
    def cruncher_name(self) -> str:
        """The name of the model's author; "" where unknown."""

    @property
    def infos(self) -> Mapping[str, Any]:
        """What else the orchestrator says about the model."""

    @property
    def host(self) -> str:
        """The host on which the model's node listens: a name or an IP address."""

    @property
    def port(self) -> int:
        """The TCP port on which the model's node listens."""

    @property
    def state(self) -> ModelState:
        """Where the model is in its life."""

    @property
    def error(self) -> BaseException | None:
        """Why the model is not ready, or None."""

    @property
    def channel(self) -> grpclib.client.Channel:
        """A channel for generated stubs, on the model's own connection."""

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

    async def reset(self, *, timeout: float | None = None) -> PredictResult[None]:
        """Have the model forget all that it has learnt; see `ModelRunner.reset`."""

    def to_dict(self) -> dict[str, Any]:
        """What the model is and how it is, as strict JSON."""


class Status(enum.StrEnum):
    """How a call ended.

    Attributes:
        SUCCESS: there is a value. It is None if the model's method returned None.
        FAILED: the model raised, its answer could not be read, or the connection was lost.
        TIMEOUT: no answer came by the deadline.
        SKIPPED: the model was not called: it sits out after timeouts, or too many calls wait for it.
        ABSENT: the model was announced, but was not ready when the round began; or it has left since.
    """

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    SKIPPED = "SKIPPED"
    ABSENT = "ABSENT"


def _status(status: Status | str) -> Status:
    return status if type(status) is Status else Status(status)  # to ask the enum is 3 % of a small call


@attrs.frozen(repr=False)
class PredictResult(Generic[ValueT_co, ModelT_co]):
    """How one call on one model ended.

    For type checkers: ``PredictResult[float]`` has a float as its value, and a `Model` as its model. With
    models of another class, it is a ``PredictResult[float, ThatClass]``.

    Attributes:
        model: the model that was called.
        status: how the call ended; the name of a status may be given, too.
        value: the answer; None unless `status` is SUCCESS.
        elapsed: seconds from handing the request to the connection until the answer; 0.0 for SKIPPED and
            ABSENT.
        detail: what went wrong, for people; in the model's or the node's own words if they sent any.
        error: the exception behind it, if there is one.
        sent: whether the request may have reached the model. False is certain: the model's state did not
            change by this call.
    """

    model: ModelT_co
    status: Status = attrs.field(converter=_status)
    value: ValueT_co | None = attrs.field(default=None, hash=False)
    elapsed: float = 0.0
    detail: str = ""
    error: BaseException | None = attrs.field(default=None, hash=False)
    sent: bool = True

    def unwrap(self) -> ValueT_co:
        """Return the value.

        Raises:
            ModelError: `status` is not SUCCESS, so there is no value. Its text names the model, its
                ``result`` is this result, and its cause is `error`.
        """
        if self.status is Status.SUCCESS:
            return cast("ValueT_co", self.value)
        model_id, name = self.model.model_id, self.model.name
        who = f"model {name} ({model_id})" if name else f"model {model_id}"
        text = f"{who}: {self.status}" + (f": {self.detail}" if self.detail else "")
        raise ModelError(text, result=self) from self.error

    def to_dict(self) -> dict[str, Any]:
        """Return this result as strict JSON, a copy: ``json.dumps(..., allow_nan=False)`` takes it.

        Keys: ``model_id``, ``deployment_id``, ``model_name``, ``status``, ``value``, ``elapsed`` (seconds),
        ``detail``, ``error`` (the exception's type, or None) and ``sent``. What JSON lacks becomes the next
        best, as `values.strict_json` says: NaN and infinities become None, tuples lists, attrs and dataclass
        instances dicts, dates text, and what is nested deeper than 200 levels None. Of a data frame, only the
        ``shape`` and the ``columns`` (name and type) are told. It takes up to 2 us for each value
        in it. If the value as a whole is a frame, or nothing that JSON has, a key ``value_type`` names its
        type.
        """
        told = {
            "model_id": self.model.model_id,
            "deployment_id": self.model.deployment_id,
            "model_name": self.model.name,
            "status": self.status.value,
            "value": None,
            "elapsed": self.elapsed,
            "detail": self.detail,
            "error": None if self.error is None else type(self.error).__name__,
            "sent": self.sent,
        }
        row: dict[str, Any] = strict_json(told)
        value, kind = self.value, type(self.value)
        row["value"] = strict_json(value)  # by itself: its levels count from here
        if is_frame(value) or (row["value"] is None and value is not None and kind is not float):
            row["value_type"] = strict_json(f"{kind.__module__}.{kind.__qualname__}")
        return row

    def __repr__(self) -> str:
        """Show the model, the status and the beginning of the detail, never the value."""
        told = f", detail={quoted(self.detail, _LONGEST_DETAIL_SHOWN)}" if self.detail else ""
        return f"<PredictResult {self.model.model_id}: {self.status} after {self.elapsed:.3f} s{told}>"


class ModelError(TrioModelRunnerError):
    """A model gave no value, and `PredictResult.unwrap` was asked for one.

    Attributes:
        result: the `PredictResult` that was unwrapped, or None if no call was made.
    """

    def __init__(self, message: str, result: PredictResult[Any, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result
