"""What is said to a program in which no Trio runs, or not here.

Trio itself would say that one of its internal objects lacks an attribute.
"""

from __future__ import annotations

import sys

import trio

__all__ = ["trio_needed"]

_CHAPTER = 'see "Outside Trio" in the README'


def trio_needed(what: str) -> RuntimeError | None:
    """Make the error for what needs Trio, where the present code is no Trio task; None where it is one.

    Args:
        what: what needs it, such as "a Cluster".
    """
    if trio.lowlevel.in_trio_task():
        return None
    if _in_asyncio():
        here = "this is asyncio"
    else:
        here = (
            "none runs here: start the program by trio.run(main), and from a thread use trio.from_thread.run"
        )
    return RuntimeError(f"{what} needs Trio, and {here}; {_CHAPTER}")


def _in_asyncio() -> bool:
    asyncio = sys.modules.get("asyncio")  # to import it takes long, and who runs it has done so
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
