"""Thirty node processes and an orchestrator, on sockets of this machine, and everything happens to them.

A random script, which depends on its seed alone (`script`), kills, freezes, thaws and restarts processes,
lets nodes raise, hang, babble, flood, overrun and hold the interpreter, cuts the way to some of them for
seconds (`relay_process`), redeploys and moves models while rounds run, and spares the orchestrator as little.
A plain model (`truth`) says at each line what should be so, and a cluster in this process must come to agree
with it (`campaign`); what must hold throughout is checked throughout.

**Why not hypothesis's stateful testing.** It could drive Trio through a thread, but what it is good at,
shrinking, plays a failing case again and again and wants it to fail each time. Here an example takes half
a minute, and whether two events meet is the kernel's choice: most cases would count as flaky. A script that
is plain text is as random, says in a glance what happened, and is shrunk by hand, which for a race is the
only way. When it fails, the script and the processes' output are printed with the exception.

To play more, set in the environment::

    CHAOS_SEEDS=100-150     other seeds, from-to or single, with commas in between
    CHAOS_ACTS=5            longer scripts, of so many acts
    CHAOS_SCRIPT=file       the script in this file instead, as it was printed

With ``-s`` pytest shows each script's figures: the worst that a round was late, what was reported. The first
of them is in the report that ``--junit-xml`` writes, too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .campaign import perform
from .frames import OUTBURSTS
from .script import TEMPERS, VERBS, make_script, parse_script
from .truth import Action

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and all of 127.0.0.0/8"),
    pytest.mark.timeout(300),
    # The report's schema has no properties of a test, but whoever reads reports takes them.
    pytest.mark.filterwarnings("ignore:record_property is incompatible:pytest.PytestWarning"),
]

DEFAULT_SEEDS = "2206,3706"  # which have everything between them
DEFAULT_ACTS = 2


def scripts() -> Iterator[object]:
    """The scripts to play, each with a name."""
    if path := os.environ.get("CHAOS_SCRIPT"):
        yield pytest.param(parse_script(Path(path).read_text()), id=Path(path).name)
        return
    acts = int(os.environ.get("CHAOS_ACTS", str(DEFAULT_ACTS)))
    for part in os.environ.get("CHAOS_SEEDS", DEFAULT_SEEDS).split(","):
        first, _, last = part.partition("-")
        for seed in range(int(first), int(last or first) + 1):
            yield pytest.param(make_script(seed, acts), id=f"seed{seed}")


@pytest.mark.parametrize("script", [*scripts()])
async def test_a_cluster_lives_through_it(
    script: list[Action], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    log = tmp_path / "processes.log"
    try:
        figures = await perform(script, log)
    except Exception as error:
        error.add_note("the script:\n" + "\n".join(map(str, script)))
        error.add_note("the end of what the processes had to say:\n" + log.read_text()[-4000:])
        raise
    print(f"\n{figures}")
    record_property("worst_overshoot_seconds", figures.worst_overshoot)
    assert figures.rounds > 0


def test_the_default_scripts_have_every_fault() -> None:
    scripts = [make_script(int(seed), DEFAULT_ACTS) for seed in DEFAULT_SEEDS.split(",")]
    actions = [action for script in scripts for action in script]
    assert {action.verb for action in actions} == {*VERBS, "settle", "rest"}
    assert {action.detail for action in actions if action.verb == "temper"} == {*TEMPERS}
    assert {action.detail for action in actions if action.verb == "outburst"} == {*OUTBURSTS}


@pytest.mark.parametrize("seed", range(20))
def test_a_script_can_be_printed_and_played_again(seed: int) -> None:
    script = make_script(seed, acts=3)
    assert (
        parse_script("\n".join(f"  {action}  # {number}" for number, action in enumerate(script))) == script
    )
    assert make_script(seed, acts=3) == script
