"""Ours against the reference client (PyPI's `model-runner-client`) or against another tree of ours: a table.

    python tests/benchmarks/compare.py [--short | --long] [--json FILE] [--only MEASURE ...]
                                       [--baseline TREE [--reference]]
    python tests/benchmarks/compare.py --instruments

Every client gets an environment of its own (see `venvs`; making one takes a quarter of a minute). All call
the same fleets of nodes on this machine, each run in a process of its own, in turns: pair by pair, and the
one that comes first in one pair comes second in the next. A ratio is ours divided by the other's, so less
is better; the table has the median of the pairs, and the least and the greatest.

With --baseline the other one is a source tree of ours, say a checkout of an older commit, and the reference
client is measured only if --reference asks for it, in a table of its own. The grpcio fleet runs on the
reference's environment all the same.

The short form takes three minutes, and is for seeing at a glance whether something went wrong. The long one
takes about twenty, and is for the record. With --baseline both take longer, since every measure is a pair.
With --instruments nothing is compared: `instruments` measures what they cost a call.

No form decides a test: figures depend on the machine, and on what else it does. The exit code says whether
it worked, and nothing about targets.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from clients import OURS, REFERENCE, Client
from machine import describe_machine, summary
from measure_kinds import Measure
from measures import measures_against
from platform_processes import FleetName, running_platform
from runs import Environment, ImportRun, Result, Run, RunError
from table import Row, as_markdown, fill_row
from venvs import InstallationError, installed_versions, reference_python

SHORT_PAIRS = 4
LONG_PAIRS = 7


def main() -> None:
    """Measure what the command line asks for; failing that, say why."""
    options = read_options(sys.argv[1:])
    if options.instruments:
        sys.exit(subprocess.run([sys.executable, Path(__file__).with_name("instruments.py")]).returncode)
    try:
        compare(options)
    except (InstallationError, RunError) as error:
        sys.exit(str(error))


def compare(options: argparse.Namespace) -> None:
    """Make the environments, run the clients, and print a table for each that ours is compared with."""
    chosen = {base: chosen_measures(base, options) for base in options.bases}
    begun = time.monotonic()
    say("environments ...")
    clients = {run.client for measures in chosen.values() for run in needed_runs(measures)}
    pythons = {client: client.python() for client in clients | {*options.bases, options.ours}}
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "form": "long" if options.long else "short",
        "pairs": options.pairs,
        "trees": {client.name: str(client.tree) for client in pythons if client.tree},
        "versions": {client.name: installed_versions(python) for client, python in pythons.items()},
    }
    measures = by_key(chain.from_iterable(chosen.values()))
    with running_platform(reference_python(), needed_nodes(measures)) as platform:
        results = perform(measures, Environment(pythons, platform, options.long), options.pairs)
    tables = {base.name: [fill_row(measure, results) for measure in some] for base, some in chosen.items()}
    report["load_after"] = os.getloadavg()[0]
    report["measures"] = {name: [row.data for row in rows] for name, rows in tables.items()}
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    say(f"done in {time.monotonic() - begun:.0f} s")
    show(report, tables)


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; `ours` and `bases` are the clients that it names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", dest="long", action="store_false", help="for a glance (the default)")
    form.add_argument("--long", action="store_true", help="for the record")
    parser.set_defaults(long=False)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--only", nargs="+", metavar="MEASURE", help=", ".join(offered_keys([REFERENCE])))
    parser.add_argument("--pairs", type=int, help=f"default: {SHORT_PAIRS}; with --long: {LONG_PAIRS}")
    parser.add_argument(
        "--tree", type=Path, default=OURS.tree, help="the source tree that is ours (default: this one)"
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="TREE",
        help="another source tree of ours to compare with; --only knows "
        + ", ".join(offered_keys([Client("baseline", OURS.tree)])),
    )
    parser.add_argument("--reference", action="store_true", help="compare with the reference, too")
    parser.add_argument(
        "--instruments", action="store_true", help="measure what instruments cost, and no more"
    )
    options = parser.parse_args(arguments)
    if options.pairs is None:
        options.pairs = LONG_PAIRS if options.long else SHORT_PAIRS
    options.ours = Client(OURS.name, options.tree.resolve())
    options.bases = [Client("baseline", options.baseline.resolve())] if options.baseline else []
    if options.reference or not options.baseline:
        options.bases.append(REFERENCE)
    offered = offered_keys(options.bases)
    if unknown := set(options.only or []).difference(offered):
        parser.error(f"--only: no {', '.join(sorted(unknown))} here; choose from {', '.join(offered)}")
    return options


def offered_keys(bases: Sequence[Client]) -> list[str]:
    """The keys of all measures against some clients, each once."""
    return list(dict.fromkeys(measure.key for base in bases for measure in measures_against(base, OURS)))


def chosen_measures(base: Client, options: argparse.Namespace) -> list[Measure]:
    """The measures against one client that are asked for."""
    measures = measures_against(base, options.ours)
    return [measure for measure in measures if not options.only or measure.key in options.only]


def by_key(measures: Iterable[Measure]) -> list[Measure]:
    """Measures with those of the same key one after the other, so that their runs are, too."""
    groups: dict[str, list[Measure]] = {}
    for measure in measures:
        groups.setdefault(measure.key, []).append(measure)
    return list(chain.from_iterable(groups.values()))


def needed_runs(measures: Sequence[Measure]) -> list[Run]:
    """The runs that some measures take, each once, in an order that keeps what is compared together."""
    return list(dict.fromkeys(run for measure in measures for run in measure.runs))


def needed_nodes(measures: Sequence[Measure]) -> dict[FleetName, int]:
    """How many nodes the runs of some measures call at most, by fleet."""
    nodes: dict[FleetName, int] = {}
    for run in needed_runs(measures):
        if not isinstance(run, ImportRun):
            nodes[run.workload.fleet] = max(run.workload.models, nodes.get(run.workload.fleet, 0))
    return nodes


def perform(measures: Sequence[Measure], environment: Environment, pairs: int) -> list[dict[Run, Result]]:
    """Perform all runs that some measures take, so many times; the results of each time.

    The short form performs what ours alone is measured by just once: there is nothing to alternate with.
    Only imports, which take no time, are performed each time.
    """
    runs = needed_runs(measures)
    paired = needed_runs([measure for measure in measures if measure.paired])
    quick = [run for run in runs if isinstance(run, ImportRun)]
    once = set() if environment.long else set(runs) - {*paired, *quick}
    everything = []
    for pair in range(pairs):
        results: dict[Run, Result] = {}
        for run in runs if pair % 2 == 0 else reversed(runs):
            if pair and run in once:
                continue
            say(f"pair {pair + 1} of {pairs}: {run} ...")
            results[run] = run.perform(environment)
        everything.append(results)
    return everything


def show(report: Mapping[str, Any], tables: Mapping[str, Sequence[Row]]) -> None:
    """Print the tables, and where, when and of what they were made."""
    for base, rows in tables.items():
        if rows:
            print(as_markdown(rows, base), end="\n\n")
    print(f"{report['date']}, {summary(report['machine'])}; {report['form']}, {report['pairs']} pairs")
    print("; ".join(f"{name}: {tree}" for name, tree in report["trees"].items()))


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"\033[K{text}" if end == "\r" else text, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
