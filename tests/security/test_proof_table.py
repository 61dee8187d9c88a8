"""The table of proofs: all combinations of what can be wrong, in each kind of answer, and what comes of it.

An answer has one variant of each condition in `CONDITIONS`. It is believed if nothing is wrong with any. Else
its text says the first thing that is wrong, in the order of `CHECKS`. So no condition hides or heals another.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Final

import attrs
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpclib.const import Status as GRPCStatus
from grpclib.exceptions import GRPCError
from helpers.secure_nodes import HOTKEY, MODEL_ID, Metadata, Wallet, text_of

from trio_model_runner.config import Limits
from trio_model_runner.errors import ProofFailed
from trio_model_runner.model.node_connection import NodeConnection
from trio_model_runner.model.policy import Outcome, outcome_of_distrust
from trio_model_runner.security.delegation import (
    MESSAGE,
    SIGNATURE,
    WALLET,
    ConnectionProof,
    ProofLapsed,
    UnknownIdentity,
)
from trio_model_runner.security.node_security import SecureSecurity

PARTICIPANT = Wallet(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
STRANGER = Wallet(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
NULL_WALLET: Final = "1" * 32
KEY: Final = b"the TLS key of this connection"
NOW: Final = 1_800_000_000.0
LEEWAY: Final = 10.0

CONDITIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "message": ("good", "missing", "no base64", "no JSON"),
    "signature": ("good", "missing", "no base64", "short", "of small order", "a stranger's"),
    "wallet": ("good", "missing", "no base58", "of small order", "a stranger's"),
    "cert_pub": ("good", "missing", "no base64", "another"),
    "model_id": ("good", "missing", "another"),
    "hotkey": ("good", "missing", "another"),
    "expires_at": ("good", "missing", "no time", "just past", "past"),
}
"""What an answer's proof can be; the first variant of each is right, and so are those in `RIGHT`."""

RIGHT: Final = {("expires_at", "missing"), ("expires_at", "just past")}

CHECKS: Final[tuple[tuple[str, str, str], ...]] = (
    ("message", "missing", "has no x-server-auth-message"),
    ("signature", "missing", "x-server-auth-signature"),
    ("wallet", "missing", "x-server-wallet-pubkey"),
    ("wallet", "no base58", "the node's wallet is '0OIl', and the model's is"),
    ("wallet", "of small order", f"the node's wallet is '{NULL_WALLET}', and the model's is"),
    ("wallet", "a stranger's", "the node's wallet is"),
    ("message", "no base64", "the node's x-server-auth-message is not base64"),
    ("signature", "no base64", "the node's x-server-auth-signature is not base64"),
    ("signature", "short", "the node's signature has 63 bytes, not 64"),
    ("signature", "of small order", "the signature on the node's proof is not the wallet's"),
    ("signature", "a stranger's", "the signature on the node's proof is not the wallet's"),
    ("message", "no JSON", "the signed message of the node's proof is not JSON"),
    ("cert_pub", "missing", "the node's proof has no cert_pub"),
    ("cert_pub", "no base64", "the node's cert_pub is not base64"),
    ("cert_pub", "another", "the node's proof is about another TLS key than this connection's"),
    ("model_id", "missing", "the node's proof has the model_id None"),
    ("model_id", "another", "the node's proof has the model_id 'another'"),
    ("hotkey", "missing", "the node's proof has the hotkey None"),
    ("hotkey", "another", "the node's proof has the hotkey 'another'"),
    ("expires_at", "no time", "the node's proof has an expires_at that is no time"),
    ("expires_at", "past", "the node's proof has expired: expires_at was 10.5 s ago"),
)
"""What is said of each variant that is wrong, first what is said first."""

WORDS: Final[Mapping[str, tuple[dict[str, Any], str | None]]] = {
    "a participant": ({}, None),
    "no wallet": ({"cruncher_wallet_pubkey": None}, "the orchestrator says no cruncher_wallet_pubkey"),
    "no hotkey": ({"cruncher_hotkey": ""}, "the orchestrator says no cruncher_hotkey"),
    "the null wallet": ({"cruncher_wallet_pubkey": NULL_WALLET}, "is a key of small order"),
    "what is no wallet": ({"cruncher_wallet_pubkey": "0OIl"}, "is not 32 bytes in base58"),
}
"""What the orchestrator says of the model, and why nothing can be proved then."""


