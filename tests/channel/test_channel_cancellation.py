"""Cancelling a channel's calls anywhere, and its whole life, leaves nothing, and the next call succeeds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from helpers.channel_scenarios import (
    abandoned,
    gone,
    new_line,
    still_connected,
    still_works,
    streaming,
    unary,
    used_line,
    whole_life,
)
from helpers.checkpoints import cancel_everywhere

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

every_kind = pytest.mark.parametrize("kind", ["memory", "tcp", "tls"])


@every_kind
@pytest.mark.parametrize("scenario", [unary, streaming, abandoned])
async def test_a_call_cancelled_anywhere_leaves_the_connection_usable(
    kind: str, scenario: Callable[[Any], Awaitable[None]]
) -> None:
    assert await cancel_everywhere(partial(used_line, kind), scenario, still_connected) >= 3


@every_kind
@pytest.mark.parametrize("scenario", [unary, streaming])
async def test_a_first_call_cancelled_anywhere_leaves_the_attempt_to_the_others(
    kind: str, scenario: Callable[[Any], Awaitable[None]]
) -> None:
    assert await cancel_everywhere(partial(new_line, kind), scenario, still_works) >= 8


@every_kind
async def test_a_channels_whole_life_cancelled_anywhere_leaves_nothing(kind: str) -> None:
    assert await cancel_everywhere(partial(new_line, kind), whole_life, gone) >= 10
