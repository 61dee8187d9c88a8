"""What `compare.py` reads from its command line, which runs that takes, and what it makes of their figures.

Nothing is installed or measured here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.append(
    str(Path(__file__).parent)
)  # the benchmarks are scripts, which import each other by bare names

import venvs
from clients import OURS, REFERENCE, Client
from compare import by_key, chosen_measures, needed_nodes, needed_runs, perform, read_options
from measure_kinds import Comparison, Measure, percentile
from measures import measures_against
from platform_processes import Platform
from runs import ClientRun, Environment, FloorRun, ImportRun, Result
from table import as_markdown, fill_row
from venvs import InstallationError, fingerprint, our_python

BASELINE = Client("baseline", Path("/older"))


class Performed:
    """Stands in for the runs: notes their order, and gives each client a figure of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **figures: float) -> None:
        self.order: list[str] = []
        self._figures = figures
        monkeypatch.setattr(ClientRun, "perform", lambda run, environment: self._perform(run))
        monkeypatch.setattr(ImportRun, "perform", lambda run, environment: self._import(run))

    def _perform(self, run: ClientRun) -> Result:
        self.order.append(f"{run.client.name} {run.workload.models}")
        return {"cpu_per_call": self._figures[run.client.name] * len(self.order)}

    def _import(self, run: ImportRun) -> Result:
        self.order.append(run.statement)
        return {"cpu": 0.1}


PLATFORM = Platform(port=1, directory=Path("/credentials"), entries={})


def environment(*, long: bool = False) -> Environment:
    return Environment({}, PLATFORM, long=long)


def the_measure(key: str) -> Measure:
    """A measure against the reference client."""
    return next(each for each in measures_against(REFERENCE, OURS) if each.key == key)


def test_without_a_baseline_the_reference_is_compared() -> None:
    options = read_options([])
    assert options.bases == [REFERENCE]
    assert options.ours == OURS
    assert (options.long, options.pairs) == (False, 4)


def test_with_a_baseline_the_reference_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    baseline = Client("baseline", tmp_path)
    assert read_options(["--baseline", str(tmp_path)]).bases == [baseline]
    assert read_options(["--baseline", str(tmp_path), "--reference"]).bases == [baseline, REFERENCE]
    assert read_options(["--baseline", str(tmp_path), "--long"]).pairs == 7


def test_only_refuses_what_the_comparison_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--only", "cpu-10"], ["--baseline", ".", "--only", "cpu-100", "scaling"]):
        with pytest.raises(SystemExit) as exit_:
            read_options(arguments)
        assert exit_.value.code == 2
    errors = capsys.readouterr().err
    assert "no cpu-10 here" in errors
    assert "no scaling here" in errors
    options = read_options(["--baseline", ".", "--reference", "--only", "cpu-10", "scaling"])
    keys = [[measure.key for measure in chosen_measures(base, options)] for base in options.bases]
    assert keys == [["cpu-10"], ["scaling"]]


def test_two_trees_are_compared_by_every_measure_and_without_targets() -> None:
    measures = measures_against(BASELINE, OURS)
    of_ours_alone = {"scaling", "door", "door-stall", "door-hop"}
    of_ours_alone |= {"steady-cpu-2000", "steady-cpu-5000", "floor"}
    assert {measure.key for measure in measures_against(REFERENCE, OURS)} - of_ours_alone < {
        measure.key for measure in measures
    }
    for measure in measures:
        assert isinstance(measure, Comparison)
        assert measure.paired
        assert measure.target is None
        assert {run.client for run in measure.runs} == {BASELINE, OURS}


def test_what_is_no_multiple_of_the_reference_s_is_of_ours_alone() -> None:
    alone = [measure for measure in measures_against(REFERENCE, OURS) if not measure.paired]
    assert [measure.key for measure in alone] == [
        *("scaling", "late-100", "late-1000"),
        *("steady-2000", "steady-cpu-2000", "steady-5000", "steady-cpu-5000"),
        *("secure-memory", "join-model", "import-added", "floor"),
    ]
    assert all(run.client == OURS for measure in alone for run in measure.runs)


