"""Metrics as Prometheus' own parser reads them from a page that was scraped."""

from __future__ import annotations

import contextlib
import math
import threading
import urllib.request
from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating
from helpers.played import PlainModel, listening, observed, played
from prometheus_client import CollectorRegistry, Counter, generate_latest, start_http_server
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.registry import Collector
from trio.testing import MockClock

from trio_model_runner import Arguments, ChangeKind, Cluster, ConfigError
from trio_model_runner.cluster.changes import Change
from trio_model_runner.instruments import PrometheusInstrument, Report
from trio_model_runner.instruments.figures import Figures
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.values.failure_codes import FailureCode

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(page: str) -> Samples:
    return {
        (sample.name.removeprefix("trio_model_runner_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(page)
        for sample in family.samples
    }


def scraped(registry: CollectorRegistry) -> Samples:
    return samples_of(generate_latest(registry).decode())


def key(name: str, crunch_id: str = "bird-game", **labels: str) -> Any:
    return name, tuple(sorted({"crunch_id": crunch_id, **labels}.items()))


async def test_a_clusters_metrics_are_scraped(autojump_clock: MockClock) -> None:
    registry = CollectorRegistry()
    server, thread = start_http_server(0, "127.0.0.1", registry)
    instrument = PrometheusInstrument(registry)
    try:
        async with coordinating({"a": Model, "b": Model}, instruments=[instrument]) as (crunch, cluster):
            crunch.node("b").faults.call_status = ("MODEL_FAILED", "no feathers")
            for _ in range(3):
                await cluster.call("predict")
            await cluster.models["a"].call("tick")
            await cluster.report_failure(cluster.models["b"], "LOW_PERFORMANCE")
            await trio.sleep(2)
            url = f"http://127.0.0.1:{server.server_port}/metrics"
            page = urllib.request.urlopen(url).read().decode()  # noqa: ASYNC210 - a thread of ours answers
            crunch_id = crunch.config().crunch_id
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    samples = samples_of(page)
    of = {"crunch_id": crunch_id, "method": "predict"}
    assert samples[key("results_total", **of, status="SUCCESS")] == 3
    assert samples[key("results_total", **of, status="FAILED")] == 3
    assert samples[key("results_total", crunch_id=crunch_id, method="tick", status="SUCCESS")] == 1
    assert samples[key("result_seconds_count", **of, status="FAILED")] == 3
    assert samples[key("result_seconds_bucket", **of, status="SUCCESS", le="0.005")] == 3  # time stands still
    assert samples[key("round_seconds_count", **of)] == 3
    assert samples[key("reports_total", crunch_id=crunch_id, code="LOW_PERFORMANCE")] == 1
    assert samples[key("orchestrator_connected", crunch_id=crunch_id)] == 1
    assert samples[key("models", crunch_id=crunch_id, state="ready")] == 1
    families = {family.name: family.type for family in parse(page)}
    assert families == {
        "trio_model_runner_results": "counter",
        "trio_model_runner_result_seconds": "histogram",
        "trio_model_runner_round_seconds": "histogram",
        "trio_model_runner_models": "gauge",
        "trio_model_runner_reports": "counter",
        "trio_model_runner_orchestrator_connected": "gauge",
    }
    after = scraped(registry)
    assert after[key("orchestrator_connected", crunch_id=crunch_id)] == 0
    assert not any(name == "models" for name, _ in after)
    assert after[key("round_seconds_count", **of)] == 3


async def test_times_are_in_buckets(autojump_clock: MockClock) -> None:
    registry = CollectorRegistry()
    async with listening(instrument := PrometheusInstrument(registry, buckets=(0.2, 1))):
        instrument.round_ended(None, played("SSTFKA"))
        instrument.round_ended(None, None)
        instrument.call_ended(played("S" * 10))
        page = generate_latest(registry).decode()
        list(parse_open_metrics(generate_open_metrics(registry).decode()))  # which checks buckets, too
    samples = samples_of(page)
    of = {"method": "predict"}
    counts = [
        samples[key("result_seconds_bucket", **of, status="SUCCESS", le=le)] for le in ("0.2", "1.0", "+Inf")
    ]
    assert counts == [2, 10, 12]
    assert samples[key("result_seconds_sum", **of, status="SUCCESS")] == pytest.approx(0.12345 * (3 + 55))
    assert samples[key("results_total", **of, status="ABSENT")] == 1
    assert key("result_seconds_count", **of, status="ABSENT") not in samples
    assert samples[key("round_seconds_sum", **of)] == pytest.approx(0.91234)


async def test_crunches_share_a_registry(autojump_clock: MockClock) -> None:
    registry = CollectorRegistry()
    birds, fish, other = (PrometheusInstrument(registry) for _ in range(3))
    async with listening(birds, "birds"), listening(fish, "fish"):
        birds.round_ended(None, played("S"))
        fish.round_ended(None, played("SS"))
        with pytest.raises(ConfigError, match="crunch 'fish' is counted in this registry by another"):
            async with listening(other, "fish"):
                raise AssertionError
        with pytest.raises(ConfigError, match="listens to another cluster"):
            async with listening(birds, "cats"):
                raise AssertionError
        samples = scraped(registry)
        of = {"method": "predict", "status": "SUCCESS"}
        assert samples[key("results_total", "birds", **of)] == 1
        assert samples[key("results_total", "fish", **of)] == 2
    async with listening(other, "fish"):  # in the next block, counts go on
        other.round_ended(None, played("SS"))
    assert scraped(registry)[key("results_total", "fish", **of)] == 4


async def test_model_ids_are_labels_only_if_asked_for(autojump_clock: MockClock) -> None:
    without, registry = CollectorRegistry(), CollectorRegistry()
    rounds = played("ST")
    async with listening(plain := PrometheusInstrument(without)):
        plain.round_ended(None, rounds)
        assert "m0" not in generate_latest(without).decode()
    async with listening(each := PrometheusInstrument(registry, model_ids=True)):
        announce(each, *rounds)
        each.round_ended(None, rounds)
        samples = scraped(registry)
        of = {"method": "predict", "status": "TIMEOUT", "model_id": "m1"}
        assert samples[key("results_total", **of)] == samples[key("result_seconds_count", **of)] == 1
        model = list(rounds)[1]
        each.model_changed(Change(ChangeKind.FAILED, model))
        assert key("results_total", **of) in scraped(registry)
        each.model_changed(Change(ChangeKind.LEFT, model))
        assert not any("m1" in str(labels) for _, labels in scraped(registry))
        assert any("m0" in str(labels) for _, labels in scraped(registry))


def announce(instrument: PrometheusInstrument, *models: Any) -> None:
    for model in models:
        instrument.model_changed(Change(ChangeKind.ANNOUNCED, model))


def as_runner(model: Any) -> Any:
    return model  # a change has a ModelRunner


def models_in(registry: CollectorRegistry) -> set[str]:
    return {value for _, labels in scraped(registry) for name, value in labels if name == "model_id"}


async def test_a_model_that_left_has_no_series_whenever_it_left(autojump_clock: MockClock) -> None:
    registry, abc = CollectorRegistry(), dict.fromkeys("abc", Model)
    async with LocalCrunch(abc, network=MemoryNetwork()) as crunch:
        async with counted_cluster(crunch, registry) as cluster:
            await cluster.call("predict")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cluster.call, "sleep", Arguments(5.0))
                await trio.sleep(1)
                await crunch.remove("b")  # in the midst of its call, which still has a result
            await cluster.call("predict")
            assert models_in(registry) == {"a", "c"}
        assert models_in(registry) == {"a", "c"}  # counts stay
        await crunch.remove("c")
        async with counted_cluster(crunch, registry) as cluster:
            await trio.sleep(2)
            assert models_in(registry) == {"a"}
            await cluster.call("predict")
    of = {"method": "predict", "status": "SUCCESS", "model_id": "a"}
    assert scraped(registry)[key("results_total", crunch.config().crunch_id, **of)] == 3


def counted_cluster(crunch: LocalCrunch, registry: CollectorRegistry) -> Cluster:
    return Cluster(crunch.config(), SERVICE, instruments=[PrometheusInstrument(registry, model_ids=True)])


async def test_a_model_stays_when_one_of_its_deployments_is_gone(autojump_clock: MockClock) -> None:
    registry = CollectorRegistry()
    old, new, newer = (PlainModel("m0", deployment) for deployment in ("17", "18", "19"))
    async with listening(instrument := PrometheusInstrument(registry, model_ids=True)):
        announce(instrument, old)
        instrument.round_ended(None, played("S"))
        announce(instrument, new)
        instrument.model_changed(Change(ChangeKind.LEFT, as_runner(new)))  # it was never ready
        announce(instrument, newer)
        instrument.model_changed(Change(ChangeKind.REDEPLOYED, as_runner(newer), previous=as_runner(old)))
        instrument.round_ended(None, played("S"))
        of = {"method": "predict", "status": "SUCCESS", "model_id": "m0"}
        assert scraped(registry)[key("results_total", **of)] == 2
        instrument.model_changed(Change(ChangeKind.LEFT, as_runner(newer)))
        assert models_in(registry) == set()


async def test_states_that_no_model_is_in_any_more_are_zero(autojump_clock: MockClock) -> None:
    registry, counts = CollectorRegistry(), {"connecting": 2}
    instrument = PrometheusInstrument(registry)
    async with instrument.running(observed(models=counts)):
        await trio.sleep(0.5)
        assert scraped(registry)[key("models", state="connecting")] == 2
        counts.clear()
        counts["ready"] = 2
        await trio.sleep(1)
        samples = scraped(registry)
        assert (samples[key("models", state="connecting")], samples[key("models", state="ready")]) == (0, 2)


async def test_method_names_are_escaped(autojump_clock: MockClock) -> None:
    registry, method = CollectorRegistry(), 'pre"dict\\\n'
    async with listening(instrument := PrometheusInstrument(registry)):
        instrument.round_ended(None, played("S", method=method))
        instrument.report_sent(Report("m0", None, FailureCode.MULTIPLE_FAILED, None))
    assert scraped(registry)[key("results_total", method=method, status="SUCCESS")] == 1


def test_scraping_in_a_thread_sees_whole_rounds() -> None:
    figures, ended = Figures((0.1, 1.0), model_ids=False), threading.Event()
    wrong: list[Any] = []

    def scrape() -> None:
        while not ended.is_set():
            copy = figures.copy()
            counts = {labels: sum(times.counts) for labels, times in copy.result_times.items()}
            if any(copy.results[labels] != count for labels, count in counts.items()) or (
                sum(copy.results.values()) % 100
            ):
                wrong.append(counts)

    thread = threading.Thread(target=scrape)
    thread.start()
    rounds = played("SSTF" * 25)
    for _ in range(300):
        figures.count_round(rounds)
    ended.set()
    thread.join()
    assert not wrong
    assert sum(figures.results.values()) == 30_000


def test_the_first_instruments_of_a_registry_may_be_made_in_several_threads() -> None:
    class Slow(CollectorRegistry):
        def register(self, collector: Collector) -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.1)  # two at the same time would both go on from here
            super().register(collector)

    def make() -> None:
        try:
            PrometheusInstrument(registry)
        except ValueError as error:
            wrong.append(error)

    registry, both, wrong = Slow(), threading.Barrier(2), []
    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


BUCKETS: list[Any] = [
    *((), (1, 1), (2, 1), (math.inf,), (math.nan,), (0, 1), (-1, 1)),
    *(None, 5, "123", b"12", ["a"], ["1", "2"], [None], [True, 2], {1: 2}, [1, math.nan]),
]


@pytest.mark.parametrize("buckets", BUCKETS, ids=repr)
def test_wrong_buckets_are_refused(buckets: Any) -> None:
    with pytest.raises(ConfigError, match="buckets: must be numbers of seconds that grow"):
        PrometheusInstrument(CollectorRegistry(), buckets=buckets)


def test_a_registry_is_wanted_that_has_no_such_metrics() -> None:
    with pytest.raises(ConfigError, match="registry: must be a CollectorRegistry, got 'metrics'"):
        PrometheusInstrument("metrics")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model_ids: must be True or False, got 'yes'"):
        PrometheusInstrument(CollectorRegistry(), model_ids="yes")  # type: ignore[arg-type]
    registry = CollectorRegistry()
    Counter("trio_model_runner_results", "Another one's.", registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        PrometheusInstrument(registry)
