"""How large a data frame in an answer may become, and the error for one that is larger."""

from __future__ import annotations

from typing import Final

__all__ = ["CELL_BYTES", "MAX_FRAME_BYTES", "refuse_larger"]

MAX_FRAME_BYTES: Final = 256 * 2**20
"""How large a data frame in an answer may be by default, in bytes: four times the largest message."""

CELL_BYTES: Final = 8
"""What each value counts at least, in bytes: the size of a number, a pointer or an offset."""


def refuse_larger(size: int, max_bytes: int) -> None:
    """Refuse a data frame that takes more than `max_bytes`.

    Raises:
        ValueError: `size`, in bytes, is larger.
    """
    if size > max_bytes:
        raise ValueError(f"it would take more than {max_bytes} bytes")