def test_each_fleet_has_as_many_nodes_as_some_run_needs() -> None:
    assert needed_nodes(measures_against(REFERENCE, OURS)) == {
        "grpcio": 2000,
        "cheap": 5000,
        "secure": 200,
        "gateway": 100,
    }
    chosen = ["import-added", "secure-cpu", "secure-memory"]
    assert needed_nodes([the_measure(key) for key in chosen]) == {"secure": 200}


def test_only_clients_of_secured_nodes_are_given_credentials() -> None:
    credentials = {"cpu-100": "", "cpu-cheap": "", "secure-cpu": "/credentials/secure"}
    credentials["gateway-cpu"] = "/credentials/gateway"
    for key, directory in credentials.items():
        for run in the_measure(key).runs:
            assert isinstance(run, ClientRun)
            job = run.workload.job(environment())
            assert (job.port, job.credentials) == (1, directory)
            assert job.crunch_id == f"{run.workload.fleet}-{run.workload.models}"


def test_the_floor_does_what_ours_does() -> None:
    (floor,), (_, ours) = the_measure("floor").runs, the_measure("cpu-cheap").runs
    assert isinstance(floor, FloorRun)
    assert isinstance(ours, ClientRun)
    assert floor.workload == ours.workload


def test_the_door_is_measured_by_a_program_of_its_own_in_our_environment() -> None:
    measures = [each for each in measures_against(REFERENCE, OURS) if each.key.startswith("door")]
    assert [sorted(run.client.script.stem for run in each.runs) for each in measures] == [
        ["client_door", "client_reference"],
        ["client_door", "client_reference"],
        ["client_door", "client_ours"],
    ]
    assert all(run.client.tree in (None, OURS.tree) for each in measures for run in each.runs)


def test_the_one_that_comes_first_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    performed = Performed(monkeypatch, baseline=1.0, ours=1.0)
    measures = [measure for measure in measures_against(BASELINE, OURS) if measure.key.startswith("cpu-100")]
    perform(measures, environment(), 3)
    one, other = "baseline 100", "ours 100"
    assert performed.order == [one, other, other, one, one, other]


def test_what_ours_alone_is_measured_by_is_done_once_in_the_short_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    performed = Performed(monkeypatch, ours=1.0)
    measures = [measure for measure in measures_against(REFERENCE, OURS) if measure.key == "scaling"]
    perform(measures, environment(), 3)
    assert performed.order == ["ours 10", "ours 2000"]
    perform(measures, environment(long=True), 3)
    assert len(performed.order) == 2 + 6


def test_imports_are_done_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    performed = Performed(monkeypatch)
    perform([the_measure("import-added")], environment(), 2)
    of_trio, of_ours = performed.order[:2]
    assert performed.order == [of_trio, of_ours, of_ours, of_trio]
    assert of_trio == "import trio"


def test_runs_that_are_compared_stand_side_by_side() -> None:
    options = read_options(["--baseline", "/older", "--reference", "--only", "cpu-100", "memory-model"])
    chosen = [measure for base in options.bases for measure in chosen_measures(base, options)]
    order = [str(run) for run in needed_runs(by_key(chosen))]
    assert order == [
        f"{client}, {models} models" for models in (100, 500) for client in ("baseline", "ours", "reference")
    ]


def test_a_row_has_medians_the_least_and_the_greatest() -> None:
    measure = next(each for each in measures_against(BASELINE, OURS) if each.key == "cpu-100")
    assert isinstance(measure, Comparison)
    base_run, our_run = measure.runs
    pairs = [
        {base_run: {"cpu_per_call": base}, our_run: {"cpu_per_call": ours}}
        for base, ours in ((100e-6, 110e-6), (200e-6, 180e-6), (120e-6, 120e-6))
    ]
    row = fill_row(measure, pairs)
    assert row.cells == (measure.title, "120 us", "120 us", "1.00 (0.90-1.10)", "", "")
    assert row.data["baseline"] == [100e-6, 200e-6, 120e-6]
    assert row.data["ratio"] == pytest.approx({"median": 1.0, "min": 0.9, "max": 1.1})
    assert row.met is None
    heading, line, cells = as_markdown([row], "baseline").splitlines()
    assert [each.strip() for each in heading.split("|")[2:5]] == ["baseline", "ours", "ratio (min-max)"]
    assert len(heading) == len(line) == len(cells)


