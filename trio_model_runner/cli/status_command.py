"""The command ``status``: is a coordinator on this machine well? One line, and an exit code."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import click
import trio
from rich.text import Text

from .options import Command, Seconds, debug_option, json_option, no_color_option
from .output import clean, open_console, write_json
from .running import Exit, Failure, Running, library_log, run_until_interrupted

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["first_snapshot", "show_status", "status"]

_PATIENCE: Final = 10.0  # seconds until the first line
_LONGEST_ERROR: Final = 200
_LONGEST_STATE: Final = 20
_MOST_STATES: Final = 12
_MOST_MODELS: Final = 10**9


@click.command(cls=Command, short_help="Say whether a coordinator is well.")
@click.argument("socket")
@click.option(
    "--max-age",
    type=Seconds(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long ago a round may have ended; inf asks for none.",
)
@json_option
@no_color_option
@debug_option
@click.pass_obj
def status(running: Running, socket: str, max_age: float, as_json: bool, no_color: bool) -> int:
    """Say in one line whether the coordinator whose StatusSocket is SOCKET is well.

    It is well if it answers, if the orchestrator is connected, and if a round has ended in the last SECONDS.
    Exit codes: 0 it is well, 1 it is not, or none runs there.

      trio-model-runner status /run/birds/status.sock
      HEALTHCHECK --start-period=60s CMD trio-model-runner status /run/b.sock

    Nothing is sent to the orchestrator or to any node: this is the coordinator's own view.
    """
    console = open_console(color=not no_color)

    async def show() -> int:
        return show_status(console, await first_snapshot(socket), max_age, as_json=as_json)

    with library_log(running):
        return run_until_interrupted(show)


async def first_snapshot(path: str) -> Mapping[str, Any]:
    """The first snapshot that a status socket sends.

    Raises:
        Failure: none came; the text says why.
    """
    from .watching.socket_source import connect, events_of

    with trio.move_on_after(_PATIENCE):
        async with await connect(path) as stream, aclosing(events_of(stream)) as events:
            async for event in events:
                if event.get("type") == "snapshot":
                    return event
        raise Failure(f"{path!r} said nothing, and hung up; it may have too many readers (32)")
    raise Failure(f"{path!r} said nothing within {_PATIENCE:g} s: the coordinator's event loop stands still")


def show_status(console: Console, event: Mapping[str, Any], max_age: float, *, as_json: bool) -> int:
    """Show what a snapshot says, and return the exit code.

    Args:
        console: where it is shown.
        event: the event that has the snapshot.
        max_age: seconds that may have passed since the last round.
        as_json: write JSON.
    """
    from .watching.fields import number
    from .watching.picture import Picture

    picture = Picture()
    picture.apply(event)
    ended_at = number(event, "last_round_at")
    age = None if ended_at is None else max(0.0, time.time() - ended_at)
    troubles = _troubles(picture.connected is True, picture.orchestrator_error, age, max_age)
    counts = _counts(event)
    if as_json:
        row = {
            "ok": not troubles,
            "troubles": troubles,
            "crunch_id": picture.crunch_id,
            "models": counts,
            "orchestrator_connected": picture.connected is True,
            "last_round_age": age,
            "reports_pending": picture.reports[0],
            "reports_held": picture.reports[1],
        }
        write_json(console, row)
    else:
        parts = [
            picture.crunch_id[:_LONGEST_ERROR],
            *troubles,
            ", ".join(f"{count} {state}" for state, count in counts.items()) or "no models",
            "" if age is None else f"last round {age:.1f} s ago",
        ]
        sign = ("NOT WELL", "bold red") if troubles else ("ok", "green")
        line = Text.assemble(sign, f": {clean('; '.join(filter(None, parts)))}")
        console.print(line, soft_wrap=True)  # one line, however narrow the terminal
    return Exit.FINDING if troubles else Exit.WELL


def _troubles(connected: bool, error: str, age: float | None, max_age: float) -> list[str]:
    troubles = []
    if not connected:
        troubles.append(f"the orchestrator is away: {clean(error[:_LONGEST_ERROR]) or 'no reason known'}")
    if age is None and not math.isinf(max_age):
        troubles.append("no round has ended yet")
    elif age is not None and age > max_age:
        troubles.append(f"no round has ended for {age:.0f} s, which is more than {max_age:g} s")
    return troubles


def _counts(event: Mapping[str, Any]) -> dict[str, int]:
    """How many models are in each state, those that are ready first."""
    from .watching.fields import as_dict, number

    models = as_dict(as_dict(event.get("snapshot")).get("models"))
    states = sorted(models, key=lambda state: (state != "ready", -(number(models, state) or 0)))
    return {
        clean(state[:_LONGEST_STATE]): int(min(number(models, state) or 0, _MOST_MODELS))
        for state in states[:_MOST_STATES]
    }
