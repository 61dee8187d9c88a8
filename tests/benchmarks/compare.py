"""Ours against the reference client, PyPI's `model-runner-client`: one table.

    python tests/benchmarks/compare.py [--short | --long] [--json FILE] [--only MEASURE ...]

Both clients get an environment of their own (see `venvs`; the first time takes half a minute). They call
the same fleet of nodes on this machine, each run in a process of its own, in turns: pair by pair, and the
one that comes first in one pair comes second in the next. A ratio is ours divided by the reference's, so
less is better; the table has the median of the pairs, and the least and the greatest.

The short form takes a minute, and is for seeing at a glance whether something went wrong. The long one
takes about ten, and is for the record. Neither decides a test: figures depend on the machine, and on what
else it does. The exit code says whether it worked, and nothing about targets.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import describe_machine, summary
from measures import MEASURES, Measure
from platform_processes import running_platform
from runs import OURS, REFERENCE, ClientRun, Environment, Result, Run, RunError
from table import Row, as_markdown, fill_row
from venvs import REPOSITORY, InstallationError, installed_versions, our_python, reference_python

SHORT_PAIRS = 5
LONG_PAIRS = 7


def main() -> None:
    """Measure what the command line asks for; failing that, say why."""
    try:
        compare(read_options())
    except (InstallationError, RunError) as error:
        sys.exit(str(error))


def compare(options: argparse.Namespace) -> None:
    """Make the environments, run the clients, and print the table."""
    chosen = [measure for measure in MEASURES if not options.only or measure.key in options.only]
    begun = time.monotonic()
    say("environments ...")
    pythons = {REFERENCE: reference_python(), OURS: our_python(options.tree)}
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "form": "long" if options.long else "short",
        "pairs": options.pairs,
        "versions": {client: installed_versions(python) for client, python in pythons.items()},
    }
    nodes = max([run.workload.models for run in needed_runs(chosen) if isinstance(run, ClientRun)], default=1)
    with running_platform(pythons[REFERENCE], nodes) as port:
        results = perform(chosen, Environment(pythons, port, options.long), options.pairs)
    rows = [fill_row(measure, results) for measure in chosen]
    report["load_after"] = os.getloadavg()[0]
    report["measures"] = [row.data for row in rows]
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    say(f"done in {time.monotonic() - begun:.0f} s")
    show(report, rows)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", dest="long", action="store_false", help="for a glance (the default)")
    form.add_argument("--long", action="store_true", help="for the record")
    parser.set_defaults(long=False)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    keys = [measure.key for measure in MEASURES]
    parser.add_argument("--only", nargs="+", choices=keys, metavar="MEASURE", help=", ".join(keys))
    parser.add_argument("--pairs", type=int, help=f"default: {SHORT_PAIRS}; with --long: {LONG_PAIRS}")
    parser.add_argument("--tree", type=Path, default=REPOSITORY, help="another source tree of ours")
    options = parser.parse_args()
    if options.pairs is None:
        options.pairs = LONG_PAIRS if options.long else SHORT_PAIRS
    return options


def needed_runs(measures: Sequence[Measure]) -> list[Run]:
    """The runs that some measures take, each once, in an order that keeps what is compared together."""
    return list(dict.fromkeys(run for measure in measures for run in measure.runs))


def perform(measures: Sequence[Measure], environment: Environment, pairs: int) -> list[dict[Run, Result]]:
    """Perform all runs that some measures take, so many times; the results of each time.

    The short form performs what ours alone is measured by just once: there is nothing to alternate with.
    """
    runs = needed_runs(measures)
    paired = needed_runs([measure for measure in measures if measure.paired])
    once = set() if environment.long else set(runs) - set(paired)
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


def show(report: dict[str, Any], rows: Sequence[Row]) -> None:
    """Print the table, and where and when it was made."""
    print(as_markdown(rows))  # noqa: T201
    print()  # noqa: T201
    print(f"{report['date']}, {summary(report['machine'])}; {report['form']}, {report['pairs']} pairs")  # noqa: T201


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"\033[K{text}" if end == "\r" else text, end=end, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
