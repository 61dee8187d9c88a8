"""Call hundreds of model nodes at once from a Trio program, and have every answer by a deadline.

    service = DynamicSubclassService("birdgame.trackers.trackerbase.TrackerBase")
    async with Cluster(config, service) as cluster:
        results = await cluster.call("predict", Arguments(payload))

`Cluster` keeps the connections; `ClusterConfig` says where the orchestrator is and what the limits are; a
`PredictionRound` holds a `PredictResult` for every model. Names are imported when they are first used, so
that importing this package stays cheap for programs that may not need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .changes import Change, ChangeKind
    from .cluster import Cluster
    from .config import ClusterConfig
    from .data import Arguments, DataType, Encoded, decode_data, encode, encode_data
    from .errors import (
        ClusterDraining,
        ConfigError,
        InvalidAnswer,
        ModelError,
        OrchestratorUnavailable,
        ProofFailed,
        TrioModelRunnerError,
    )
    from .joining import Join
    from .model import ModelRunner
    from .results import PredictionRound, PredictResult, Status
    from .services import (
        DynamicSubclassService,
        ModelRunnerService,
        TrainInferService,
        TrainInferStreamService,
    )
    from .snapshot import ClusterSnapshot
    from .states import ModelState

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
    "Status",
    "TrainInferService",
    "TrainInferStreamService",
    "TrioModelRunnerError",
    "decode_data",
    "encode",
    "encode_data",
]

_MODULES = {
    "changes": ("Change", "ChangeKind"),
    "cluster": ("Cluster",),
    "config": ("ClusterConfig",),
    "data": ("Arguments", "DataType", "Encoded", "decode_data", "encode", "encode_data"),
    "errors": (
        "ClusterDraining",
        "ConfigError",
        "InvalidAnswer",
        "ModelError",
        "OrchestratorUnavailable",
        "ProofFailed",
        "TrioModelRunnerError",
    ),
    "joining": ("Join",),
    "model": ("ModelRunner",),
    "results": ("PredictResult", "PredictionRound", "Status"),
    "services": (
        "DynamicSubclassService",
        "ModelRunnerService",
        "TrainInferService",
        "TrainInferStreamService",
    ),
    "snapshot": ("ClusterSnapshot",),
    "states": ("ModelState",),
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
