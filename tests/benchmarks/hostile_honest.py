"""The honest side: nodes that answer at once, and an orchestrator that announces what it is asked for.

    python hostile_honest.py COUNT [CERTIFICATE]

The nodes run on grpcio, a port each. With the file of a certificate and its key there are as many others that
speak TLS. The orchestrator takes the nodes' ports from the crunch's name: "ports-50001-50002" has two models,
model-0 and model-1. All run in this process. It prints a line of JSON with the ports: `orchestrator`, `plain`
and `tls`; and ends when its standard input does.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import trio
from hostile_wire import CALL_ANSWER, HEALTHY, SET_UP
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

SERVICE = "dynamic_subclass.DynamicSubclassService"
CRUNCH_PREFIX = "/ports-"


def answering(message: bytes) -> grpc.RpcMethodHandler:
    """A method that answers always the same."""
    return grpc.unary_unary_rpc_method_handler(lambda request, context: message)


def serve_nodes(count: int, certificate: str | None) -> tuple[grpc.Server, dict[str, list[int]]]:
    """Start so many nodes of each sort; the server, which serves while somebody holds it, and their ports."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    calls = {"Setup": answering(SET_UP), "Call": answering(CALL_ANSWER)}
    health = {"Check": answering(HEALTHY)}
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(SERVICE, calls),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        ]
    )
    ports = {"plain": [server.add_insecure_port("127.0.0.1:0") for _ in range(count)], "tls": []}
    if certificate is not None:
        pem = Path(certificate).read_bytes()
        credentials = grpc.ssl_server_credentials([(pem, pem)])
        ports["tls"] = [server.add_secure_port("127.0.0.1:0", credentials) for _ in range(count)]
    server.start()
    return server, ports


def entry(index: int, port: int) -> dict[str, Any]:
    """What an orchestrator says of a running model."""
    return {
        "deployment_id": f"deployment-{index}",
        "model_id": f"model-{index}",
        "state": "RUNNING",
        "ip": "127.0.0.1",
        "port": port,
        "infos": {"model_name": f"name-of-{index}", "cruncher_id": f"{index}", "cruncher_name": "somebody"},
    }


async def announce(request: WebSocketRequest) -> None:
    """Announce the models of a crunch, and wait until the coordinator leaves."""
    ports = request.path.removeprefix(CRUNCH_PREFIX).split("-")
    models = [entry(index, int(port)) for index, port in enumerate(ports)]
    connection = await request.accept()
    try:
        await connection.send_message(json.dumps({"event": "init", "data": models}))
        while True:
            await connection.get_message()
    except ConnectionClosed:
        pass


async def serve(ports: dict[str, Any]) -> None:
    """Be the orchestrator, and say where everything is."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, announce, "127.0.0.1", 0, None)
        print(json.dumps(ports | {"orchestrator": server.port}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Serve what the command line says."""
    count, *certificate = sys.argv[1:]
    server, ports = serve_nodes(int(count), certificate[0] if certificate else None)
    trio.run(serve, ports)
    server.stop(None)


if __name__ == "__main__":
    main()
