"""What a node is told to do wrong.

To begin a fault, set an attribute: `node.faults.busy = True`. To end it, set it back. Or give faults to the
next calls only: `node.next_faults(Faults(busy=True), times=2)`. The node reads these attributes when it needs
them. They know nothing of the node. What the whole process does (die, stand still, say goodbye) are methods
of `LocalNode`.
"""

from __future__ import annotations

import attrs
from grpclib.const import Status

__all__ = ["Faults"]


@attrs.define(kw_only=True)
class Faults:
    """The faults of a node. A new `Faults` has none.

    Attributes:
        silent: a new connection is accepted and never answered, not even with SETTINGS.
        garbage: a new connection is sent these bytes instead of HTTP/2.
        hang_setup: Setup never ends; other requests find the node busy, as on deployed nodes.
        setup_delay: seconds that a Setup takes longer, the node being busy.
        setup_status: code and message that Setup answers instead of making an instance.
        setup_error: gRPC status and message that Setup fails with instead of making an instance.
        busy: a call is refused with "Server busy", and nothing runs.
        delay: seconds from the end of a method until its answer, the node being busy.
        call_status: code and message that a call answers instead of running the method. The Infer services
            have no codes: there it is gRPC's INTERNAL.
        grpc_error: gRPC status and message that a call fails with instead of running the method.
        raw_answer: what is sent as the content of a call's answer, whatever the method returns: bytes that
            need not be such a message.
        raw_body: the whole body of a call's answer, with gRPC's length prefix, whatever the method returns.
        drop_after_request: the connection is closed when a call has come; the method runs all the same.
        health_status: gRPC status that a health check fails with; None lets it answer SERVING.
        hang_health: a health check is never answered.
    """

    silent: bool = False
    garbage: bytes | None = None

    hang_setup: bool = False
    setup_delay: float = 0.0
    setup_status: tuple[str, str] | None = None
    setup_error: tuple[Status, str] | None = None

    busy: bool = False
    delay: float = 0.0
    call_status: tuple[str, str] | None = None
    grpc_error: tuple[Status, str] | None = None
    raw_answer: bytes | None = None
    raw_body: bytes | None = None
    drop_after_request: bool = False

    health_status: Status | None = None
    hang_health: bool = False
