"""Numbers and names in the few letters that a page has for them.

Texts that come from outside are cut and made visible, but not yet safe in HTML: that is `page`'s.
"""

from __future__ import annotations

import math

from ..output import clean
from ..table import fit

__all__ = ["counted", "one_line", "precise", "round_name", "seconds", "share"]

_WIDEST_ROUND = 12


def one_line(text: str, width: int) -> str:
    """A text on one line of so many cells at most, with all in it to be seen."""
    return fit(clean(text[: 4 * width]), width)


def round_name(round_id: int | str) -> str:
    """A round as a reader looks for it in the log."""
    return f"{round_id:,}" if isinstance(round_id, int) else one_line(round_id, _WIDEST_ROUND)


def seconds(duration: float) -> str:
    """A duration in as many digits as tell something."""
    return (
        f"{duration:.3f}" if duration < 0.095 else f"{duration:.2f}" if duration < 9.5 else f"{duration:,.0f}"
    )


def precise(duration: float) -> str:
    """A duration in three digits that count, and a record's tenth of a millisecond at the least."""
    digits = 2 - math.floor(math.log10(duration)) if duration > 0 else 0
    return f"{duration:,.{min(max(digits, 0), 4)}f}"


def share(count: int, of: int) -> str:
    """A part of some results: in percent, unless they are few."""
    return f"{count} of {of}" if of < 20 else f"{count / of:.0%}"


def counted(number: int, what: str) -> str:
    """So many of what."""
    return f"{number:,} {what}{'s' * (number != 1)}"