@attrs.frozen
class Case:
    """One combination of variants, in the order of `CONDITIONS`."""

    message: str = "good"
    signature: str = "good"
    wallet: str = "good"
    cert_pub: str = "good"
    model_id: str = "good"
    hotkey: str = "good"
    expires_at: str = "good"

    @property
    def failure(self) -> str | None:
        """What must be said of it; None if it must be believed."""
        if (self.message, self.signature, self.wallet) == ("missing",) * 3:
            return "comes without a proof of who it is"
        return next((text for name, variant, text in CHECKS if getattr(self, name) == variant), None)

    @property
    def metadata(self) -> Metadata:
        parts = {
            MESSAGE: {"missing": None, "no base64": "!"}.get(self.message, text_of(self.signed)),
            SIGNATURE: signature_of(self.signature, self.signed),
            WALLET: {
                "good": PARTICIPANT.address,
                "missing": None,
                "no base58": "0OIl",
                "of small order": NULL_WALLET,
                "a stranger's": STRANGER.address,
            }[self.wallet],
        }
        return tuple((name, value) for name, value in parts.items() if value is not None)

    @property
    def signed(self) -> bytes:
        """The message that the signature is about."""
        return signed_message(
            self.message == "no JSON", self.cert_pub, self.model_id, self.hotkey, self.expires_at
        )


@functools.cache
def signed_message(broken: bool, *variants: str) -> bytes:
    """A message with these variants of its fields, which may be no JSON."""
    values: tuple[dict[str, Any], ...] = (
        {"good": text_of(KEY), "no base64": "!", "another": text_of(b"another key")},
        {"good": MODEL_ID, "another": "another"},
        {"good": HOTKEY, "another": "another"},
        {
            "good": NOW + 100,
            "no time": "tomorrow",
            "just past": NOW - LEEWAY,
            "past": NOW - LEEWAY - 0.5,
        },
    )
    names = ("cert_pub", "model_id", "hotkey", "expires_at")
    said = {name: value.get(variant) for name, value, variant in zip(names, values, variants, strict=True)}
    text = json.dumps({name: value for name, value in said.items() if value is not None})
    return (text + "}" if broken else text).encode()


@functools.cache
def signature_of(variant: str, message: bytes) -> str | None:
    if variant == "missing":
        return None
    if variant == "no base64":
        return "!"
    if variant == "of small order":
        return text_of((1).to_bytes(32, "little") + bytes(32))
    signature = (STRANGER if variant == "a stranger's" else PARTICIPANT).key.sign(message)
    return text_of(signature[:63] if variant == "short" else signature)


@functools.cache
def all_cases() -> list[tuple[Case, Metadata, str | None]]:
    """All combinations, with the metadata and the failure of each."""
    cases = itertools.starmap(Case, itertools.product(*CONDITIONS.values()))
    return [(case, case.metadata, case.failure) for case in cases]


@attrs.frozen
class Response:
    """An answer to a call, as a `UnaryCall` has it when it has ended."""

    headers: Metadata
    error: GRPCError | None = None
    trailers_only: bool = False
    has_message: bool = True

    def answer(self) -> str:
        if self.error is not None:
            raise self.error
        return "the answer"


REFUSAL = GRPCError(GRPCStatus.INTERNAL, "broken")
KINDS: Final = ("answer", "status behind metadata", "trailers only", "health")


@pytest.fixture(autouse=True)
def connections_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """All certificates have the same key, and time stands still."""
    monkeypatch.setattr(ConnectionProof, "_read_public_key", lambda proof: KEY)  # private: reading takes long
    monkeypatch.setattr("trio_model_runner.security.delegation.time", SimpleNamespace(time=lambda: NOW))


