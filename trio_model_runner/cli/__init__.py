"""The command ``trio-model-runner``: for people at a terminal, and for scripts.

The commands need click and rich (the extra ``cli``), but the library does not. Without them, the command
prints one line that says so. Ctrl-C, at any moment, brings the prompt back and never prints a traceback. That
line and Ctrl-C must work before anything else is imported, so the code for them is here.

Read in this order: `commands` has all commands. `running` says how they run and end. `options` has the
options that they share. All output goes through `output`, which no text from outside passes as it is.
`config_command` lists the settings of `settings_list`. `check_command` shows what `checking` finds.
`status_command` and `watch_command` show what `watching` hears. `call_command` asks models by hand;
`values_given` reads the values for that. `demo` plays the bird game: `bird_game` is the game, `birds` has its
models, `board` shows a round on the screen, `table` lays out tables, `events` says what happens between
rounds. No other room may import this one.
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to interrupt
    sys.exit(code)


def _run() -> int:
    try:
        from .commands import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.stderr.write(
            f"trio-model-runner needs {missing}, which is not installed: pip install '.[cli]' in a clone\n"
        )
        return _USAGE_ERROR
    return run()
