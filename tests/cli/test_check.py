"""`check` names what is wrong on the way to the orchestrator and to each node, and what to do about it."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio_websocket
import trustme
from click.testing import CliRunner
from grpclib.const import Status
from helpers.secure_crunch import AUTHORITY, STRANGER, Node
from helpers.secure_nodes import write_credentials
from rich.cells import cell_len
from rich.console import Console

from trio_model_runner import ConfigError, GatewayCredentials, SecureCredentials
from trio_model_runner.cli.check_command import Checking
from trio_model_runner.cli.checking.nodes import AT_ONCE
from trio_model_runner.cli.commands import commands
from trio_model_runner.cli.running import Running, library_log
from trio_model_runner.config import ClusterConfig
from trio_model_runner.testing import Faults, LocalCrunch

PATIENT = 30.0
SOON = 0.5


class Model:
    def predict(self) -> float:
        raise AssertionError("check calls nobody")


async def checked(
    config: ClusterConfig, *, timeout: float = PATIENT, width: int = 100, as_json: bool = False
) -> tuple[int, str]:
    """The exit code of a check, and what it writes."""
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False)
    code = await Checking(console, config, timeout, as_json=as_json).run()
    return code, file.getvalue()


def in_one_line(text: str) -> str:
    return " ".join(text.split())


@contextlib.contextmanager
def closed_port() -> Any:
    """A port on which nothing listens, and which nobody else gets."""
    with socket.socket() as reservation:
        reservation.bind(("127.0.0.1", 0))
        yield reservation.getsockname()[1]


@contextlib.asynccontextmanager
async def listening(serve: Callable[[trio.SocketStream], Any]) -> AsyncIterator[int]:
    """A port on which a function serves."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def say_nothing(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def speak_http1(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    await trio.sleep_forever()


async def speak_tls(stream: trio.SocketStream) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    with contextlib.suppress(trio.BrokenResourceError):
        await trio.SSLStream(stream, context, server_side=True).do_handshake()


# The way to the orchestrator


def settings(port: int, **changes: Any) -> ClusterConfig:
    return ClusterConfig("birds", **{"host": "127.0.0.1", "port": port, **changes})


async def test_a_wrong_host_name() -> None:
    code, text = await checked(settings(9091, host="no-such-host.invalid"))
    assert code == 3
    assert "FAIL  DNS        no such host" in text
    assert "-> Check host in the settings: is it spelt right?" in text


async def test_nothing_listens() -> None:
    with closed_port() as port:
        code, text = await checked(settings(port))
    assert code == 3
    assert f"ok    DNS        127.0.0.1\n  FAIL  TCP        nothing listens: at 127.0.0.1:{port}\n" in text
    assert "-> Is the orchestrator started? Check host and port: 9091 is the usual port." in in_one_line(text)


async def test_tls_where_plain_is_spoken() -> None:
    async with LocalCrunch(crunch_id="birds") as crunch:
        code, text = await checked(crunch.config(tls=True))
    assert code == 3
    assert "FAIL  TLS        plaintext where TLS is wanted" in text
    assert "-> Set tls to false (--no-tls)" in text


async def test_plain_where_tls_is_spoken() -> None:
    async with listening(speak_tls) as port:
        code, text = await checked(settings(port))
    assert code == 3
    assert "FAIL  TLS        TLS where plaintext is spoken" in text
    assert "-> Set tls to true (--tls)" in text


async def test_a_certificate_of_another_authority() -> None:
    async with listening(speak_tls) as port:
        code, text = await checked(settings(port, tls=True))
    assert code == 3
    assert "FAIL  TLS        another certificate" in text
    assert "set tls_ca_file to that authority's certificate" in in_one_line(text)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_port_that_says_nothing(tls: bool) -> None:
    async with listening(say_nothing) as port:
        code, text = await checked(settings(port, tls=tls), timeout=SOON)
    assert code == 3
    stage = "TLS        no answer to the TLS" if tls else "WebSocket  no answer to the WebSocket"
    assert f"FAIL  {stage} handshake" in text


async def test_a_web_server() -> None:
    async with listening(speak_http1) as port:
        code, text = await checked(settings(port))
    assert code == 3
    assert "FAIL  WebSocket  no WebSocket: the server refused the handshake with HTTP status 404" in text


async def test_a_wrong_crunch_id() -> None:
    async with LocalCrunch(crunch_id="birds") as crunch:
        code, text = await checked(attrs.evolve(crunch.config(), crunch_id="brids"))
    assert code == 3
    assert "FAIL  init       the orchestrator refuses this crunch: 'brids'" in text
    assert "-> Check crunch_id: it must be spelt as the orchestrator has it." in text
    assert text.count("FAIL") == text.count("->") == 1


