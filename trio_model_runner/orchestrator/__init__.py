"""The orchestrator's feed: which models are up and where, and a way to report the ones that fail.

`messages` has what is said, as values, and the parser that makes them. `websocket` is one connection, and
`feed` keeps one up for as long as it is asked to.
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
