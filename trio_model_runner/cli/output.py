"""Where the commands write: a terminal or a pipe, with the right form for each.

Names and texts come from people's models, over the network. If they were printed as they are, they could move
the cursor, rename the window or break the lines of a table. So every text from outside goes through `clean`
before it is printed. rich's markup is never used: the commands print `Text`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from ..text import readable
from ..values.strict_json import strict_json

__all__ = [
    "abandon_output",
    "ascii_only",
    "clean",
    "is_live",
    "is_lost_output",
    "layout_width",
    "open_console",
    "wrapped",
    "write",
    "write_json",
]

NARROWEST = 56
WIDEST = 120

_LOST = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def open_console(*, color: bool) -> Console:
    """A console on stdout, without colours if told so, by `color` or by NO_COLOR in the environment."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # else a name beyond the terminal's encoding would raise
    return Console(
        no_color=None if color else True,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def is_live(console: Console) -> bool:
    """Whether written lines can be overwritten, as on a terminal."""
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


def layout_width(console: Console, widest: int = WIDEST) -> int:
    """How wide a table may be, in cells: as wide as the terminal, but not too wide to read."""
    return max(NARROWEST, min(console.width, widest))


def ascii_only(console: Console) -> bool:
    """Whether bars and signs must be drawn with ASCII alone."""
    return not console.encoding.lower().startswith("utf")


def write(console: Console, *what: RenderableType) -> None:
    """Write lines. If they are not for a terminal, they have no spaces at their ends."""
    if console.is_terminal:
        console.print(*what, sep="\n")
        return
    with console.capture() as capture:
        console.print(*what, sep="\n")
    for line in capture.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def wrapped(console: Console, text: str, width: int) -> list[str]:
    """A text in lines of so many cells at most; a letter of Chinese has two, an accent none."""
    return [line.plain.rstrip() for line in Text(clean(text)).wrap(console, width)] or [""]


def write_json(console: Console, value: Any) -> None:
    """Write a value for a program, on one line; of letters beyond ASCII only the codes, for any encoding."""
    console.out(json.dumps(strict_json(value), allow_nan=False), highlight=False)


def is_lost_output(error: BaseException) -> bool:
    """Whether an error says that stdout takes no more: its disk is full, or its terminal has gone."""
    return isinstance(error, OSError) and error.filename is None and error.errno in _LOST


def abandon_output() -> None:
    """Have nothing more written to stdout: what could not be would raise again when the process ends."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def clean(text: str) -> str:
    """Make a text from outside fit for a line: characters that can't be printed are written out.

    These are ESC and the other control characters, characters that change the direction of writing, and
    invisible ones. Line breaks and tabs become spaces.
    """
    return text if text.isprintable() else readable(" ".join(text.split()))