def connect(word: str = "a participant") -> NodeConnection:
    """A connection to a model's node, without any."""
    infos = {"cruncher_wallet_pubkey": PARTICIPANT.address, "cruncher_hotkey": HOTKEY} | WORDS[word][0]
    model: Any = SimpleNamespace(model_id=MODEL_ID, infos=infos, host="node", port=1)
    credentials: Any = SimpleNamespace(context=None)
    connection: Any = SimpleNamespace(peer_certificate=b"")
    return NodeConnection(connection, model, SecureSecurity(credentials, clock_leeway=LEEWAY), Limits())


def what_becomes_of(
    node: NodeConnection, kind: str, metadata: Metadata, *, asked_before: float = 0.0
) -> str | Exception:
    """The answer to a request of so many seconds ago that is given to the caller, or what is raised."""
    error = REFUSAL if kind in ("status behind metadata", "trailers only") else None
    response: Any = Response(metadata, error, trailers_only=kind == "trailers only")
    try:
        asked_at = trio.current_time() - asked_before
        return str(node.answer(response, asked_at=asked_at, exempt=kind == "health"))
    except (ProofFailed, GRPCError) as raised:
        return raised


def test_the_table_has_every_variant() -> None:
    wrong = {(name, each) for name, variants in CONDITIONS.items() for each in variants[1:]} - RIGHT
    assert {(name, variant) for name, variant, _ in CHECKS} == wrong
    assert [field.name for field in attrs.fields(Case)] == list(CONDITIONS)
    assert len({case for case, _, _ in all_cases()}) == len(all_cases()) == 21_600


@pytest.mark.parametrize("kind", KINDS)
async def test_every_combination(kind: str) -> None:
    """An answer is given to the caller if all is right with it, and nothing is proved by any other."""
    counts, node = Counter[str](), connect()
    for case, metadata, failure in all_cases():
        came_of_it = what_becomes_of(node, kind, metadata)
        if kind == "trailers only":
            # It has no value, so it is taken as it is; and it proves nothing, whatever stands in it.
            counts["taken unproved"] += 1
            assert came_of_it is REFUSAL, case
            assert node.must_prove, case
        elif kind == "health" and not metadata:
            counts["taken unproved"] += 1
            assert came_of_it == "the answer", case
            assert node.must_prove, case
        elif failure is None:
            counts["believed"] += 1
            assert came_of_it == ("the answer" if kind != "status behind metadata" else REFUSAL), case
            assert not node.must_prove, case
            node = connect()
        else:
            counts["refused"] += 1
            assert type(came_of_it) is ProofFailed, case
            assert failure in str(came_of_it), case
            assert outcome_of_distrust(came_of_it, answer=True) is Outcome.ANSWER_UNPROVED
            assert outcome_of_distrust(came_of_it, answer=False) is Outcome.PROOF_FAILED
            assert node.must_prove, case
    assert (
        counts
        == {
            "answer": {"believed": 3, "refused": 21_597},
            "status behind metadata": {"believed": 3, "refused": 21_597},
            "trailers only": {"taken unproved": 21_600},
            "health": {"believed": 3, "refused": 21_417, "taken unproved": 180},
        }[kind]
    )


BAD_WORDS = [word for word, (_, failure) in WORDS.items() if failure is not None]


@pytest.mark.parametrize("word", BAD_WORDS)
@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_comes_proves_nothing_where_the_orchestrator_names_nobody(
    kind: str, word: str
) -> None:
    """Each condition alone, the good proof, and nothing; the node is not at fault for any of them."""
    for case in alone():
        node = connect(word)
        came_of_it = what_becomes_of(node, kind, case.metadata)
        assert node.must_prove, case
        if kind == "trailers only":
            assert came_of_it is REFUSAL, case
        elif kind == "health" and not case.metadata:
            assert came_of_it == "the answer", case
        else:
            assert isinstance(came_of_it, UnknownIdentity), case
            assert str(WORDS[word][1]) in str(came_of_it), case
            assert outcome_of_distrust(came_of_it, answer=True) is Outcome.NOT_ITS_FAULT


