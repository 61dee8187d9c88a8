"""The commands and their options.

click reads the options; `running` says how a command runs and ends. What a command does is in a module of its
own, which is imported when it runs: so ``--help`` is quick.
"""

from __future__ import annotations

import click

from .call_command import call
from .check_command import check
from .config_command import config
from .options import Group, debug_option, no_color_option
from .output import open_console
from .running import run_command, run_until_interrupted
from .status_command import status
from .timeline import timeline
from .watch_command import watch

__all__ = ["commands", "run"]

PROGRAM = "trio-model-runner"

_TIMEOUT_BOUNDS = (0.1, 60.0)


def run() -> int:
    """Run the command in the command line, and return the exit code."""
    return run_command(commands, PROGRAM)


def check_seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Refuse numbers out of bounds; click's own range accepts NaN."""
    shortest, longest = _TIMEOUT_BOUNDS
    if not shortest <= value <= longest:
        raise click.BadParameter(f"{value:g} is not in the range {shortest:g}<=x<={longest:g} seconds.")
    return value


@click.group(cls=Group, name=PROGRAM, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=PROGRAM, message="%(prog)s %(version)s")
def commands() -> None:
    """Call hundreds of model nodes at once, and have every answer by a deadline.

    Exit codes: 0 well, 1 a finding, 2 wrong use or configuration, 3 no orchestrator, 130 Ctrl-C, 143 SIGTERM,
    129 SIGHUP. Results are on stdout, and all else on stderr.

    Shell completion, in ~/.bashrc (or with zsh_source or fish_source):

      eval "$(_TRIO_MODEL_RUNNER_COMPLETE=bash_source trio-model-runner)"
    """


@commands.command(short_help="See it work, without any service.")
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
@no_color_option
@debug_option
def demo(rounds: int, timeout: float, seed: int, no_color: bool) -> int:
    """Play the bird game with models of every temper, all within this process.

    Nothing else is needed: the models and their orchestrator are served on loopback sockets. The demo ends
    by itself after a few rounds; Ctrl-C ends it before.
    """
    from .demo import Demo

    console = open_console(color=not no_color)
    return run_until_interrupted(Demo(console, rounds=rounds, timeout=timeout, seed=seed).play)


for each in (call, check, config, status, timeline, watch):
    commands.add_command(each)
