"""Model nodes that answer at once, so that what is measured is the client's work: one process, a port each.

    python fleet.py COUNT

It runs on grpcio's asyncio server, in the reference client's environment, prints the entries of an
orchestrator as one line of JSON, and ends when its standard input does. A real node is a process that serves
one model; here one server listens on all ports. Its answers are encoded beforehand, and requests are never
decoded: they are told apart by how they begin, with the method's name.

Calls of the method "hesitate" show what a node that hangs does to a round: one in twenty is never
answered, and not always on the same nodes, or those would soon sit out.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

import grpc
from entries import entry
from model_runner_client.grpc.generated.commons_pb2 import Status, Variant, VariantType
from model_runner_client.grpc.generated.dynamic_subclass_pb2 import CallRequest, CallResponse, SetupResponse

SERVICE = "dynamic_subclass.DynamicSubclassService"
HANGING_ONE_IN = 20
OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.so_reuseport", 0),
    # One server is many nodes here, and would refuse some of more than a thousand calls at once.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
]
PREDICTION = {"symbol": "BTC", "mean": 65432.1, "deviation": 12.5, "weights": [0.2, 0.5, 0.3]}

SETUP_ANSWER: bytes = SetupResponse(
    status=Status(code="SUCCESS", message="Instance created successfully")
).SerializeToString()
CALL_ANSWER: bytes = CallResponse(
    status=Status(code="SUCCESS"),
    methodResponse=Variant(type=VariantType.JSON, value=json.dumps(PREDICTION).encode()),
).SerializeToString()
HESITATE: bytes = CallRequest(methodName="hesitate").SerializeToString()


class Node:
    """What all nodes do."""

    def __init__(self) -> None:
        self._hesitations = 0

    async def setup(self, request: bytes, context: Any) -> bytes:
        return SETUP_ANSWER

    async def call(self, request: bytes, context: Any) -> bytes:
        if request.startswith(HESITATE):
            self._hesitations += 1
            if self._hesitations % HANGING_ONE_IN == 0:
                await asyncio.Event().wait()
        return CALL_ANSWER


async def serve(count: int) -> None:
    """Serve on so many ports until standard input ends."""
    server = grpc.aio.server(options=OPTIONS)
    node = Node()
    methods = {
        "Setup": grpc.unary_unary_rpc_method_handler(node.setup),
        "Call": grpc.unary_unary_rpc_method_handler(node.call),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(count)]
    await server.start()
    print(json.dumps([entry(index, port) for index, port in enumerate(ports)]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


def main() -> None:
    """Serve as many ports as the command line says."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