def alone() -> Iterator[Case]:
    """The good proof, each condition that is broken alone, and no proof at all."""
    yield Case()
    for name, variants in CONDITIONS.items():
        for variant in variants[1:]:
            yield attrs.evolve(Case(), **{name: variant})
    yield Case(message="missing", signature="missing", wallet="missing")


async def test_a_forged_proof_of_the_null_wallet_is_refused() -> None:
    """With this key, a signature of small order is good for one message in four: whatever else is right."""
    node = connect("the null wallet")
    for number in range(16):
        signed = json.dumps(
            {"cert_pub": text_of(KEY), "model_id": MODEL_ID, "hotkey": HOTKEY, "number": number}
        ).encode()
        for point in (1, 2**255 - 20, 0, 1 << 255):
            signature = point.to_bytes(32, "little") + bytes(32)
            metadata = ((MESSAGE, text_of(signed)), (SIGNATURE, text_of(signature)), (WALLET, NULL_WALLET))
            assert isinstance(what_becomes_of(node, "answer", metadata), UnknownIdentity)


LAPSES: Final[Mapping[str, tuple[float, dict[str, str]]]] = {
    "nothing": (0.0, {}),
    "time": (100 + LEEWAY + 0.5, {}),
    "another wallet": (0.0, {"cruncher_wallet_pubkey": STRANGER.address}),
    "another hotkey": (0.0, {"cruncher_hotkey": "another"}),
}
"""What has happened since the node was proved: the seconds that have passed, and what is said of it now."""


@pytest.mark.parametrize("lapse", LAPSES)
@pytest.mark.parametrize("asked", ["before", "after"])
@pytest.mark.parametrize("kind", ["answer", "status behind metadata", "health"])
async def test_what_becomes_of_answers_on_a_connection_that_was_proved(
    kind: str, asked: str, lapse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another participant was named, nothing is the node's fault. Where time has passed, only that.

    Of requests that were sent after it had passed, the node should not answer with a proof of before, unless
    it is the one that was accepted.
    """
    seconds, infos = LAPSES[lapse]
    now = SimpleNamespace(time=lambda: NOW + seconds)
    for case in alone():
        monkeypatch.setattr("trio_model_runner.security.delegation.time", SimpleNamespace(time=lambda: NOW))
        node = connect()
        assert what_becomes_of(node, "answer", Case().metadata) == "the answer"
        assert not node.must_prove
        node._model.infos = {**node._model.infos, **infos}  # type: ignore[misc]  # private: it is a model's
        monkeypatch.setattr("trio_model_runner.security.delegation.time", now)
        assert node.must_prove is (lapse != "nothing")
        asked_before = seconds if asked == "before" else 0.0
        came_of_it = what_becomes_of(node, kind, case.metadata, asked_before=asked_before)
        if kind == "health" and not case.metadata:
            assert came_of_it == "the answer", case
        elif (expected := expected_after(case, lapse, asked)) is not None:
            assert type(came_of_it) is expected, case
            blameless = outcome_of_distrust(came_of_it, answer=True) is Outcome.PROOF_LAPSED
            assert blameless is (expected is ProofLapsed), case
        else:
            assert not isinstance(came_of_it, ProofFailed), case
        if lapse == "another hotkey" and case.hotkey == "another":
            assert not node.must_prove, case  # it has the new participant's proof
        elif lapse == "time" and case.expires_at == "missing":
            assert not node.must_prove, case  # it has a proof that lives longer
        else:
            assert node.must_prove is (lapse != "nothing"), case


def expected_after(case: Case, lapse: str, asked: str) -> type[ProofFailed] | None:
    """What must be raised; None if the answer must be believed."""
    if lapse.startswith("another"):
        return None if lapse == "another hotkey" and case.hotkey == "another" else ProofLapsed
    if lapse == "nothing" or (case.failure is not None and case.expires_at != "past"):
        return None if case.failure is None else ProofFailed
    if case.expires_at == "good" or (case.expires_at == "just past" and asked == "before"):
        return ProofLapsed  # it was good when the request was sent
    return None if case.expires_at == "missing" else ProofFailed