@contextlib.asynccontextmanager
async def orchestrator_that_says(*said: str) -> AsyncIterator[int]:
    """The port of one that says this to whoever comes, and no more."""

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        for text in said:
            await connection.send_message(text)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        start = partial(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, None)
        yield (await nursery.start(start)).port
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("said", [None, '{"event": "update", "data": []}', "[]"])
async def test_an_orchestrator_that_sends_no_init(said: str | None) -> None:
    async with orchestrator_that_says(*filter(None, [said])) as port:
        with library_log(Running()):  # it shows errors alone
            code, text = await checked(settings(port), timeout=SOON)
    assert code == 3
    assert "ok    WebSocket  /birds\n  FAIL  init       " in text
    assert "FAIL  init       no init came: connected, but no list of models" in text
    assert "Is this an orchestrator? Is the crunch id right?" in in_one_line(text)
    assert (text.count("The orchestrator's list has a fault") == 1) is (said == "[]")


async def test_a_crunch_in_which_nothing_runs_is_a_finding() -> None:
    async with LocalCrunch(crunch_id="birds") as crunch:
        code, text = await checked(crunch.config())
    assert code == 1
    assert "FAIL  init       no model runs: in crunch 'birds'" in text


async def test_a_crunch_in_which_all_are_stopped_is_a_finding() -> None:
    entries = [entry("a", 1) | {"state": "STOPPED"}, entry("b", 1) | {"state": "RECOVERING"}]
    async with orchestrator_that_says(json.dumps({"event": "init", "data": entries})) as port:
        code, text = await checked(settings(port))
    assert code == 1
    assert "ok    init       2 models: 1 RECOVERING, 1 STOPPED\n" in text
    assert "FAIL  init       no model runs: in crunch 'birds'" in text
    assert "All are stopped" in text
    assert "Nodes" not in text


async def test_entries_that_can_not_be_read_are_findings() -> None:
    async with LocalCrunch({"a": Model}) as crunch:
        no_entry = {"model_id": "b\x1b[31m", "state": "RUNNING", "ip": "", "port": "x"}
        crunch.orchestrator._book["b", None] = no_entry  # `announce` refuses it
        code, text = await checked(crunch.config())
    assert code == 1
    assert "FAIL  init       " in text
    assert "The orchestrator's list has a fault" in in_one_line(text)
    assert all(line.isprintable() for line in text.splitlines())


# The way to the nodes


def entry(model_id: str, port: int, host: str = "127.0.0.1") -> dict[str, Any]:
    return {
        "model_id": model_id,
        "deployment_id": model_id,
        "state": "RUNNING",
        "ip": host,
        "port": port,
        "infos": {},
    }


async def nodes_checked(
    *entries: dict[str, Any], timeout: float = PATIENT, **changes: Any
) -> tuple[int, str]:
    async with LocalCrunch() as crunch:
        crunch.orchestrator.announce(*entries)
        return await checked(crunch.config(**changes), timeout=timeout)


async def test_all_is_well() -> None:
    async with LocalCrunch({"a": Model, "b": Model}) as crunch:
        code, text = await checked(crunch.config())
    assert code == 0
    assert "ok    init       2 models: 2 RUNNING" in text
    assert "ok    health     2 models answer, the slowest in 0." in text
    assert "FAIL" not in text


async def test_only_the_models_that_are_named_are_checked_and_must_run() -> None:
    file = io.StringIO()
    console = Console(file=file, width=200, highlight=False, markup=False, emoji=False)
    async with LocalCrunch({"a": Model}) as crunch:
        good, down = crunch.orchestrator.entries[0], entry("b", 1)
        data = [good, down, entry("c", 1) | {"state": "STOPPED"}]
        crunch.orchestrator.greeting = [json.dumps({"event": "init", "data": data})]
        check = partial(Checking, console, crunch.config(), PATIENT, as_json=False)
        assert await check(models=["a"]).run() == 0
        assert await check(models=["a", "c", "d"]).run() == 1
    text = file.getvalue()
    assert text.count("1 model that runs, plaintext\n  ok    health     1 model answers") == 2
    assert "FAIL  init       'c': not running: the orchestrator says STOPPED" in text
    assert "FAIL  init       'd': not announced: the orchestrator does not list it" in text
    assert "-> Check its id, and crunch_id" in text
    assert "'b'" not in text


async def test_a_node_that_is_down() -> None:
    with closed_port() as port:
        code, text = await nodes_checked(entry("owl", port))
    assert code == 1
    assert f"FAIL  TCP        'owl': nothing listens: at 127.0.0.1:{port}\n" in text
    assert "-> The node is down, or the orchestrator's list is out of date." in text


async def test_a_node_whose_host_nobody_knows() -> None:
    code, text = await nodes_checked(entry("owl", 50051, "no-such-host.invalid"))
    assert code == 1
    assert "FAIL  DNS        'owl': no such host" in text


