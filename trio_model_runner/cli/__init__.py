"""The command ``trio-model-runner``: for people at a terminal, and for scripts.

The commands need click and rich (the extra ``cli``), but the library does not. Without them, the command
prints one line that says so. Ctrl-C, at any moment, brings the prompt back and never prints a traceback. A
process may be started without standard input, output or error, and then the first socket would get that
number. All this must work before anything else is imported, so the code for it is here.

Read in this order: `commands` has all commands. `running` says how they run and end. `options` has the
options that they share. All output goes through `output`, which no text from outside passes as it is; `log`
says where the log goes. `stopping` gives the terminal back on Ctrl-Z.
`config_command` lists the settings of `settings_list`. `check_command` shows what `checking` finds.
`status_command` and `watch_command` show what `watching` hears. `call_command` asks models by hand;
`values_given` reads the values for that. `demo` plays the bird game: `bird_game` is the game, `birds` has its
models, `board` shows a round on the screen, `table` lays out tables, `events` says what happens between
rounds. No other room may import this one.
"""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["main"]

_EXTRA = frozenset({"click", "rich"})
_USAGE_ERROR = 2


def main() -> None:
    """Run the command line and exit: 0 if all is well, 2 if it was used wrongly, 130 after Ctrl-C."""
    try:
        _reserve_standard_files()
        code = _run()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to interrupt
    sys.exit(code)


def _reserve_standard_files() -> None:
    """Keep the numbers of standard files that are closed from everything that is opened later."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - else its texts would go to stdout


def _run() -> int:
    if sys.stdout is None:
        sys.stderr.write("Error: standard output is closed, and results go there (>/dev/null drops them)\n")
        return _USAGE_ERROR
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
