"""The command ``config``: which settings there are, and whether a file of them is good."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import click
from rich.text import Text

from .options import Chosen, Command, chosen_settings, debug_option, json_option, no_color_option
from .output import layout_width, open_console, wrapped, write, write_json
from .running import Exit, Failure

if TYPE_CHECKING:
    from rich.console import Console

    from .settings_list import Setting

__all__ = ["config"]

_INDENT = 4
_WIDEST = 120


@click.command(cls=Command, short_help="List the settings, or check a file.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--check", metavar="FILE", help="Say whether this file is good, and what it changes.")
@chosen_settings
@json_option
@no_color_option
@debug_option
def config(names: tuple[str, ...], check: str | None, chosen: Chosen, as_json: bool, no_color: bool) -> int:
    """List the settings, or check a file of them.

    Each setting is shown with its default, its unit, and its environment variable. With NAMEs, only those
    that have one of them in their names.

      trio-model-runner config timeout limits
      trio-model-runner config --check /etc/birds/config.toml

    With --check, or any of the options for settings, these settings are loaded, with those of the
    environment; exit code 2 says that something is wrong, and the error what.
    """
    console = open_console(color=not no_color)
    if check is not None or chosen.given:
        if names:
            raise click.UsageError("NAMEs are for the list of settings; --check and the options check some")
        if check is not None:
            if chosen.path is not None:
                raise click.UsageError("--check FILE and --config FILE are the same here; give one of them")
            chosen = attrs.evolve(chosen, path=check)
        return _show_changes(console, chosen, as_json=as_json)
    from .settings_list import all_settings

    settings = [
        each for each in all_settings() if not names or any(name.lower() in each.name for name in names)
    ]
    if not settings:
        raise Failure(f"no setting has {' or '.join(names)} in its name", Exit.USAGE)
    if as_json:
        write_json(console, [attrs.asdict(each) for each in settings])
    else:
        write(console, *_in_words(console, settings))
    return Exit.WELL


def _in_words(console: Console, settings: list[Setting]) -> list[Text]:
    lines, width = [], layout_width(console, _WIDEST)
    for setting in settings:
        line = Text.assemble((setting.name, "bold"), f" = {setting.default}" if setting.default else "")
        if setting.unit:
            line.append(f"  {setting.unit}", "bright_black")
        room = width - line.cell_len - len(setting.variable)
        if room >= 2:
            line.append(" " * room)
        else:
            lines.append(line)
            line = Text(" " * _INDENT)
        line.append(setting.variable, "cyan")
        lines.append(line)
        lines += [
            Text(" " * _INDENT + text, "bright_black")
            for text in wrapped(console, setting.meaning, width - _INDENT)
        ]
    return lines


def _show_changes(console: Console, chosen: Chosen, *, as_json: bool) -> int:
    from .settings_list import changed_settings

    changes = list(changed_settings(chosen.load()))
    if as_json:
        write_json(console, {name: _value_of(value) for name, value, _ in changes})
        return Exit.WELL
    write(console, Text("The settings are good.", "green"))
    for name, value, default in changes:
        line = Text.assemble("  ", (name, "bold"), f" = {value}")
        if default != "required":
            line.append(f"  (default {default})", "bright_black")
        write(console, line)
    return Exit.WELL


def _value_of(written: str) -> Any:
    """A value that is written as in a file: off, and the kind of credentials, are texts."""
    try:
        return json.loads(written)
    except ValueError:
        return written
