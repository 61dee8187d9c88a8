"""A crunch in memory, with the type that says so: the fixture `local_crunch` makes it.

A `LocalCrunch` may be on sockets, so type checkers ask of each that is cut off a network whether it has one.
This one has. It must not know more than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..network import MemoryNetwork
from .crunch import LocalCrunch

__all__ = ["MemoryCrunch"]


class MemoryCrunch(LocalCrunch):
    """A `LocalCrunch` in memory.

    Args:
        models: see `LocalCrunch`, as all other settings.
        network: where it runs; None makes a network of its own.
        **settings: the others.

    Attributes:
        network: see above.
    """

    network: MemoryNetwork  # never None, and nobody sets it

    def __init__(
        self,
        models: Mapping[str, Any] | None = None,
        *,
        network: MemoryNetwork | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(models, network=MemoryNetwork() if network is None else network, **settings)
