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

A line of the record, here broken into several::

    {"v":1,"crunch_id":"bird-game","id":7,"method":"predict","started":1764133200.123,"timeout":5.0,
     "seconds":4.9123,"model_ids":["m0","m1"],"deployment_ids":["17","18"],"statuses":"ST",
     "elapsed":[0.2341,4.9101],"sent":"11","details":{"m1":"no answer before the deadline"}}

``started`` is in POSIX seconds, by this machine's clock, which may be set back. ``timeout`` (null for none),
``seconds`` (how long the round took) and ``elapsed`` are in seconds, and jump with no clock. ``elapsed``,
``statuses`` and ``sent`` have one entry for each model, in the order of ``model_ids``: S is SUCCESS, F
FAILED, T TIMEOUT, K SKIPPED, A ABSENT; ``elapsed`` is null, and ``sent`` 0, where nothing was sent.
``details`` says what was wrong, of a hundred models at most. ``values`` is there if it was asked for. There
may be half a line at the end, while one is written or after a crash, and no line at all. pandas reads it so::

    with open("rounds.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.endswith("\n")]
    rounds = pandas.DataFrame(rows, columns=["id", "started", "model_ids", "statuses", "elapsed"])
    rounds["statuses"] = rounds["statuses"].map(list)
    calls = rounds.explode(["model_ids", "statuses", "elapsed"])
    calls[calls["statuses"] == "S"].groupby("model_ids")["elapsed"].median()

and DuckDB so, with the older parts; without ``columns``, it finds none in an empty record::

    SELECT model_id, count(*) FILTER (status = 'T') AS timeouts
    FROM (
        SELECT unnest(model_ids) AS model_id, unnest(string_split(statuses, '')) AS status
        FROM read_json('rounds.jsonl*', format = 'newline_delimited', ignore_errors = true,
                       columns = {model_ids: 'VARCHAR[]', statuses: 'VARCHAR'})
    )
    GROUP BY model_id

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
