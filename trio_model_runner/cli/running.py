"""How every command runs and ends: its exit code, Ctrl-C, and errors in one line.

Results go to stdout, and everything else to stderr. A program reads the exit code: 0 is well, 1 a finding
(what the command looked for is not as it should be), 2 wrong use or a wrong configuration, 3 no orchestrator,
130, 143 and 129 the signals SIGINT, SIGTERM and SIGHUP. A `Failure` is one line for people, which says what
to do; its traceback is shown with ``--debug`` alone.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import attrs
import click
import trio

from ..errors import ConfigError, OrchestratorUnavailable
from ..groups import first_of, one_by_itself
from ..text import cut, named_error
from .log import log_to
from .output import abandon_output, clean, is_lost_output

__all__ = ["Exit", "Failure", "Running", "library_log", "run_command", "run_until_interrupted"]

_LONGEST_ERROR = 2000  # characters
_LONGEST_MISUSE = 1000  # characters, before it is said where help is


class Exit(enum.IntEnum):
    """The exit codes of all commands, but those of signals."""

    WELL = 0
    FINDING = 1
    USAGE = 2
    NO_ORCHESTRATOR = 3


@attrs.define
class Running:
    """What the command line says about the run itself.

    Attributes:
        debug: show tracebacks, and the library's log.
    """

    debug: bool = False


class Failure(click.ClickException):
    """The command can't do what it was asked. The text is one line, which says what to do.

    Args:
        message: the text.
        code: the exit code.
        several: each line of the text is a trouble of its own, and stays one.
    """

    def __init__(self, message: str, code: Exit = Exit.FINDING, *, several: bool = False) -> None:
        lines = message[:_LONGEST_ERROR].splitlines() if several else [message[:_LONGEST_ERROR]]
        super().__init__("\n".join(map(clean, lines)))
        self.exit_code = code  # type: ignore[misc]


def run_command(group: click.Group, program: str) -> int:
    """Run the command in the command line, and return the exit code."""
    running = Running()
    code: Any = Exit.WELL
    try:
        code = group.main(prog_name=program, standalone_mode=False, obj=running)
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except SystemExit as error:  # of rich and click, when the reader of our output has gone
        code = error.code
    except Exception as error:
        failure = _as_failure(error)
        if is_lost_output(_alone(error)):
            abandon_output()
        if running.debug:
            traceback.print_exception(error)
        with contextlib.suppress(OSError):  # stderr may be full, too
            failure.show()
        code = failure.exit_code
    return int(code) if isinstance(code, int) else Exit.WELL


def _as_failure(error: Exception) -> click.ClickException:
    error = _alone(error)
    match error:
        case click.UsageError() if not isinstance(error, click.exceptions.NoArgsIsHelpError):
            return _in_one_line(error)
        case click.ClickException():
            return error
        case ConfigError():
            return Failure(str(error), Exit.USAGE, several=True)
        case OrchestratorUnavailable():
            return Failure(f"{error} (trio-model-runner check says more)", Exit.NO_ORCHESTRATOR)
        case OSError() if is_lost_output(error):
            return Failure(f"standard output can't be written: {error.strerror}")
        case _:
            text = f"{named_error(error)} (this should not happen; --debug shows where it did)"
            return Failure(text)


def _in_one_line(error: click.UsageError) -> Failure:
    """What was used wrongly, and where to look: click's own way to say it takes four lines."""
    text = cut(error.format_message().removesuffix("."), _LONGEST_MISUSE)
    return Failure(text if error.ctx is None else f"{text} (see {error.ctx.command_path} --help)", Exit.USAGE)


def _alone(error: Exception) -> Exception:
    first = first_of(error)
    return first if isinstance(first, Exception) else error


def run_until_interrupted(command: Callable[[], Awaitable[int | None]]) -> int:
    """Run a command in Trio until it ends, or SIGINT, SIGTERM or SIGHUP ends it. Return the exit code."""
    code = 0
    try:
        code = trio.run(_run_until_signal, command)
    except* KeyboardInterrupt:  # it came before we listened, or came twice
        code = 128 + signal.SIGINT
    except* SystemExit as group:
        code = _exit_code(group)
    return code


def _exit_code(error: BaseException) -> int:
    error = first_of(error)
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1


async def _run_until_signal(command: Callable[[], Awaitable[int | None]]) -> int:
    code = 0

    async def wait_for_signal() -> None:
        nonlocal code
        async for number in signals:
            code = 128 + number
            nursery.cancel_scope.cancel()

    ending = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        ending.append(signal.SIGHUP)
    with trio.open_signal_receiver(*ending) as signals, one_by_itself():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_signal)
            code = await command() or code
            nursery.cancel_scope.cancel()
    return code


def library_log(running: Running, *, level: int = logging.ERROR) -> AbstractContextManager[None]:
    """Write the library's log to stderr: from a level on, or with ``--debug`` all of it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    return log_to(handler, level=logging.DEBUG if running.debug else level)
