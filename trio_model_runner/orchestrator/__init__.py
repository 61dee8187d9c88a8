"""The orchestrator's feed: which models are up and where, and a way to report the ones that fail.

Read `messages` first: what is said, as values, and the parser that makes them; `infos` bounds what is kept of
it. `websocket` is the protocol, and `conversation` one connection's life. `line` replaces a connection by
another now and then, and `overlap` knows what counts while there are two. `feed` keeps a line up for as long
as it is asked to, and has the reports. Nothing here knows what becomes of the events, or gRPC.
"""

from .feed import OrchestratorFeed
from .messages import (
    Disconnected,
    Entry,
    FailureReport,
    FeedEvent,
    Init,
    MessageParser,
    RunState,
    Update,
)

__all__ = [
    "Disconnected",
    "Entry",
    "FailureReport",
    "FeedEvent",
    "Init",
    "MessageParser",
    "OrchestratorFeed",
    "RunState",
    "Update",
]
