"""Where the library's log goes while a command runs: to one handler of its own, and nowhere else."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Final

__all__ = ["LIBRARY", "log_to"]

LIBRARY: Final = "trio_model_runner"


@contextlib.contextmanager
def log_to(handler: logging.Handler, name: str = LIBRARY, *, level: int | None = None) -> Iterator[None]:
    """Have a logger write to this handler alone.

    Args:
        handler: what writes it.
        name: the logger's.
        level: from which level on; None leaves the logger's.
    """
    logger = logging.getLogger(name)
    before, propagate = logger.level, logger.propagate
    if level is not None:
        logger.setLevel(level)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(before)
