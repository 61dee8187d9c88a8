"""The command ``trio-model-runner``: what this library does, for whoever sits at a terminal.

The commands need click and rich, which the library itself does not (the extra ``cli``). Whoever has
installed only the library gets one line that says so. And whoever presses Ctrl-C, at whatever moment, gets
the prompt back and never a traceback. Both must hold before anything else is imported, so they are here.

`commands` has the commands. `demo` plays the bird game: `bird_game` is the game and `birds` its models. What
is written goes through `output`: `board` is a round on the screen, `table` lays out tables, `events` says
what happens between rounds. Nothing else in the package knows this one.
"""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]

_EXTRA = frozenset({"click", "rich"})
_USAGE_ERROR = 2


def main() -> None:
    """Run the command line and exit: 0 if all is well, 2 if it was used wrongly, 130 after Ctrl-C."""
    try:
        code = _run()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left that could be interrupted
    sys.exit(code)


def _run() -> int:
    try:
        from .commands import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.stderr.write(
            f"trio-model-runner needs {missing}, which is not installed: "
            "pip install 'trio-model-runner[cli]'\n"
        )
        return _USAGE_ERROR
    return run()
