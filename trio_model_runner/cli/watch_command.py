"""The command ``watch``: what a running crunch does, as a table that is kept up to date, or as lines."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import click
import trio
from rich.live import Live
from rich.text import Text

from .log import log_to
from .options import Chosen, Command, chosen_settings, debug_option, json_option, no_color_option
from .output import ascii_only, is_live, layout_width, open_console, write, write_json
from .running import Exit, Running, library_log, run_until_interrupted
from .stopping import leave_while_stopped

if TYPE_CHECKING:
    from rich.console import Console

    from .watching.picture import Picture

__all__ = ["watch"]

_FRAME: Final = 0.25  # seconds between two drawings
_WIDEST: Final = 240
_HINT: Final = ". success  F failed  T timeout  K skipped  A absent    Ctrl-C stops watching"

Source = Callable[[Callable[[dict[str, Any]], None]], Awaitable[None]]


@click.command(cls=Command, short_help="Watch a running crunch.")
@click.argument("socket", required=False)
@click.option("--record", metavar="FILE", help="Follow the file of a RoundRecorder.")
@click.option("--observe", is_flag=True, help="Observe with connections of its own.")
@chosen_settings
@json_option
@no_color_option
@debug_option
@click.pass_obj
def watch(
    running: Running,
    socket: str | None,
    record: str | None,
    observe: bool,
    chosen: Chosen,
    as_json: bool,
    no_color: bool,
) -> int:
    """Watch a running crunch: all models, those in trouble first, with the last rounds of each.

    From the coordinator's StatusSocket at SOCKET, from the file that its RoundRecorder writes, or by
    observing with connections of its own. That needs the options for settings, knows no rounds, and costs
    something: one client more at the orchestrator, where each that comes and goes can cost others updates.

      trio-model-runner watch /run/birds/status.sock
      trio-model-runner watch --record /var/log/birds/rounds.jsonl
      trio-model-runner watch --observe --config /etc/birds/config.toml

    In a pipe, each event is a line; with --json, each is a JSON object as it came. A StatusSocket speaks at
    least every 10 s: one that says nothing for 21 s is an alarm, in JSON of the type "silence". Exit codes: 0
    the coordinator has ended in peace, 1 none runs there, or it was lost, 3 no orchestrator.
    """
    if sum((socket is not None, record is not None, observe)) != 1:
        raise click.UsageError("give one of SOCKET, --record FILE and --observe")
    if chosen.given and not observe:
        raise click.UsageError("the options for settings are for --observe: SOCKET and --record need none")
    source = _source_of(socket, record, chosen)
    console = open_console(color=not no_color)
    watching = _Watching(console, source, as_json=as_json)
    if is_live(console) and not as_json:
        return run_until_interrupted(watching.show_screen)
    with library_log(running):
        return run_until_interrupted(watching.write_lines)


def _source_of(socket: str | None, record: str | None, chosen: Chosen) -> Source:
    """What tells the events. Settings are loaded here, before Trio runs."""
    if socket is not None:
        from .watching.socket_source import events_of_socket

        return functools.partial(events_of_socket, socket)
    if record is not None:
        from .watching.record_source import events_of_record

        return functools.partial(events_of_record, record)
    from .watching.observer_source import WARNING, events_of_cluster

    config = chosen.load()
    click.echo(WARNING, err=True)
    return functools.partial(events_of_cluster, config)


class _Watching:
    """One run of the command.

    Args:
        console: where it writes.
        source: tells the events to a function.
        as_json: write them as they came.
    """

    def __init__(self, console: Console, source: Source, *, as_json: bool) -> None:
        from .watching.picture import Picture

        self._console = console
        self._source = source
        self._as_json = as_json
        self._picture: Picture = Picture()

    async def write_lines(self) -> int:
        """Write a line for each event."""
        from .watching.lines import describe

        told_snapshot = False

        def tell(event: dict[str, Any]) -> None:
            nonlocal told_snapshot
            self._picture.apply(event)
            again = event.get("type") == "snapshot" and told_snapshot
            told_snapshot = told_snapshot or event.get("type") == "snapshot"
            if self._as_json:
                write_json(self._console, event)
            elif not again and (line := describe(event)) is not None:
                self._console.out(line, highlight=False)
            self._console.file.flush()

        await self._source(tell)
        return self._how_it_ended()

    async def show_screen(self) -> int:
        """Show the picture, and draw it anew as long as events come."""
        screen = Live(console=self._console, screen=True, auto_refresh=False, redirect_stderr=False)
        with screen, log_to(logging.NullHandler()):  # the picture has it; nothing else may write there
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._draw_again, screen)
                nursery.start_soon(leave_while_stopped, screen.stop, screen.start)
                await self._source(self._picture.apply)
                nursery.cancel_scope.cancel()
        return self._how_it_ended()

    async def _draw_again(self, screen: Live) -> None:
        from .watching.screen import LINES_AROUND, draw

        while True:
            picture = draw(
                self._picture,
                width=layout_width(self._console, _WIDEST),
                rows=max(1, self._console.height - LINES_AROUND),
                now=time.time(),
                ascii_only=ascii_only(self._console),
                hint=_HINT,
            )
            screen.update(picture, refresh=True)
            await trio.sleep(_FRAME)

    def _how_it_ended(self) -> int:
        if self._picture.ended:
            if is_live(self._console):
                write(self._console, Text("the coordinator has ended"))
            return Exit.WELL
        click.echo(
            "the coordinator was lost: it has died, or dropped this reader for being slow, or one too many",
            err=True,
        )
        return Exit.FINDING
