"""How large a frame in an answer may become, and what is said of one that is larger."""

from __future__ import annotations

from typing import Final

__all__ = ["CELL_BYTES", "MAX_FRAME_BYTES", "refuse_larger"]

MAX_FRAME_BYTES: Final = 256 * 2**20
"""How large the table in an answer may be by default, in bytes: four times the largest message."""

CELL_BYTES: Final = 8
"""What a value counts at least, in bytes, however little it takes: a number, a pointer, an offset."""


def refuse_larger(size: int, max_bytes: int) -> None:
    """Refuse what takes more than `max_bytes`.

    Raises:
        ValueError: it does.
    """
    if size > max_bytes:
        raise ValueError(f"it would take more than {max_bytes} bytes")
