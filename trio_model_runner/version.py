"""The version of this package, which `pyproject.toml` reads here.

To ask `importlib.metadata` for it takes 10 ms, most of them for modules that nothing else needs.
"""

from __future__ import annotations

from typing import Final

__all__ = ["VERSION"]

VERSION: Final = "0.2.0"
