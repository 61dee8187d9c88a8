"""gRPC over HTTP/2 on Trio: connections to any server, and calls on them.

The room knows bytes, frames, connections and gRPC. It must not know what is called: nothing of models, nodes,
tokens or proofs. Nor does it reconnect: a connection that ended is not used again; it says why.

To be read in this order:

1. HTTP/2 without I/O. `frames` and `headers` (with `field_reader`) are its parts; `streams` has the requests,
   and in which order they are sent; `http2` is the state of one connection: bytes in, `events` out, with
   `stream_frames` for what is about one stream, and `control_frames` for the rest. Sizes of frames, header
   blocks and windows are bounded there. `validation` says which responses are malformed, and `budget` how
   much a peer may make us do that brings no call forward.
2. One connection on a byte stream. `life` is how far it has come, in the states of `state`, and how it ends;
   `connection` adds the calls on it, and what is read, with the tasks of `writer` and `reader`. `keepalive`
   has its PINGs; `connecting` makes one. A server's GOAWAY is handled in two places: `control_frames` ends
   the calls that the server won't answer, and `Connection._on_goaway` takes no new ones. `ending` is the
   value that says why a connection ended, and `receiver` has the exception with which calls learn of it.
3. gRPC. `protocol` is what gRPC adds to HTTP/2: headers, timeouts, statuses. `metadata` says what a call's
   metadata may be. `messages` cuts a body into messages. `call` is one call: what all calls share, and the
   kind with one message each way (`channel` has calls with many).

`message_reader` stands apart: it turns a message into a plain tuple, fast.
"""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """Find `Channel` where it is now, a floor above: programs know it by the name that it had here."""
    if name == "Channel":
        return import_module("trio_model_runner.channel").Channel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
