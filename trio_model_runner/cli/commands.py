"""The commands and their options, and how they end.

click reads the options. Each command is an async function in a module of its own, and gets a console to write
to. All commands run in `run_until_interrupted`, so all end in the same way: Ctrl-C cancels, and the open
blocks say goodbye to their peers.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Any

import click
import trio

from ..groups import first_of, one_by_itself
from .output import open_console
from .timeline import timeline

__all__ = ["commands", "run", "run_until_interrupted"]

PROGRAM = "trio-model-runner"

_TIMEOUT_BOUNDS = (0.1, 60.0)


def run() -> int:
    """Run the command in the command line, and return the exit code."""
    try:
        code: Any = commands.main(prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except SystemExit as error:  # of rich, when the reader of our output has gone
        code = error.code
    return code if isinstance(code, int) else 0


def run_until_interrupted(command: Callable[[], Awaitable[None]]) -> int:
    """Run a command in Trio until it ends, or SIGINT or SIGTERM ends it. Return the exit code."""
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


async def _run_until_signal(command: Callable[[], Awaitable[None]]) -> int:
    code = 0

    async def wait_for_signal() -> None:
        nonlocal code
        async for number in signals:
            code = 128 + number
            nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals, one_by_itself():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_signal)
            await command()
            nursery.cancel_scope.cancel()
    return code


def check_seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Refuse numbers out of bounds; click's own range accepts NaN."""
    shortest, longest = _TIMEOUT_BOUNDS
    if not shortest <= value <= longest:
        raise click.BadParameter(f"{value:g} is not in the range {shortest:g}<=x<={longest:g} seconds.")
    return value


@click.group(name=PROGRAM, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=PROGRAM, message="%(prog)s %(version)s")
def commands() -> None:
    """Call hundreds of model nodes at once, and have every answer by a deadline."""


@commands.command()
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=7,
    show_default=True,
    metavar="N",
    help="How many rounds to play.",
)
@click.option(
    "--timeout",
    type=float,
    callback=check_seconds,
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="The deadline of a prediction, 0.1 to 60.",
)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="How the birds fly: the same seed, the same flight.",
)
@click.option("--no-color", is_flag=True, help="Write without colours, as NO_COLOR in the environment does.")
def demo(rounds: int, timeout: float, seed: int, no_color: bool) -> int:
    """Play the bird game with models of every temper, all within this process.

    Nothing else is needed: the models and their orchestrator are served on loopback sockets. The demo ends
    by itself after a few rounds; Ctrl-C ends it before.
    """
    from .demo import Demo

    console = open_console(color=not no_color)
    return run_until_interrupted(Demo(console, rounds=rounds, timeout=timeout, seed=seed).play)


commands.add_command(timeline)
