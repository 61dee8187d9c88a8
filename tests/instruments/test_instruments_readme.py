"""What the room's README says is so: its programs run, and its tables are those of the code.

Its queries of records run in `test_recorder.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating
from helpers.documents import block, chapter
from helpers.played import listening, played
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from trio.testing import MockClock

from trio_model_runner import Cluster
from trio_model_runner.cluster.instrument import RoundStart
from trio_model_runner.cluster.instrument_checks import HOOKS
from trio_model_runner.instruments import (
    OpenTelemetryInstrument,
    PrometheusInstrument,
    Report,
    StatusSocket,
)
from trio_model_runner.instruments.record import LETTERS, VERSION, round_row
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.values.failure_codes import FailureCode

README = "instruments/README.md"
REPORT = Report("m0", "17", FailureCode.MULTIPLE_FAILED, "it raised")


def table(heading: str) -> Mapping[str, list[str]]:
    """The rows of a chapter's table, by what their first cells have as code."""
    rows = re.findall(r"^\| `(\S+)` \|(.*)\|$", chapter(README, heading), re.MULTILINE)
    return {first: [cell.strip(" `") for cell in rest.split("|")] for first, rest in rows}


def test_a_line_of_the_record_has_what_is_said() -> None:
    row = round_row("bird-game", played(values=[1.5, object()]), values=True)
    keys = table("The record")
    assert [*keys] == [*row]
    assert [*json.loads(block(f"{README}#the-record"))] == [*row][:-2]
    assert keys["v"][0].startswith(f"version of the format, {VERSION}.")
    said = dict(re.findall(r"\b([A-Z]) (?:is )?([A-Z]{2,})", keys["statuses"][0]))
    assert said == {letter: status.value for status, letter in LETTERS.items()}


async def test_a_reader_of_the_status_socket_gets_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    events: list[dict[str, Any]] = []
    printed: list[tuple[object, ...]] = []
    definition, loop, usage = block("instruments/README.md#the-status-socket").partition("\n\nfor event in ")
    first_read = trio.Event()

    def read(token: trio.lowlevel.TrioToken) -> None:
        names: dict[str, Any] = {"print": lambda *words: printed.append(words)}
        exec(definition, names)
        follow = names["follow"]

        def followed(path: str) -> Iterator[dict[str, Any]]:
            for event in follow(path):
                events.append(event)
                token.run_sync_soon(first_read.set)
                yield event

        names["follow"] = followed
        exec(loop + usage, names)

    instrument = StatusSocket("status.sock")
    async with (
        trio.open_nursery() as nursery,
        LocalCrunch({"a": Model}, network=MemoryNetwork()) as crunch,
        Cluster(crunch.config(), SERVICE, instruments=[instrument]) as cluster,
    ):
        nursery.start_soon(trio.to_thread.run_sync, read, trio.lowlevel.current_trio_token())
        await first_read.wait()
        await cluster.call("predict")
        instrument.orchestrator_changed(connected=False, error="gone")
        await cluster.report_failure(cluster.models["a"], "LOW_PERFORMANCE")
    said = table("The status socket")
    assert {event["type"] for event in events} == set(said)
    assert (events[0]["type"], events[-1]["type"]) == ("snapshot", "end")
    for event in events:
        named = set(re.findall(r"`(\w+)`", f"`{said[event['type']][1]}`"))
        assert event.keys() - {"type", "at"} <= named
    assert printed == [("predict", "S")]


# Metrics


async def test_metrics_can_be_scraped_as_shown(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: list[int] = []
    monkeypatch.setattr(prometheus_client, "start_http_server", ports.append)
    code = "".join(f"    {line}\n" for line in block("instruments/README.md#prometheus").splitlines())
    names: dict[str, Any] = {"Cluster": Cluster, "service": SERVICE}
    exec(f"async def play(config):\n{code}", names)
    async with LocalCrunch({"a": Model}, network=MemoryNetwork(), crunch_id="as-shown") as crunch:
        await names["play"](crunch.config())
    assert ports == [9100]
    labels = {"crunch_id": "as-shown", "method": "predict", "status": "SUCCESS"}
    assert prometheus_client.REGISTRY.get_sample_value("trio_model_runner_results_total", labels) == 1


async def test_prometheus_metrics_have_these_names_types_and_labels(autojump_clock: MockClock) -> None:
    registry = CollectorRegistry()
    instrument = PrometheusInstrument(registry)
    async with listening(instrument):
        await trio.sleep(2)
        instrument.round_ended(None, played())
        instrument.report_sent(REPORT)
        families = list(registry.collect())
    said = table("Prometheus")
    found = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    assert {name: (row[0].partition(",")[0], set(row[1].split())) for name, row in said.items()} == found
    used = re.findall(r"(?:\(|`)(trio_model_runner_\w+)(?:\[| ==)", chapter(README, "Prometheus"))
    assert len(used) == 3
    assert {re.sub("_count$", "", name) for name in used} <= set(found)


async def test_open_telemetrys_metrics_have_these_names_and_attributes(autojump_clock: MockClock) -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    instrument = OpenTelemetryInstrument(meter_provider=meters)
    async with listening(instrument):
        start = RoundStart("7", "predict", 1764133200.0, 5.0, ())
        instrument.round_ended(instrument.round_started(start), played())  # type: ignore[arg-type]
    data = reader.get_metrics_data()
    meters.shutdown()
    assert data is not None
    found = {
        metric.name: {key for point in metric.data.data_points for key in point.attributes or {}}
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {name: set(row[0].split()) for name, row in table("OpenTelemetry").items()} == found


# One of your own


async def test_the_alarm_is_raised(autojump_clock: MockClock) -> None:
    said: list[str] = []
    names: dict[str, Any] = {"print": lambda *words: said.append(" ".join(map(str, words)))}
    exec(block("instruments/README.md#one-of-your-own"), names)
    async with coordinating({"a": Model, "b": Model}, instruments=[names["Alarm"]()]) as (crunch, cluster):
        await cluster.call("predict")
        assert not said
        for name in ("a", "b"):
            crunch.node(name).faults.call_status = ("MODEL_FAILED", "no feathers")
        await cluster.call("predict")
        await cluster.report_failure(cluster.models["a"], "LOW_PERFORMANCE", "worse than the benchmark")
        await crunch.wait_for_report("a")
    first, second = said
    assert first.startswith("half of the models are away: round ")
    assert second == f"reported: a {FailureCode.LOW_PERFORMANCE} worse than the benchmark"


def test_all_hooks_are_named() -> None:
    (listed,) = re.findall(r"event loop: (.*?)\.", chapter(README, "One of your own"), re.DOTALL)
    assert re.findall(r"`(\w+)`", listed) == [*HOOKS]
