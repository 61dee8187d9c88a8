"""The quotes in the list of troubles, and whether somebody has said them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import trio_model_runner

__all__ = ["is_in", "quotes", "rows"]

TROUBLES = Path(trio_model_runner.__file__).parent / "TROUBLES.md"


@cache
def rows() -> list[list[str]]:
    """The rows of the tables: their cells from that on which is headed "text"."""
    found, column = [], 0
    for line in TROUBLES.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" |")]
        if line.startswith("| ") and "text" in cells:
            column = cells.index("text")
        elif line.startswith("| "):
            found.append(cells[column:])
    return found


@cache
def quotes() -> list[str]:
    """All texts that the list quotes, with `…` for anything."""
    return [text for cells in rows() for text in re.findall(r"`([^`]+)`", cells[0])]


def is_in(quote: str, said: str) -> bool:
    """Whether a line of what was said has a quote."""
    return re.search(".*".join(map(re.escape, quote.split("…"))), said) is not None
