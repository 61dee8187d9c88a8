"""Frames of all kinds, sent as a coordinator sends them: each arrives as it was, or is refused.

    python tests/fuzzing/sent_frames.py [--seconds 60] [--seed SEED] [--node PYTHON] [--kind pandas]

Frames come from the strategies that the test of the same rule uses, `tests/values/test_frame_trips.py`. With
`--node`, another interpreter reads them, too: that of a node's environment, such as the one that
`tests/real_nodes` installs under `.cache/`. The first frame that breaks the rule is made as small as it can
be, and shown; the exit code is 1.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.append(str(Path(__file__).parents[1]))

from helpers import frames_to_send
from helpers.frame_trips import NodeReader, assert_that_it_arrives

KINDS = {
    "all": frames_to_send.frames_to_send(),
    "pandas": frames_to_send.pandas_frames_to_send(),
    "polars": frames_to_send.polars_frames(),
    "arrow": frames_to_send.arrow_tables(),
}
AT_A_TIME = 500
"""Examples in a run of Hypothesis: longer ones get slow."""


def main() -> int:
    """Send frames for as long as the command line says; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--node", type=Path)
    parser.add_argument("--kind", choices=sorted(KINDS), default="all")
    options = parser.parse_args()
    node = NodeReader(options.node) if options.node else None
    counts: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + options.seconds
    run = options.seed
    try:
        while time.monotonic() < end:
            send_some(KINDS[options.kind], run, counts, node)
            run += 1
    finally:
        if node is not None:
            node.close()
        print(f"seeds {options.seed} to {run}: {dict(counts)}", flush=True)
    return 0


def send_some(strategy: Any, number: int, counts: collections.Counter[str], node: NodeReader | None) -> None:
    """Send some hundred frames, and count them by library and outcome."""

    @settings(
        max_examples=AT_A_TIME,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @seed(number)
    @given(strategy)
    def send(frame: Any) -> None:
        outcome = "sent" if assert_that_it_arrives(frame, node) else "refused"
        counts[f"{type(frame).__module__.partition('.')[0]} {outcome}"] += 1

    send()


if __name__ == "__main__":
    sys.exit(main())
