"""What the orchestrator says about a model besides where it runs: made read-only, and bounded.

A model's infos are kept as long as the model, and any key may come with any value. Usually they are a few
short texts. But an orchestrator may send megabytes, or a nesting a thousand levels deep. This must not fill
the memory of this process, and must not break recursive code that uses the infos later.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["NO_INFOS", "freeze"]

NO_INFOS: Final[Mapping[str, Any]] = MappingProxyType({})

_MOST_VALUES: Final = 256
_MOST_BYTES: Final = 16 * 1024  # of text with the keys, and of whole numbers
_DEEPEST: Final = 16


def freeze(infos: dict[str, Any]) -> Mapping[str, Any]:
    """Make infos read-only all the way down, in place: lists become tuples.

    Args:
        infos: parsed JSON. It is changed, so nothing else may use it.

    Raises:
        ValueError: the infos are too large or too deep to be kept; the text says which.
    """
    if not infos:
        return NO_INFOS
    frozen: Mapping[str, Any] = _Freezer().freeze(infos, _DEEPEST)
    return frozen


class _Freezer:
    """Freezes the infos of one model, within bounds for all of them together."""

    def __init__(self) -> None:
        self._values_left = _MOST_VALUES
        self._bytes_left = _MOST_BYTES

    def freeze(self, value: Any, levels: int) -> Any:
        self._values_left -= 1
        if self._values_left < 0:
            raise ValueError(f"they have more than {_MOST_VALUES} values")
        if isinstance(value, str):
            self._spend(len(value))
        elif isinstance(value, dict | list):
            if not levels:
                raise ValueError(f"they are nested more than {_DEEPEST} levels deep")
            return self._freeze_container(value, levels - 1)
        elif type(value) is int:
            self._spend(value.bit_length() // 8)
        return value

    def _freeze_container(self, value: dict[str, Any] | list[Any], levels: int) -> Any:
        if isinstance(value, list):
            return tuple(self.freeze(item, levels) for item in value)
        for key, item in value.items():
            self._spend(len(key))
            value[key] = self.freeze(item, levels)
        return MappingProxyType(value)

    def _spend(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise ValueError(f"they have more than {_MOST_BYTES} characters")
