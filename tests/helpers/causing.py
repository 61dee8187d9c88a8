"""Ways to meet what is in the list of troubles, each as cheap as it can be.

`MISTAKES` and `CALLS` raise, the latter in a cluster; their keys are what they raise, as the list quotes it.
What needs more to happen is in `causing_events` and its like.
"""

from __future__ import annotations

import asyncio
import datetime
import gc
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from helpers.coordinating import SERVICE, Model
from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterConfig,
    DataType,
    DynamicSubclassService,
    FailureCode,
    PredictionRound,
    SecureCredentials,
    decode_data,
    encode,
)
from trio_model_runner.cli.commands import commands
from trio_model_runner.cli.running import Failure, Running
from trio_model_runner.config import Limits

__all__ = ["CALLS", "MISTAKES"]

Mistake = Callable[[Path], object]
Call = Callable[[Any], Awaitable[object]]

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
CONFIG = ClusterConfig("bird-game")
TABLE = "[trio-model-runner]\ncrunch_id = 'c'\n"


def load(toml: str) -> Mistake:
    """Load a file of settings."""

    def make(directory: Path) -> ClusterConfig:
        path = directory / "config.toml"
        path.write_text(toml)
        return ClusterConfig.load(path)

    return make


def config(**fields: Any) -> Mistake:
    """Make settings."""
    return lambda directory: ClusterConfig("c", **fields)


def cluster(*arguments: Any, **options: Any) -> Mistake:
    """Make a cluster."""
    return lambda directory: Cluster(CONFIG, *arguments, **options)


def sent(make: Callable[[], Any]) -> Mistake:
    """Encode a value."""
    return lambda directory: encode(make())


def no_certificate(directory: Path) -> object:
    """Load credentials whose certificates are none."""
    for name in ("ca.crt", "tls.crt", "tls.key"):
        (directory / name).write_text("nothing")
    return SecureCredentials.from_directory(directory)


def holding_itself() -> list[Any]:
    """A list that is in itself."""
    values: list[Any] = []
    values.append(values)
    return values


def table(*columns: str) -> Any:
    """A table of Arrow with two rows."""
    import pyarrow

    return pyarrow.Table.from_arrays([pyarrow.array([1, 2]) for _ in columns], names=list(columns))


def only_rows() -> Any:
    """A table that has rows and no columns."""
    return table("a").select([])


async def entered() -> None:
    """Enter a cluster."""
    async with Cluster(CONFIG, SERVICE):
        pass


def command(*words: str) -> Mistake:
    """Run a command of `trio-model-runner`, and raise what it writes."""

    def run(directory: Path) -> None:
        told = CliRunner().invoke(commands, words, obj=Running())
        assert told.exception is not None
        raise told.exception if isinstance(told.exception, Failure) else RuntimeError(told.output)

    return run


def a_round() -> PredictionRound[Any]:
    """A round of nobody."""
    return PredictionRound({}, id="1", method="m", started_at=0.0, elapsed=0.0, timeout=1.0)


