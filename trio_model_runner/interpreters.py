"""How a program of this package is started in an interpreter of its own.

It finds the modules where this program finds them, also in a checkout that is not installed. It does not run
the coordinator's ``__main__``, as `multiprocessing` would, and finds nothing in the current directory.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["command_of"]

_START: Final = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""


def command_of(module: str, *arguments: str, options: tuple[str, ...] = ("-P",)) -> list[str]:
    """The command that runs a module as ``python -m`` does.

    Args:
        module: the module.
        arguments: what it finds in ``sys.argv[1:]``.
        options: of the interpreter. ``-P`` keeps the current directory out, and ``-I`` the environment, too.

    Raises:
        OSError: Python does not know its own program.
    """
    if not sys.executable:
        raise OSError("Python does not know its own program (sys.executable)")
    return [sys.executable, *options, "-c", _START, json.dumps(list(_import_path())), module, *arguments]


def _import_path() -> Iterator[str]:
    for entry in sys.path:
        with contextlib.suppress(OSError):  # the current directory was deleted
            yield str(Path(entry).absolute())
