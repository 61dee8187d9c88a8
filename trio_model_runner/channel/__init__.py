"""grpclib's `Channel` on Trio, for generated stubs and calls of any shape, on top of `rpc`.

`channel` is the `Channel` itself; `stream` is one call as stubs know it, and `exchange` what has come of it
so far; `keeper` has a connection ready, and replaces it when it ends. Nothing here knows of models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["Channel"]


def __getattr__(name: str) -> Any:
    """Import `Channel` when it is asked for: with grpclib's client it brings asyncio, which is slow."""
    if name != "Channel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .channel import Channel

    return Channel