MISTAKES: dict[str, Mistake] = {
    "crunch_id: is required, in a file or as …CRUNCH_ID in the environment": load("[trio-model-runner]\n"),
    "unknown in …": load(TABLE + "timout = 3\n"),
    "(did you mean …?)": load(TABLE + "timout = 3\n"),
    "no table … in …": load("[trio_model]\n"),
    "cannot read …: …": lambda directory: ClusterConfig.load(directory / "none.toml"),
    "…: must be a table, […], got …": load(TABLE + "limits = 3\n"),
    "must be an instance of …, got …": config(limits={}),
    "a host name or an IP address, without scheme, port or brackets": config(host="wss://x:9091"),
    "inf is no limit": config(timeout=None),
    "it can't be off": lambda directory: Limits(max_message_bytes=None),  # type: ignore[arg-type]
    "credentials: must be an instance of …, or None, got …": config(credentials="/keys"),
    "credentials_path: needs a credentials_mode, …": load(TABLE + "credentials_path = '/x'\n"),
    "credentials_mode: needs a credentials_path, the directory with the files": load(
        TABLE + "credentials_mode = 'secure'\n"
    ),
    "holds no certificate in PEM format": no_certificate,
    "holds …; a path is wanted": config(tls_ca_file=PEM),
    "that is a host in …": config(allowed_networks=["10.0.0.1/8"]),
    "service: must be a service such as …": cluster("a.B"),
    "class_name: must look like 'package.module.ClassName', got …": lambda directory: DynamicSubclassService(
        "ClassName"
    ),
    "on_join: must be an async function, …": cluster(SERVICE, on_join=5),
    "use 'async with Cluster(...)', not 'with Cluster(...)'": lambda directory: Cluster(
        CONFIG, SERVICE
    ).__enter__(),  # type: ignore[attr-defined]
    'needs Trio, and this is asyncio; see "Outside Trio" in the README': lambda directory: asyncio.run(
        entered()
    ),
    "needs Trio, and none runs here: …": lambda directory: entered().send(None),
    "instruments: … has none of the hooks: …": cluster(SERVICE, instruments=[object()]),
    "code: must be one of …, got …": lambda directory: FailureCode("SLOW"),
    "the keys are models; by_id has the results by model id, such as …": lambda directory: a_round()["m1"],  # type: ignore[index]
    "no coordinator runs at …: there is no such socket": command("status", "/does/not/exist"),
    "say whom to call: --model ID (once or more), or --all": command("call", "tick", "--class", "a.B"),
    "is no JSON: …": command("call", "tick", "BTC", "--class", "a.B", "--all"),
    "can't be sent as JSON (…)": sent(lambda: [datetime.date(2026, 1, 1)]),
    "a key is of type …, and JSON has text keys only: send str keys": sent(lambda: {1: 2}),
    "does not fit INT's signed 64 bits": sent(lambda: 2**64),
    "has a lone surrogate": sent(lambda: "\ud800"),
    "holds itself, which JSON can't express": sent(holding_itself),
    "a data frame can only be an argument of its own": sent(lambda: [table("a")]),
    "the frame has rows but no columns: Parquet would lose the rows": sent(only_rows),
    "two columns of the frame have the same name": sent(lambda: table("a", "a")),
    "JSON that is not UTF-8: …": lambda directory: decode_data(b'"\xff"', DataType.JSON),
    "JSON that is nested too deeply": lambda directory: decode_data(b"[" * 1000 + b"]" * 1000, DataType.JSON),
    "JSON of more than … values (max_json_values)": lambda directory: decode_data(
        b"[1,2,3]", DataType.JSON, max_json_values=1
    ),
}


async def as_completed(cluster: Any) -> None:
    """Iterate over what must be entered first."""
    async for _ in cluster.as_completed("predict"):
        pass


async def not_awaited(cluster: Any) -> None:
    """Forget to await, and raise Python's warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cluster.call("predict")
        gc.collect()
    raise caught[0].message


CALLS: dict[str, Call] = {
    "arguments: must be Arguments(...), or a function that takes a ModelRunner and returns them, got …": (
        lambda c: c.call("predict", [1])
    ),
    "got an unexpected keyword argument": lambda c: c.call("predict", horizon=3),
    "method: must be a str, got …": lambda c: c.call(Model.predict),
    "timeout: must be > 0 seconds, got …": lambda c: c.call("predict", timeout=0),
    "models: must be several ModelRunners or ids, got one …: put it in a list": lambda c: c.call(
        "predict", models="a"
    ),
    "model: must be a ModelRunner, got the text …: cluster.announced has them by id": lambda c: (
        c.report_failure("a", "LOW_PERFORMANCE")
    ),
    "returns: must be a plain function, not an async one": lambda c: c.call("predict", returns=as_completed),
    "no answer can be made a …: …": lambda c: c.call("predict", returns=dict[bytes, int]),
    "was never awaited": not_awaited,
    "use it so: …": as_completed,
    "…: … bytes, more than limits.max_message_bytes, which is …": lambda c: c.call(
        "predict", Arguments("x" * 2000)
    ),
}
