"""A door from asyncio: the names and manners of the asyncio client, PyPI's `model-runner-client`.

An asyncio coordinator changes its imports, and is done; README.md beside this says which, and what is
different. The cluster runs in a Trio loop of its own, in a thread of its own. Nothing is decided here: who is
called, when a call is sent again, and who is to blame, is the cluster's.

    runner = DynamicSubclassModelConcurrentRunner(10, "bird-game", "localhost", 8000, "birds.Tracker")
    await runner.init()
    results = await runner.call("predict")

Read in this order:

1. `runners`: what a coordinator uses. It translates arguments and results.
2. `messages` and `results`: the words of the asyncio client. `credentials`: its credentials.
3. `model_cluster`: the models, and when there is a cluster. `engine`: the cluster in its thread, and all the
   ways in which it ends.
"""

from __future__ import annotations

try:
    import anyio.from_thread

    anyio.from_thread.BlockingPortal.call_async  # noqa: B018 - that is new in 4.16
except (ImportError, AttributeError) as error:
    raise ImportError(
        "trio_model_runner.compat needs anyio 4.16 or later, which is not installed: pip install '.[compat]'",
        name="anyio",
    ) from error

from ..security import SecureCredentials
from .credentials import GatewayCredentials
from .messages import (
    Argument,
    DataType,
    KwArgument,
    Variant,
    VariantType,
    decode_data,
    detect_data_type,
    encode_data,
)
from .results import InvalidCoordinatorUsageError, ModelPredictResult, ModelRunner
from .runners import DynamicSubclassModelConcurrentRunner, ModelConcurrentRunner

__all__ = [
    "Argument",
    "DataType",
    "DynamicSubclassModelConcurrentRunner",
    "GatewayCredentials",
    "InvalidCoordinatorUsageError",
    "KwArgument",
    "ModelConcurrentRunner",
    "ModelPredictResult",
    "ModelRunner",
    "SecureCredentials",
    "Variant",
    "VariantType",
    "decode_data",
    "detect_data_type",
    "encode_data",
]
