r"""What listens to a cluster: records, metrics, traces, and a socket to look through.

An instrument is given to the cluster, and hears of rounds, models and reports. It can't harm them: what it
raises is logged, and a round never waits for it::

    import trio
    from trio_model_runner import Cluster, ClusterConfig, DynamicSubclassService
    from trio_model_runner.instruments import Instrument, RoundRecorder, StatusSocket

    class Alarm(Instrument):
        def round_ended(self, token, round):
            if round is not None and len(round.succeeded) < len(round) / 2:
                print("half of the models are away:", round)

    async def play(config):
        listening = [RoundRecorder("rounds.jsonl"), StatusSocket("status.sock"), Alarm()]
        async with Cluster(config, DynamicSubclassService("any.Name"), instruments=listening) as cluster:
            for _ in range(3):
                await cluster.call("predict")

What there is:

- `Instrument`: all hooks, as a base class for one's own; what they are told is `RoundStart`, `Report`,
  `PredictionRound` and `Change`. An `ObservedCluster` is what its `running` gets.
- `RoundRecorder(path)`: a line of JSON for each round.
- `StatusSocket(path)`: a UNIX socket that shows what happens, for ``trio-model-runner watch`` and ``status``.
- `PrometheusInstrument(registry)` (extra ``prometheus``): metrics to be scraped.
- `OpenTelemetryInstrument()` (extra ``otel``): spans and metrics.

Each instance listens to one cluster at a time. What instruments are given is what the coordinator gets, not a
copy: they must not change it.

README.md, beside this file, says what each of them writes, in which units and under which names, with queries
for pandas and DuckDB; and what they cost.

Read in this order: `record` makes the lines, `recorder` and `record_file` write them; `status_socket`,
`readers` and `unix_listener` show them; `prometheus` makes metrics of `figures`; `open_telemetry` is by
itself. What instruments hear is decided in `cluster.instrument`. Nothing here may decide anything for the
cluster: without this room, it does the same.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..cluster.instrument import Instrument, ObservedCluster, Report, RoundStart
from .recorder import RoundRecorder
from .status_socket import StatusSocket

if TYPE_CHECKING:
    from .open_telemetry import OpenTelemetryInstrument
    from .prometheus import PrometheusInstrument

__all__ = [
    "Instrument",
    "ObservedCluster",
    "OpenTelemetryInstrument",
    "PrometheusInstrument",
    "Report",
    "RoundRecorder",
    "RoundStart",
    "StatusSocket",
]

_OF_EXTRAS = {
    "OpenTelemetryInstrument": ("open_telemetry", "opentelemetry", "opentelemetry-api", "otel"),
    "PrometheusInstrument": ("prometheus", "prometheus_client", "prometheus-client", "prometheus"),
}
"""Names that need an extra: their module, and what that needs: package, distribution, our extra."""


def __getattr__(name: str) -> Any:
    """Import what needs an extra when it is first used."""
    if name not in _OF_EXTRAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, package, distribution, extra = _OF_EXTRAS[name]
    try:
        value = getattr(import_module(f".{module}", __name__), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ImportError(
            f"trio_model_runner.instruments.{name} needs {distribution}, which is not installed: "
            f"pip install {distribution}, or this package's extra {extra!r}",
            name=error.name,
        ) from error
    globals()[name] = value
    return value
