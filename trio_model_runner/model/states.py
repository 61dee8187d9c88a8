"""The states of a model's life, and which may follow which: all of it is in this table.

A model is announced, then goes from CONNECTING to READY once for every connection that it gets, since a new
connection might lead to another process. FAILED is where it is given up, until it is announced again.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..values.results import ModelState

__all__ = ["NEXT", "JoinReason"]


_BY_ORDER: Final = frozenset({ModelState.RECOVERING, ModelState.FAILED, ModelState.GONE})
"""The orchestrator can say at any time that it crashed or stopped, and a verdict that it is given up."""

NEXT: Final[Mapping[ModelState, frozenset[ModelState]]] = MappingProxyType(
    {
        ModelState.ANNOUNCED: _BY_ORDER | {ModelState.CONNECTING},
        ModelState.CONNECTING: _BY_ORDER | {ModelState.CONNECTING, ModelState.PROVING, ModelState.SETTING_UP},
        ModelState.PROVING: _BY_ORDER | {ModelState.CONNECTING, ModelState.SETTING_UP},
        ModelState.SETTING_UP: _BY_ORDER | {ModelState.CONNECTING, ModelState.JOINING, ModelState.READY},
        ModelState.JOINING: _BY_ORDER | {ModelState.CONNECTING, ModelState.READY},
        ModelState.READY: _BY_ORDER | {ModelState.CONNECTING},
        ModelState.RECOVERING: _BY_ORDER | {ModelState.CONNECTING},
        ModelState.FAILED: _BY_ORDER | {ModelState.CONNECTING},
        ModelState.GONE: frozenset(),
    }
)


class JoinReason(enum.StrEnum):
    """Why a model joins: it is new, a new deployment of a model that was there, or was set up again."""

    JOINED = "joined"
    REDEPLOYED = "redeployed"
    RESTARTED = "restarted"
