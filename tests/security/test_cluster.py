"""A cluster with secure credentials lets nodes in that prove whose they are, and gives nothing to others."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trio
import trustme
from helpers.coordinating import until
from helpers.insides import actor_of
from helpers.secure_crunch import AUTHORITY, PARTICIPANT, PROMPT, STRANGER, Node, coordinating
from helpers.secure_nodes import Metadata, public_key_of, write_credentials

from trio_model_runner import Arguments, DynamicSubclassService, ProofFailed, SecureCredentials, Status
from trio_model_runner.config import Health
from trio_model_runner.security.delegation import SIGNATURE, WALLET, UnknownIdentity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OTHER_KEY = public_key_of(AUTHORITY.issue_cert("other.example").cert_chain_pems[0].bytes())


async def test_nodes_that_prove_themselves_answer(credentials: SecureCredentials) -> None:
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(str(number))) for number in range(3)]
        async with coordinating(*nodes, credentials=credentials) as scene:
            for _ in range(2):
                results = await scene.cluster.call("predict", Arguments(horizon=3))
                assert [result.unwrap() for result in results.values()] == ["here"] * 3
    for each in nodes:
        assert each.methods == ["Check", "Setup", "Call", "Call"]
        assert len({visit.peer for visit in each.visits}) == 1
        assert scene.connections(each) == 1


BROKEN: dict[str, tuple[Callable[[Node], Metadata], str]] = {
    "nothing": (lambda node: (), "without a proof"),
    "no wallet": (lambda node: node.delegate()[:2], f"no {WALLET}"),
    "no signature": (lambda node: (node.delegate()[0], node.delegate()[2]), f"no {SIGNATURE}"),
    "wallet": (lambda node: STRANGER.delegate(node.public_key, model_id="7"), "the node's wallet is"),
    "signature": (
        lambda node: (
            *STRANGER.delegate(node.public_key, model_id="7")[:2],
            (WALLET, PARTICIPANT.address),
        ),
        "signature",
    ),
    "key": (lambda node: PARTICIPANT.delegate(OTHER_KEY, model_id="7"), "another TLS key"),
    "model": (lambda node: node.delegate(model_id="8"), "model_id '8'"),
    "hotkey": (lambda node: node.delegate(hotkey="other"), "hotkey 'other'"),
    "expired": (lambda node: node.delegate(expires_at=1_700_000_000), "has expired"),
    "twice": (lambda node: node.delegate() * 2, "more than once"),
}


@pytest.mark.parametrize(("proof", "said"), BROKEN.values(), ids=BROKEN)
async def test_a_node_that_breaks_one_condition_is_out_reported_and_told_nothing(
    credentials: SecureCredentials, node: Node, proof: Callable[[Node], Metadata], said: str
) -> None:
    metadata = proof(node)
    node.proof = lambda method: metadata
    async with coordinating(node, credentials=credentials) as scene:
        report = await scene.first_report()
        assert report["failure_code"] == "CONNECTION_FAILED"
        assert said in report["failure_reason"]
        assert report["model_id"] == "7"
        error = scene.error(node)
        assert isinstance(error, ProofFailed)
        assert not isinstance(error, UnknownIdentity)
        assert said in str(error)
        assert scene.cluster.snapshot().models == {"failed": 1}
        result = (await scene.cluster.call("predict", Arguments("payload"))).by_id["7"]
        assert result.status is Status.ABSENT
        assert said in result.detail
        assert scene.connections(node) == 1
        if metadata:
            assert [(visit.method, visit.request) for visit in node.visits] == [("Check", b"")]
        else:
            assert [(visit.method, visit.request) for visit in node.visits] == [
                ("Check", b""),
                ("Setup", b""),
            ]


async def test_a_node_that_failed_is_tried_once_each_time_that_it_is_announced(
    credentials: SecureCredentials, node: Node
) -> None:
    forged = node.delegate(hotkey="other")
    node.proof = lambda method: forged
    async with coordinating(node, credentials=credentials) as scene:
        for count in (1, 2):
            await scene.crunch.orchestrator.wait_for_reports(count)
            assert scene.connections(node) == len(node.visits) == count
            if count == 1:
                scene.crunch.orchestrator.announce(node.entry())
        good = node.delegate()
        node.proof = lambda method: good
        scene.crunch.orchestrator.announce(node.entry())
        await scene.cluster.wait_for_models(1)
        assert len(scene.crunch.reports) == 2


async def test_infos_with_the_right_wallet_bring_a_node_back(
    credentials: SecureCredentials, node: Node
) -> None:
    wrong = node.entry(cruncher_wallet_pubkey=STRANGER.address)
    async with coordinating(wrong, credentials=credentials) as scene:
        assert "the model's is" in (await scene.first_report())["failure_reason"]
        scene.crunch.orchestrator.announce(node.entry())
        await scene.cluster.wait_for_models(1)
        assert (await scene.cluster.call("predict")).by_id["7"].unwrap() == "here"


@pytest.mark.parametrize("missing", ["cruncher_wallet_pubkey", "cruncher_hotkey"])
async def test_a_model_of_which_nobody_says_who_it_is_is_sent_nothing_and_not_blamed(
    credentials: SecureCredentials, node: Node, missing: str
) -> None:
    async with coordinating(node.entry(**{missing: None}), credentials=credentials) as scene:
        assert scene.state(node) == "failed"
        error = scene.error(node)
        assert isinstance(error, UnknownIdentity)
        assert missing in str(error)
        assert node.visits == []
        snapshot = scene.cluster.snapshot()
        assert snapshot.reports_pending == snapshot.reports_unsent == 0
        scene.crunch.orchestrator.announce(node.entry())
        await scene.cluster.wait_for_models(1)
        assert scene.crunch.reports == []


async def test_a_model_id_that_no_certificate_could_have_is_not_blamed(
    credentials: SecureCredentials, node: Node
) -> None:
    async with coordinating(node.entry() | {"model_id": "a/b"}, credentials=credentials) as scene:
        assert isinstance(scene.cluster.announced["a/b"].error, UnknownIdentity)
        assert scene.connections(node) == 0
        assert scene.cluster.snapshot().reports_pending == 0
    assert scene.crunch.reports == []


async def test_a_node_that_does_not_know_us_is_not_blamed(credentials: SecureCredentials, node: Node) -> None:
    node.refusal = grpc.StatusCode.UNAUTHENTICATED
    async with coordinating(node, credentials=credentials) as scene:
        assert scene.state(node) == "failed"
        assert "UNAUTHENTICATED" in str(scene.error(node))
        assert set(node.methods) == {"Check"}
        snapshot = scene.cluster.snapshot()
        assert snapshot.reports_pending == snapshot.reports_unsent == 0
        node.refusal = None
        await scene.cluster.wait_for_models(1)  # nobody would announce it again
    assert scene.crunch.reports == []


async def test_failed_proofs_of_all_nodes_are_reported_of_none(credentials: SecureCredentials) -> None:
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(str(number), wallet=STRANGER)) for number in range(3)]
        entries = [each.entry(cruncher_wallet_pubkey=PARTICIPANT.address) for each in nodes]
        async with coordinating(*entries, credentials=credentials, health=Health(mass_window=2)) as scene:
            with trio.fail_after(20):
                # The first two are held when they have waited.
                while scene.cluster.snapshot().reports_held < 3:  # noqa: ASYNC110 - no event tells of all
                    await trio.sleep(0.01)
            assert {scene.state(each) for each in nodes} == {"failed"}
            assert {scene.connections(each) for each in nodes} == {1}
        assert scene.crunch.reports == []


async def test_where_health_checks_come_without_a_proof_an_empty_setup_is_asked_for_it(
    credentials: SecureCredentials, node: Node
) -> None:
    good = node.delegate()
    node.proof = lambda method: () if method == "Check" else good
    async with coordinating(node, credentials=credentials) as scene:
        assert (await scene.cluster.call("predict")).by_id["7"].unwrap() == "here"
    first, second, third, _ = node.visits
    assert [first.method, second.method, third.method] == ["Check", "Setup", "Setup"]
    assert second.request == b""
    assert b"ClassifiedName" in third.request


async def test_a_node_that_has_no_health_checks_is_asked_for_its_proof_by_an_empty_setup(
    credentials: SecureCredentials, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    respond = Node.service
    monkeypatch.setattr(
        Node, "service", lambda self, call: None if call.method.endswith("Check") else respond(self, call)
    )
    async with coordinating(node, credentials=credentials) as scene:
        assert (await scene.cluster.call("predict")).by_id["7"].unwrap() == "here"
    assert node.methods == ["Setup", "Setup", "Call"]
    assert node.visits[0].request == b""


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"authority": trustme.CA()}, "certificate is not to be trusted"),
        ({"names": ("model-node-8.crunchdao.internal",)}, "not valid for 'model-node-7.crunchdao.internal'"),
        ({"names": ("*.crunchdao.internal",)}, "not valid for 'model-node-7.crunchdao.internal' itself"),
    ],
)
async def test_a_node_without_its_certificate_is_refused_at_the_first_attempt(
    credentials: SecureCredentials, made: dict[str, Any], said: str
) -> None:
    with Node(**made) as node:
        async with coordinating(node, credentials=credentials) as scene:
            report = await scene.first_report()
            assert report["failure_code"] == "CONNECTION_FAILED"
            assert said in report["failure_reason"]
            assert isinstance(scene.error(node), ProofFailed)
            assert scene.connections(node) == 1
        assert node.visits == []


async def test_a_plaintext_node_is_no_secure_one(credentials: SecureCredentials) -> None:
    with Node(authority=None) as node:
        async with coordinating(node, credentials=credentials) as scene:
            report = await scene.first_report()
            assert report["failure_code"] == "CONNECTION_FAILED"
            assert "plaintext" in report["failure_reason"]
            assert scene.connections(node) > PROMPT.attempts  # once more, at least, to make sure
        assert node.visits == []


async def test_a_secure_node_says_clearly_that_it_wants_tls(node: Node) -> None:
    async with coordinating(node) as scene:
        assert "TLS" in (await scene.first_report())["failure_reason"]


async def test_a_node_that_wants_another_certificate_of_ours_says_so(tmp_path: Path) -> None:
    ours = write_credentials(tmp_path / "ours", trustme.CA())
    AUTHORITY.cert_pem.write_to_path(ours / "ca.crt")
    with Node() as node:
        async with coordinating(node, credentials=SecureCredentials.from_directory(ours)) as scene:
            assert "our certificate" in (await scene.first_report())["failure_reason"]
        assert node.visits == []


async def test_a_new_deployment_and_a_new_connection_are_proved_anew(credentials: SecureCredentials) -> None:
    with Node() as old, Node() as new:
        async with coordinating(old, credentials=credentials) as scene:
            before = scene.cluster.models["7"]
            scene.crunch.orchestrator.announce(new.entry() | {"deployment_id": "2"})
            await until(scene.cluster, lambda: scene.cluster.models["7"] is not before)
            assert new.methods == ["Check", "Setup"]
            # From outside only the node could end the connection, and gRPC's server would say goodbye.
            actor_of(scene.cluster.models["7"])._steps.connected.connection.abort("for the test")  # type: ignore[union-attr]
            await until(scene.cluster, lambda: not scene.cluster.models)
            await scene.cluster.wait_for_models(1)
            assert new.methods == ["Check", "Setup"] * 2
            assert len({visit.peer for visit in new.visits}) == 2


async def test_a_deployment_that_can_not_prove_itself_does_not_replace_one_that_did(
    credentials: SecureCredentials,
) -> None:
    with Node() as old, Node(wallet=STRANGER) as new:
        async with coordinating(old, credentials=credentials) as scene:
            before = scene.cluster.models["7"]
            entry = new.entry(cruncher_wallet_pubkey=PARTICIPANT.address)
            scene.crunch.orchestrator.announce(entry | {"deployment_id": "2"})
            await scene.first_report()
            assert scene.cluster.models["7"] is before
            assert (await scene.cluster.call("predict")).by_id["7"].unwrap() == "here"
            assert new.methods == ["Check"]


async def test_setup_of_other_services_is_not_told_to_the_unproved_either(
    credentials: SecureCredentials, node: Node
) -> None:
    service = DynamicSubclassService("crunch.ClassifiedName", Arguments("a secret argument"))
    good, forged = node.delegate(), node.delegate(model_id="8")
    node.proof = lambda method: forged
    async with coordinating(node, credentials=credentials, service=service) as scene:
        await scene.first_report()
        assert not any(b"Classified" in visit.request or b"secret" in visit.request for visit in node.visits)
        node.proof = lambda method: good
        scene.crunch.orchestrator.announce(node.entry())
        await scene.cluster.wait_for_models(1)
        assert b"a secret argument" in node.visits[-1].request