def test_a_row_of_ours_alone_has_the_median_and_its_range() -> None:
    measure = the_measure("secure-memory")
    few, many = measure.runs
    pairs = [
        {few: {"resident_bytes": 50e6}, many: {"resident_bytes": 50e6 + 150 * each}}
        for each in (100e3, 80e3, 89e3)
    ]
    row = fill_row(measure, pairs)
    assert row.cells == (measure.title, "", "89 KB (80-100)", "", "<= 90 KB", "yes")
    assert row.data["samples"] == [100e3, 80e3, 89e3]
    assert row.data["unit"] == "bytes"


def test_a_row_without_a_target_has_no_verdict() -> None:
    measure = the_measure("floor")
    row = fill_row(measure, [{measure.runs[0]: {"cpu_per_call": 7e-6}}])
    assert row.cells == (measure.title, "", "7 us", "", "", "")
    assert row.met is None


def test_the_worst_round_is_set_against_the_median_one() -> None:
    measure = the_measure("steady-5000")
    walls, cpus = [0.3] * 19 + [0.6], [0.2] * 20
    result = {"round_walls": walls, "round_cpus": cpus}
    row = fill_row(measure, [{measure.runs[0]: result}])
    assert row.cells[1:] == ("", "600 ms / 300 ms", "2.00 (2.00-2.00)", "<= 1.3", "**no**")
    compared = next(each for each in measures_against(BASELINE, OURS) if each.key == "steady-5000")
    row = fill_row(compared, [dict.fromkeys(compared.runs, result)])
    assert row.cells[1:4] == ("2", "2", "1.00 (1.00-1.00)")


def test_a_row_against_the_reference_says_whether_the_target_was_met() -> None:
    measure = next(each for each in measures_against(REFERENCE, OURS) if each.key == "cpu-500")
    reference_run, our_run = measure.runs
    for ours, met, cell in ((0.4, True, "yes"), (0.5, False, "**no**")):
        row = fill_row(measure, [{reference_run: {"cpu_per_call": 1.0}, our_run: {"cpu_per_call": ours}}])
        assert row.met is met
        assert row.cells[-2:] == ("<= 0.45", cell)


def test_percentile() -> None:
    samples = [float(each) for each in range(1, 201)]
    assert percentile(samples, 99) == 198
    assert percentile([3.0], 99) == 3


def test_a_tree_is_known_by_its_content(tmp_path: Path) -> None:
    trees = [tmp_path / name for name in ("one", "two")]
    for tree in trees:
        (tree / "trio_model_runner").mkdir(parents=True)
        (tree / "pyproject.toml").write_text("[project]\n")
        (tree / "trio_model_runner" / "__init__.py").write_text("x = 1\n")
    one, two = trees
    assert fingerprint(one) == fingerprint(two)
    (two / "trio_model_runner" / "__init__.py").rename(two / "trio_model_runner" / "other.py")
    assert fingerprint(one) != fingerprint(two)


def test_what_is_no_tree_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstallationError, match="no source tree of ours"):
        our_python(tmp_path)


def test_environments_that_were_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venvs, "CACHE", tmp_path)
    prefix = f"ours-{sys.implementation.cache_tag}-"
    used_at = {f"{prefix}{index}": index for index in range(venvs.KEPT_TREES + 2)}
    for name, when in {"reference-0": 0, **used_at}.items():
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (when, when))
    venvs.remove_long_unused()
    assert {path.name for path in tmp_path.iterdir()} == {"reference-0", *list(used_at)[2:]}
