"""KeyboardInterrupt, at any checkpoint and before any line, leaves the state of a connection whole."""

from __future__ import annotations

from functools import partial

import pytest
from helpers import channel_scenarios as channels
from helpers import connection_scenarios as connections
from helpers.checkpoints import interrupt_every_line, interrupt_everywhere
from helpers.h2_server import call

RPC = "trio_model_runner/rpc"

every_kind = pytest.mark.parametrize("kind", ["memory", "tcp", "tls"])


async def unary(line: connections.Line) -> None:
    assert line.connection is not None
    assert await call(line.connection, b"hello") == b"hello"


SCENARIOS = {
    "unary": (connections.open_line, unary, connections.still_usable),
    "unary through a channel": (channels.used_line, channels.unary, channels.still_connected),
    "streaming": (channels.used_line, channels.streaming, channels.still_connected),
    "abandoned": (channels.used_line, channels.abandoned, channels.still_connected),
    "connecting": (channels.new_line, channels.unary, channels.still_works),
    "a whole life": (channels.new_line, channels.whole_life, channels.gone),
}


@every_kind
@pytest.mark.parametrize("name", SCENARIOS)
def test_an_interrupt_at_any_checkpoint_leaves_all_in_order(kind: str, name: str) -> None:
    subject, scenario, check = SCENARIOS[name]
    assert interrupt_everywhere(partial(subject, kind), scenario, check) >= 3


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_interrupt_before_any_line_leaves_all_in_order(name: str) -> None:
    subject, scenario, check = SCENARIOS[name]
    assert interrupt_every_line(partial(subject, "memory"), scenario, check, path=RPC, stride=11) >= 30
