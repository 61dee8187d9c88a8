"""The web service, asked over a socket: it answers what is open when SIGTERM comes, and tells strict JSON."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
import trio
from helpers.programs import Program, running

from trio_model_runner.testing import LocalCrunch


class Forecaster:
    """Says that there is no number; or, when it is asked about slow assets, waits to be released."""

    def __init__(self) -> None:
        self.released = trio.Event()

    async def predict(self, asset: str, horizon: int = 60) -> float:
        if asset == "slow":
            await self.released.wait()
        return float("nan") if asset == "none" else float(horizon)


@pytest.fixture
def port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        number: int = server.getsockname()[1]
    return number


class Client:
    """An ordinary client of HTTP, in threads."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        """Ask, and give the status and the JSON of the answer."""

        def ask() -> tuple[int, Any]:
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30.0)) as connection:
                connection.request(method, path, body)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read(), parse_constant=pytest.fail)

        return await trio.to_thread.run_sync(ask)

    async def follow(self, path: str, events: trio.MemorySendChannel[Any]) -> None:
        """Send on what each event says, until the server ends them."""

        def follow() -> None:
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30.0)) as connection:
                connection.request("GET", path)
                for line in connection.getresponse():
                    if line.startswith(b"data: "):
                        trio.from_thread.run(events.send, json.loads(line.removeprefix(b"data: ")))

        async with events:
            await trio.to_thread.run_sync(follow)


@asynccontextmanager
async def serving(crunch: LocalCrunch, port: int) -> AsyncIterator[tuple[Program, Client]]:
    async with running("web_service.py", crunch, f"127.0.0.1:{port}") as program:
        while "Running on" not in program.output:
            assert program.returncode is None, program.output
            await program.written.wait()
        yield program, Client(port)


async def test_what_is_open_is_answered_when_sigterm_comes(port: int) -> None:
    async def ask_slowly() -> None:
        answers.append(await client.ask("POST", "/predict", '{"asset": "slow"}'))

    answers: list[Any] = []
    models = {"a": Forecaster(), "b": Forecaster()}
    async with (
        LocalCrunch(models, crunch_id="condor") as crunch,
        serving(crunch, port) as (program, client),
        trio.open_nursery() as nursery,
    ):
        send, events = trio.open_memory_channel[Any](100)
        nursery.start_soon(client.follow, "/changes", send)
        kinds = [(await events.receive())["kind"] for _ in range(4)]
        assert kinds == ["announced", "announced", "joined", "joined"]

        status, told = await client.ask("POST", "/predict", '{"asset": "none", "horizon": 300}')
        assert status == 200
        assert [each["value"] for each in told["results"]] == [None, None]
        assert told["counts"]["SUCCESS"] == 2
        for wrong in ("{", "[]", "3"):
            assert (await client.ask("POST", "/predict", wrong))[0] == 400
        assert (await client.ask("GET", "/healthz"))[0] == 200

        nursery.start_soon(ask_slowly)
        await crunch.node("a").wait_for_calls(2)
        program.terminate()
        assert [event async for event in events] == []  # it ends, and all that came was seen
        status, told = await client.ask("GET", "/healthz")
        assert (status, told["draining"]) == (503, True)
        assert (await client.ask("POST", "/predict", '{"asset": "BTC"}'))[0] == 503
        assert answers == []
        for model in models.values():
            model.released.set()
        await program.wait()
    ((status, told),) = answers
    assert (status, told["counts"]["SUCCESS"]) == (200, 2)
    assert program.returncode == 0
    assert "Traceback" not in program.output, program.output


async def test_sigterm_ends_it_while_it_is_coming_up(port: int) -> None:
    async with LocalCrunch() as crunch:
        silent = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        variables = {"TRIO_MODEL_RUNNER_PORT": str(silent.socket.getsockname()[1])}
        async with (
            silent,
            running("web_service.py", crunch, f"127.0.0.1:{port}", **variables) as program,
            await silent.accept(),
        ):
            program.terminate()
            await program.wait()
    assert (program.returncode, program.output) == (0, "")
