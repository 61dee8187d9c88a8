"""All kinds of misbehaviour of hostile nodes, beside honest ones: what they cost the honest ones, as a table.

    python tests/benchmarks/hostile.py [--kinds KIND ...] [--rounds 4] [--tree TREE] [--json FILE] [--list]

For each kind a coordinator plays rounds with 20 honest nodes and 5 hostile ones. Then it does so again, with
silent nodes in the hostile ones' place, while a dumb client drains the same flood from others like them:
that is the control, in which the machine has the same load, and the coordinator nothing to do with it. The
honest nodes, the hostile ones, the dumb client and the coordinator are processes of their own.

The targets, for every kind: rounds return within 50 ms of their timeout; the median honest answer takes at
most 20 ms more than in the control, and the latest one 100 ms more; no honest model is without its answer;
and the coordinator's memory grows by no more than the kind says. The exit code is 1 if one is missed.

"KIND+tls" plays a kind over TLS, with a coordinator in gateway mode. --tree measures the package of another
source tree; it must suit this tree's `hostile_coordinator.py`, and runs on this environment's dependencies.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile_server  # noqa: F401 - which knows all modules of kinds
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hostile_peer import KINDS, Kind
from hostile_table import HEAD, Figures, Row, as_line, separator, summary
from machine import describe_machine
from machine import summary as machine_summary
from platform_processes import first_line, running
from venvs import REPOSITORY

HERE = Path(__file__).parent
HONEST = 20
HOSTILE = 5
TIMEOUT = 1.0
PERIOD = 1.05
PATIENCE = 90.0
"""Seconds after which a coordinator has failed."""
TLS = "+tls"
OVER_TLS = ("interim", "settings_table", "data_bytes", "large_string")
"""The kinds that are played over TLS, too, when all are played."""


@dataclass(frozen=True)
class Setting:
    """What all runs share.

    Attributes:
        tree: whose package is measured.
        rounds: how many rounds a run has.
        honest: the ports of `hostile_honest`.
        directory: the certificates and keys.
    """

    tree: Path
    rounds: int
    honest: dict[str, Any]
    directory: Path

    @property
    def certificate(self) -> str:
        """The servers' certificate and key."""
        return str(self.directory / "server.pem")


def main() -> None:
    """Play what the command line asks for, and print each kind's row when it is done."""
    options = read_options(sys.argv[1:])
    if options.list:
        for kind in KINDS.values():
            print(f"{kind.name:22}{kind.description}")
        return
    machine = describe_machine()
    print(HEAD, separator(), sep="\n", flush=True)
    rows: list[Row] = []
    with running_setting(options.tree.resolve(), options.rounds) as setting:
        for name in options.kinds:
            rows.append(measure(setting, name))
            print(as_line(rows[-1]), flush=True)
    print(f"\n{summary(rows)}")
    print(f"{machine_summary(machine)}, {os.getloadavg()[0]:.1f} after; {rows[0].flood.package}")
    if options.json is not None:
        report = {"machine": machine, "rounds": options.rounds, "kinds": [row.data for row in rows]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(any(row.misses for row in rows))


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    everything = [name for name in KINDS if name != "silent"] + [name + TLS for name in OVER_TLS]
    parser.add_argument("--kinds", nargs="+", metavar="KIND", default=everything, help="default: all")
    parser.add_argument("--rounds", type=int, default=4, help="of each run, a second each (default: 4)")
    parser.add_argument("--tree", type=Path, default=REPOSITORY, help="whose package (default: this tree's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--list", action="store_true", help="say what the kinds are, and play none")
    options = parser.parse_args(arguments)
    if unknown := {name.removesuffix(TLS) for name in options.kinds} - set(KINDS):
        parser.error(f"--kinds: no {', '.join(sorted(unknown))}; --list says which there are")
    if not (options.tree / "trio_model_runner").is_dir():
        parser.error(f"--tree: {options.tree} is no source tree of ours")
    return options


@contextmanager
def running_setting(tree: Path, rounds: int) -> Iterator[Setting]:
    """Make the certificates, and run the honest side."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as temporary:
        directory = Path(temporary)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(directory / "authority.pem")
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            directory / "server.pem"
        )
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / "key.pem").write_bytes(pem)
        with running(script("hostile_honest.py", HONEST, directory / "server.pem")) as honest:
            yield Setting(tree, rounds, json.loads(first_line(honest)), directory)


def measure(setting: Setting, name: str) -> Row:
    """Play a kind, and its control."""
    kind, tls = KINDS[name.removesuffix(TLS)], name.endswith(TLS)
    say(f"{name}: control ...")
    with ExitStack() as stack:
        elsewhere = stack.enter_context(Hostile.running(setting, kind, tls=tls))
        drain = script("hostile_drain.py", PERIOD, int(tls), *elsewhere.ports)
        stack.enter_context(running(drain))
        control = play(setting, KINDS["silent"], tls=tls)
    say(f"{name}: flood ...")
    return Row(name, kind, flood=play(setting, kind, tls=tls), control=control)


class Hostile:
    """A running process of hostile nodes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.ports: list[int] = json.loads(first_line(process))
        self._process = process

    @classmethod
    @contextmanager
    def running(cls, setting: Setting, kind: Kind, *, tls: bool) -> Iterator[Hostile]:
        """Run the nodes of a kind."""
        certificate = [setting.certificate] if tls else []
        with running(script("hostile_server.py", kind.name, HOSTILE, *certificate)) as process:
            yield cls(process)

    def counts(self) -> dict[str, int]:
        """End the nodes; how many connections they had, and how many bytes they sent."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        counts: dict[str, int] = json.loads(first_line(self._process))
        return counts


def play(setting: Setting, kind: Kind, *, tls: bool) -> Figures:
    """Run a coordinator with the honest nodes and a kind's."""
    with Hostile.running(setting, kind, tls=tls) as hostile:
        ports = setting.honest["tls" if tls else "plain"] + hostile.ports
        job = {
            "crunch_id": f"ports-{'-'.join(map(str, ports))}",
            "port": setting.honest["orchestrator"],
            "honest": HONEST,
            "models": len(ports),
            "rounds": setting.rounds,
            "timeout": TIMEOUT,
            "period": PERIOD,
            "credentials": str(setting.directory) if tls else None,
        }
        environment = os.environ | {
            "PYTHONPATH": str(setting.tree),
            "SSL_CERT_FILE": str(setting.directory / "authority.pem"),
        }
        command = script("hostile_coordinator.py", json.dumps(job))
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return Figures(TIMEOUT, failure=f"the coordinator was not done in {PATIENCE:g} s")
        if done.returncode:
            return Figures(TIMEOUT, failure=(done.stderr.strip().splitlines() or ["no error"])[-1])
        return Figures(TIMEOUT, **(json.loads(done.stdout) | hostile.counts()))


def script(name: str, *arguments: object) -> list[str]:
    """The command that runs a program of this directory."""
    return [sys.executable, str(HERE / name), *map(str, arguments)]


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    if sys.stderr.isatty():
        print(f"\033[K{time.strftime('%H:%M:%S')} {text}", end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
