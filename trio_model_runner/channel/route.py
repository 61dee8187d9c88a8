"""How the calls of a channel get to a server: what a channel asks of whoever has the connection.

A `Channel` with a host and a port has a route of its own, which connects when a call needs it. Whoever has a
connection already, with turns, tokens and proofs on it, writes another route and makes a
`RoutedChannel` of it. The channel then does all that belongs to gRPC, and asks its route four things:

1. `Route.begin`: may a call begin now, and where?
2. `RoutedCall.fields` and `RoutedCall.volatile`: with which headers?
3. `RoutedCall.check`: may the program have this answer?
4. `RoutedCall.end`: the call is over.

Where a request was certainly not processed and is sent again, that is a new `RoutedCall`: the one before is
ended, and `begin` is asked again, after a wait.
"""

from __future__ import annotations

from typing import Protocol

from ..rpc.connection import Connection
from ..rpc.headers import Fields, RawFields

__all__ = ["Route", "RoutedCall"]


class RoutedCall(Protocol):
    """One call on its way; made by `Route.begin`.

    All but `connection` and `end` is asked by the task that makes the call, with KeyboardInterrupt put off.
    None of the methods may wait.
    """

    @property
    def connection(self) -> Connection:
        """Where the request goes. It must accept calls at the moment in which `begin` returns."""

    @property
    def volatile(self) -> RawFields:
        """Request headers that differ from call to call, such as a token. No table of headers keeps them."""

    def fields(self, content_type: str) -> RawFields:
        """Give the request's headers but for its metadata; see `rpc.protocol.request_fields`.

        Args:
            content_type: the value of the header "content-type", "application/grpc" as a rule.
        """

    def check(self, headers: Fields, *, trailers_only: bool) -> None:
        """Raise if the program may not have the answer. Nothing of it was given to the program before.

        The answer is dropped then, the stream is reset, and what was raised goes to the program. This is
        asked at most once, and not where no answer came: the call was reset, or its connection ended.

        Args:
            headers: the response's headers, with its initial metadata; of a response that is a status and
                nothing else, its only block.
            trailers_only: the response is a status and nothing else.

        Raises:
            Exception: the answer is refused.
        """

    def end(self, *, sent: bool, ended: bool) -> None:
        """Learn that the call is over. Called exactly once, whatever happens, KeyboardInterrupt included.

        That is when the whole response has come, when the stream or the connection has ended, or when the
        program leaves the call, whichever is first. A call that a program never leaves ends when it is
        collected as garbage, at the latest.

        Args:
            sent: the server may have acted on the request. False is certain: the request was never handed
                over (of a single message: not to its end), or the server says that it did nothing.
            ended: the server is through with the call: it has answered to the end, or has reset the stream.
                False: it was cut off (by its deadline, by cancellation, by leaving it early, because the
                answer was refused), the connection ended first, or it never began.
        """


class Route(Protocol):
    """How the calls of a channel get to a server."""

    async def begin(self, path: str) -> RoutedCall:
        """Wait until a call may be made, and say how.

        This is called within the call's deadline, by the task that makes the call. Where it raises, by
        cancellation too, there is nothing to end: it must have given back by itself what it had taken.

        Args:
            path: the method, "/package.Service/Method".

        Raises:
            CallInterrupted: there is no connection; `unprocessed` and `connection_lost` are set.
            OSError: no connection could be made.
            trio.ClosedResourceError: there will be no connection any more.
            Exception: anything else goes to the program as it is.
        """
        ...
