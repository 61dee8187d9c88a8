"""Call hundreds of model nodes at once from a Trio program, and have one result for each by a deadline.

    service = DynamicSubclassService("birdgame.trackers.trackerbase.TrackerBase")
    async with Cluster(config, service) as cluster:
        results = await cluster.call("predict", Arguments(payload))

`Cluster` keeps the connections. `ClusterConfig` says where the orchestrator is and what the limits are. A
`PredictionRound` has a `PredictResult` for every model. Names are imported when they are first used, so the
import of this package is quick.

For readers of the code: the packages (we say *rooms*), lowest first. A room imports only rooms earlier in
this list, or on its own line.

- `errors`, `text`, `signal`, `backoff`, `groups`, `abandoned`, `workers`, `trio_needed`, `version`: small
  things that all rooms use. `proto` is generated.
- `values`: what is sent and answered, results, data frames and the bound on their size. `returns`: what
  answers must look like.
- `config`: the settings. `network`: byte streams. `security`: credentials, proofs, tokens.
- `rpc`: HTTP/2 and gRPC: frames and their size, GOAWAY, calls. `channel`: the calls of
  generated gRPC stubs, over `rpc`.
- `services`: the messages of the gRPC services that nodes have.
- `model`: one model: its life, its calls, and which failures count against it and are reported.
  `orchestrator`: the feed.
- `cluster`: all models: rounds, redeployments, pending reports.
- `testing`: a crunch for tests. `cli`: the command. `compat`: a door from asyncio.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster.changes import Change, ChangeKind
    from .cluster.cluster import Cluster, Join
    from .cluster.snapshot import ClusterSnapshot
    from .config import ClusterConfig
    from .errors import (
        ClusterDraining,
        ConfigError,
        InvalidAnswer,
        OrchestratorUnavailable,
        ProofFailed,
        ReadersUnavailable,
        TrioModelRunnerError,
    )
    from .model.handle import ModelRunner
    from .security import GatewayCredentials, SecureCredentials
    from .services import (
        DynamicSubclassService,
        ModelRunnerService,
        TrainInferService,
        TrainInferStreamService,
    )
    from .values.data import Arguments, DataType, Encoded, decode_data, encode, encode_data
    from .values.failure_codes import FailureCode
    from .values.prediction_round import PredictionRound
    from .values.results import ModelError, ModelState, PredictResult, Status

__all__ = [
    "Arguments",
    "Change",
    "ChangeKind",
    "Cluster",
    "ClusterConfig",
    "ClusterDraining",
    "ClusterSnapshot",
    "ConfigError",
    "DataType",
    "DynamicSubclassService",
    "Encoded",
    "FailureCode",
    "GatewayCredentials",
    "InvalidAnswer",
    "Join",
    "ModelError",
    "ModelRunner",
    "ModelRunnerService",
    "ModelState",
    "OrchestratorUnavailable",
    "PredictResult",
    "PredictionRound",
    "ProofFailed",
    "ReadersUnavailable",
    "SecureCredentials",
    "Status",
    "TrainInferService",
    "TrainInferStreamService",
    "TrioModelRunnerError",
    "decode_data",
    "encode",
    "encode_data",
]

_MODULES = {
    "cluster.changes": ("Change", "ChangeKind"),
    "cluster.cluster": ("Cluster", "Join"),
    "config": ("ClusterConfig",),
    "values.data": ("Arguments", "DataType", "Encoded", "decode_data", "encode", "encode_data"),
    "errors": (
        "ClusterDraining",
        "ConfigError",
        "InvalidAnswer",
        "OrchestratorUnavailable",
        "ProofFailed",
        "ReadersUnavailable",
        "TrioModelRunnerError",
    ),
    "model.handle": ("ModelRunner",),
    "values.failure_codes": ("FailureCode",),
    "values.prediction_round": ("PredictionRound",),
    "values.results": ("ModelError", "ModelState", "PredictResult", "Status"),
    "security": ("GatewayCredentials", "SecureCredentials"),
    "services": (
        "DynamicSubclassService",
        "ModelRunnerService",
        "TrainInferService",
        "TrainInferStreamService",
    ),
    "cluster.snapshot": ("ClusterSnapshot",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