async def test_a_node_at_an_address_that_is_not_allowed() -> None:
    code, text = await nodes_checked(entry("owl", 50051), allowed_networks=["10.0.0.0/8"])
    assert code == 1
    assert "FAIL  TCP        'owl': not allowed" in text


async def test_a_node_that_is_silent() -> None:
    async with listening(say_nothing) as port:
        code, text = await nodes_checked(entry("owl", port), timeout=SOON)
    assert code == 1
    assert f"FAIL  HTTP/2     'owl': connected, but silent: 127.0.0.1:{port} within 0.5 s" in text


async def test_a_node_that_answers_no_health_check() -> None:
    async with LocalCrunch({"owl": Model}) as crunch:
        crunch.node("owl").faults = Faults(hang_health=True)
        code, text = await checked(crunch.config(), timeout=SOON)
    assert code == 1
    assert "FAIL  health     'owl': no answer to the health check" in text


async def test_a_node_that_speaks_http_1() -> None:
    async with listening(speak_http1) as port:
        code, text = await nodes_checked(entry("owl", port))
    assert code == 1
    assert "FAIL  HTTP/2     'owl': HTTP/1, not gRPC" in text


async def test_a_grpc_server_that_is_no_model_node() -> None:
    """Deployed nodes have a health service."""
    async with LocalCrunch({"owl": Model}) as crunch:
        crunch.node("owl").faults = Faults(health_status=Status.UNIMPLEMENTED)
        code, text = await checked(crunch.config())
    assert code == 1
    assert "FAIL  health     'owl': no health service: 127.0.0.1:" in text
    assert "-> Are these model nodes?" in text


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_gateway_with_an_authority_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    async with LocalCrunch({"owl": Model}, security="gateway") as crunch:
        crunch.write_credentials(tmp_path)
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gateway-ca.crt"))
        config = crunch.config(credentials=GatewayCredentials.from_directory(tmp_path))
        code, text = await checked(config)
    assert code == (0 if trusted else 1)
    assert ("'owl': another certificate" in text) is not trusted
    if not trusted:
        assert "must have the name of its host" in in_one_line(text)
        assert "set SSL_CERT_FILE" in in_one_line(text)


@pytest.fixture
def credentials(tmp_path: Path) -> SecureCredentials:
    return SecureCredentials.from_directory(write_credentials(tmp_path, AUTHORITY))


async def test_a_node_that_proves_itself(credentials: SecureCredentials) -> None:
    with Node("owl") as node:
        code, text = await nodes_checked(node.entry(), credentials=credentials)
        assert node.methods == ["Check"]
    assert code == 0
    assert "1 model that runs, secure mode" in text


async def test_a_node_that_wants_tls() -> None:
    with Node("owl") as node:
        code, text = await nodes_checked(node.entry())
    assert code == 1
    assert "FAIL  TLS        'owl': TLS where plaintext is spoken" in text
    assert "-> Set credentials" in text


async def test_a_node_without_tls_in_secure_mode(credentials: SecureCredentials) -> None:
    with Node("owl", authority=None) as node:
        code, text = await nodes_checked(node.entry(), credentials=credentials)
    assert code == 1
    assert "FAIL  TLS        'owl': plaintext where TLS is wanted" in text


@pytest.mark.parametrize("wrong", ["name", "authority"])
async def test_a_node_with_another_certificate(credentials: SecureCredentials, wrong: str) -> None:
    other = {"names": ("model-node-hawk.crunchdao.internal",)} if wrong == "name" else {}
    with Node("owl", authority=trustme.CA() if wrong == "authority" else AUTHORITY, **other) as node:
        code, text = await nodes_checked(node.entry(), credentials=credentials)
    assert code == 1
    assert "FAIL  TLS        'owl': another certificate" in text


async def test_a_node_that_refuses_our_certificate(tmp_path: Path) -> None:
    directory = write_credentials(tmp_path, trustme.CA())
    AUTHORITY.cert_pem.write_to_path(directory / "ca.crt")
    with Node("owl") as node:
        code, text = await nodes_checked(
            node.entry(), credentials=SecureCredentials.from_directory(directory)
        )
    assert code == 1
    assert "FAIL  TLS        'owl': our side of TLS is refused" in text


