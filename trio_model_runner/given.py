"""Numbers and flags that a program gives as arguments: what is wrong with them, by the argument's name.

Timeouts, counts and flags are given to calls, to channels, and to the test kit. Each kind is checked by one
rule, told in one text, which shows no value that could be a payload. It must not know whose they are.
Settings have rules of their own.
"""

from __future__ import annotations

import math
import sys
from typing import TypeGuard

from .text import advice_on_number, shown_scalar

__all__ = ["as_float", "check_flag", "check_whole_number", "seconds_given"]


def seconds_given(value: object, name: str = "timeout", *, zero: bool = False) -> float:
    """Return a number of seconds as a float. What is too large for one is `math.inf`, no limit.

    Args:
        value: the number; ``math.inf`` is no limit.
        name: the argument's.
        zero: 0 is taken, too.

    Raises:
        TypeError: it is no number of Python's own.
        ValueError: it is NaN, negative, or 0 where that is not taken.
    """
    if not _is_number(value, (int, float)):
        advice = advice_on_number(value)
        text = f"{name}: must be a number of seconds, got {shown_scalar(value)}"
        raise TypeError(f"{text}: {advice}" if advice else text)
    if not (value >= 0 if zero else value > 0):
        raise ValueError(f"{name}: must be {'>=' if zero else '>'} 0 seconds, got {shown_scalar(value)}")
    return as_float(value)


def _is_number(value: object, kinds: tuple[type, ...]) -> TypeGuard[float]:
    """Whether a value is a number of one of Python's own kinds; a boolean is none."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def check_whole_number(value: object, name: str, *, at_least: int = 0, at_most: int = sys.maxsize) -> None:
    """Refuse what is no whole number within bounds.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is out of bounds.
    """
    if not _is_number(value, (int,)):
        advice = advice_on_number(value)
        text = f"{name}: must be a whole number, got {shown_scalar(value)}"
        raise TypeError(f"{text}: {advice}" if advice else text)
    if not at_least <= value <= at_most:
        bounds = f">= {at_least}" if at_most == sys.maxsize else f"from {at_least} to {at_most}"
        raise ValueError(f"{name}: must be {bounds}, got {shown_scalar(value)}")


def check_flag(value: object, name: str) -> None:
    """Refuse what is not True or False.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}: must be True or False, got {shown_scalar(value)}")


def as_float(seconds: float) -> float:
    """Return a number as a float; what is too large for one is infinite."""
    try:
        return float(seconds)
    except OverflowError:
        return math.inf if seconds > 0 else -math.inf
