"""One service on many implementations of gRPC: what it does, and what its servers may be told.

The service takes any bytes for messages, and is told what to do by metadata:

- `Echo` answers with the request; initial metadata "said" is the request's "say", trailing metadata
  "said-bin" its "say-bin"; "remaining" are the seconds until the deadline, if there is one.
- `Fail` fails with the status "code", the request as its message, and trailing metadata "why".
- `Expand` sends the request "count" times.
- `Gather` answers with all that was sent.
- `Chat` answers with each message as it comes, with the metadata of `Echo`; with a "code" it fails as
  `Fail` does, once the first message has come.
- `Hang` never answers; `HasCancelled` answers when a call of `Hang` or `Expand` was cancelled, once for each.
- `Retire` stops the server gracefully, which grpclib's can't.
"""

from __future__ import annotations

import attrs

__all__ = ["NO_LIMITS", "SERVICE", "Limits"]

SERVICE = "test.Interoperability"


@attrs.frozen
class Limits:
    """What a server allows a connection; grpclib's has no such settings.

    Attributes:
        streams: how many calls it may have at once; 0 is the server's own default.
        age: seconds after which it is retired (MaxConnectionAge), its calls excepted; 0 is never.
        calls: how many it may have before it is retired, which only proxies know; 0 is their own default.
    """

    streams: int = 0
    age: float = 0.0
    calls: int = 0

    @property
    def milliseconds(self) -> int:
        """The age in milliseconds."""
        return round(self.age * 1000)


NO_LIMITS = Limits()