@pytest.mark.parametrize(
    ("proof", "what", "advice"),
    [
        (lambda node: STRANGER.delegate(node.public_key, model_id="owl"), "another wallet", "one is wrong"),
        (lambda node: node.delegate(expires_at=1_700_000_000), "an expired proof", "must sign anew"),
        (lambda node: node.delegate(model_id="hawk"), "no good proof", "for this model"),
    ],
    ids=["wallet", "expired", "model"],
)
async def test_a_node_with_a_proof_that_proves_nothing(
    credentials: SecureCredentials, proof: Callable[[Node], Any], what: str, advice: str
) -> None:
    with Node("owl") as node:
        wrong = proof(node)
        node.proof = lambda method: wrong
        code, text = await nodes_checked(node.entry(), credentials=credentials)
    assert code == 1
    assert f"FAIL  proof      'owl': {what}: " in text
    assert advice in in_one_line(text)


async def test_a_node_of_which_nobody_says_whose_it_is(credentials: SecureCredentials) -> None:
    with Node("owl") as node:
        code, text = await nodes_checked(node.entry(cruncher_hotkey=None), credentials=credentials)
    assert code == 1
    assert "FAIL  proof      'owl': nobody says whose the model is" in text


async def test_a_health_check_without_a_proof_is_none_of_the_findings(credentials: SecureCredentials) -> None:
    with Node("owl") as node:
        node.proof = lambda method: ()
        code, text = await nodes_checked(node.entry(), credentials=credentials)
    assert code == 0
    assert "ok    proof      1 model sent no proof with that" in text


async def test_equal_troubles_are_one_line_with_a_count() -> None:
    with closed_port() as port:
        code, text = await nodes_checked(*(entry(f"m{number}", port) for number in range(1000)))
    assert code == 1
    line = "FAIL  TCP        1000 models: nothing listens: 'm0', 'm1', 'm2', 'm3', 'm4', 'm5', 'm6', 'm7' and"
    assert line in text
    assert "and 992 more (the first: at 127.0.0.1:" in in_one_line(text)
    assert text.count("FAIL") == 1


async def test_many_silent_nodes_take_a_bounded_time(autojump_clock: trio.testing.MockClock) -> None:
    from trio_model_runner.network import MemoryNetwork

    network = MemoryNetwork()
    count = 3 * AT_ONCE
    async with LocalCrunch({"a": Model}, network=network) as crunch:
        crunch.node("a").faults = Faults(silent=True)
        port = crunch.node("a").port
        crunch.orchestrator.announce(*(entry(f"m{number}", port) for number in range(count)))
        began = trio.current_time()
        code, text = await checked(crunch.config(), timeout=5.0)
        assert trio.current_time() - began == pytest.approx(20.0, abs=2.0)
    assert code == 1
    assert f"{count + 1} models: connected, but silent" in text


# How it is shown


async def test_json_has_all_of_it() -> None:
    with closed_port() as port:
        async with LocalCrunch({"a": Model}) as crunch:
            crunch.orchestrator.announce(entry("b", port))
            code, text = await checked(crunch.config(), as_json=True)
    row = json.loads(text)
    assert code == 1
    assert row["orchestrator"]["trouble"] is None
    assert [step["stage"] for step in row["orchestrator"]["steps"]] == ["DNS", "TCP", "WebSocket", "init"]
    a, b = row["nodes"]
    assert (a["model_id"], a["trouble"]) == ("a", None)
    assert b["trouble"]["what"] == "nothing listens"


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("model_id", ["no-such-host", "鳥" * 500])
async def test_no_line_is_wider_than_the_terminal(width: int, model_id: str) -> None:
    async with LocalCrunch(crunch_id="birds") as crunch:
        crunch.orchestrator.announce(entry(model_id, 50051, "no-such-host.invalid"))
        _, text = await checked(crunch.config(), width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert len(text.splitlines()) < 20


async def test_what_is_listed_twice_is_asked_and_named_once_and_complaints_are_bounded() -> None:
    with closed_port() as port:
        same = [entry("owl", port)] * 3
        other = entry("owl", port) | {"deployment_id": "other"}
        said = json.dumps({"event": "init", "data": [*same, other, *range(200)]})
        async with orchestrator_that_says(said) as orchestrator:
            code, text = await checked(settings(orchestrator))
    assert code == 1
    assert "4 entries of 1 model: 4 RUNNING" in text
    assert "2 nodes of 1 model: nothing listens: 'owl' (the first:" in text
    assert len(text.splitlines()) < 30
    assert text.count("The orchestrator's list has a fault") == 1


# As a command


def test_a_key_that_fits_no_certificate_is_a_wrong_configuration(tmp_path: Path) -> None:
    directory = write_credentials(tmp_path / "ours", AUTHORITY)
    other = write_credentials(tmp_path / "others", AUTHORITY)
    (other / "tls.key").replace(directory / "tls.key")
    ended = CliRunner().invoke(
        commands, ["check", "--crunch-id", "birds", "--credentials", str(directory)], standalone_mode=False
    )
    assert isinstance(ended.exception, ConfigError)
    assert "tls.key" in str(ended.exception)
    assert "is not the key of the certificate" in str(ended.exception)
