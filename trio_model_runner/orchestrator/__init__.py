"""The orchestrator's feed: which models are up and where, and a way to report the ones that fail.

Read in this order: `messages` has what the orchestrator says, as values, and their parser. `infos` bounds
what is kept about a model. `framing` bounds what a WebSocket's frames cost. `websocket` is the protocol.
`conversation` is one connection. `overlap` says what counts while there are two. `lasting_trouble` keeps the
log short. `line` replaces a connection by another from time to time. `feed` keeps a line up, and stores
reports while there is none. Nothing here may know gRPC, or what others do with the events.
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
