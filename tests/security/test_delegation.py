"""A node's proof: every condition alone, and any bytes at all."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

import attrs
import base58
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from helpers.secure_nodes import (
    HOTKEY,
    MODEL_ID,
    Metadata,
    Wallet,
    public_key_of,
    text_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner.errors import ProofFailed
from trio_model_runner.security.delegation import (
    MESSAGE,
    SIGNATURE,
    WALLET,
    ConnectionProof,
    NodeIdentity,
    UnknownIdentity,
)

if TYPE_CHECKING:
    pass

AUTHORITY = trustme.CA()
LEAF = AUTHORITY.issue_cert(f"model-node-{MODEL_ID}.crunchdao.internal").cert_chain_pems[0].bytes()
CERTIFICATE = base64.b64decode("".join(LEAF.decode().splitlines()[1:-1]))
PUBLIC_KEY = public_key_of(LEAF)
PARTICIPANT = Wallet(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
STRANGER = Wallet(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
NOW = 1_800_000_000.0


def verify(
    metadata: Any,
    identity: NodeIdentity | None = None,
    *,
    now: float = NOW,
    leeway: float = 0.0,
    certificate: bytes | None = CERTIFICATE,
) -> str | None:
    """Why a new connection's first proof is refused; None if it is accepted."""
    proof = ConnectionProof(certificate, clock_leeway=leeway)
    identity = PARTICIPANT.identity() if identity is None else identity
    assert not proof.holds(identity, now=now)
    try:
        proof.verify(metadata, identity, now=now)
    except ProofFailed as error:
        text = str(error)
    else:
        text = None
    assert proof.holds(identity, now=now) is (text is None)
    return text


def refusal(metadata: Any, **options: Any) -> str:
    text = verify(metadata, **options)
    assert text is not None
    assert text.isprintable()
    assert len(text) < 400
    return text


def with_part(name: str, value: str) -> Metadata:
    """A good proof, but for one part of it."""
    return tuple((key, value if key == name else old) for key, old in PARTICIPANT.delegate(PUBLIC_KEY))


def test_a_good_proof_is_accepted_among_other_headers() -> None:
    assert verify(PARTICIPANT.delegate(PUBLIC_KEY)) is None
    others = ((":status", "200"), ("x-other", "1"), ("x-other", "2"))
    assert verify((*others, *reversed(PARTICIPANT.delegate(PUBLIC_KEY)), *others)) is None
    assert verify(PARTICIPANT.delegate(PUBLIC_KEY, more={"to": ["come"]})) is None


def test_an_answer_without_a_proof_is_refused() -> None:
    assert refusal(()) == "the node's answer comes without a proof of who it is"
    assert refusal(((":status", "200"),)) == "the node's answer comes without a proof of who it is"


@pytest.mark.parametrize("name", [MESSAGE, SIGNATURE, WALLET])
def test_each_part_must_be_there_exactly_once(name: str) -> None:
    good = PARTICIPANT.delegate(PUBLIC_KEY)
    without = tuple(field for field in good if field[0] != name)
    assert refusal(without) == f"the node's answer has no {name}"
    assert refusal(with_part(name, "")) == f"the node's answer has no {name}"
    assert refusal((*good, *good)) == f"the node's answer has {good[0][0]} more than once"
    assert refusal((*good, (name, dict(good)[name]))) == f"the node's answer has {name} more than once"


@pytest.mark.parametrize("name", [MESSAGE, SIGNATURE])
@pytest.mark.parametrize("value", ["!", "AAA", "AAAA\n", " AAAA", "AA-_", "A===", "\xe9", "AAAA=AAA"])
def test_what_is_not_base64_is_refused(name: str, value: str) -> None:
    assert refusal(with_part(name, value)) == f"the node's {name} is not base64"


def test_a_message_has_a_bounded_length() -> None:
    assert refusal(with_part(MESSAGE, "A" * 8196)) == (
        "the node's x-server-auth-message is longer than 8192 characters"
    )


def test_another_wallet_than_the_models_is_refused() -> None:
    text = refusal(STRANGER.delegate(PUBLIC_KEY))
    assert text == f"the node's wallet is {STRANGER.address!r}, and the model's is {PARTICIPANT.address!r}"
    # whoever knows the participant's wallet can name it, and not sign for it
    signed = dict(STRANGER.delegate(PUBLIC_KEY))
    assert refusal((signed | {WALLET: PARTICIPANT.address}).items()) == (
        "the signature on the node's proof is not the wallet's"
    )


@pytest.mark.parametrize(
    "wallet",
    ["0OIl", "1" * 31, base58.b58encode(bytes(31)).decode(), "z" * 44, "1" * 33, "z" * 100_000, "\x1b[31m"],
)
def test_a_wallet_that_is_no_key_is_refused_even_if_the_orchestrator_says_so(wallet: str) -> None:
    text = refusal(with_part(WALLET, wallet), identity=attrs.evolve(PARTICIPANT.identity(), wallet=wallet))
    assert text.startswith("the wallet '")
    assert text.endswith("' is not 32 bytes in base58")


def test_a_changed_message_is_refused() -> None:
    changed = text_of(base64.b64decode(dict(PARTICIPANT.delegate(PUBLIC_KEY))[MESSAGE]) + b" ")
    assert refusal(with_part(MESSAGE, changed)) == "the signature on the node's proof is not the wallet's"


@pytest.mark.parametrize("length", [1, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    text = refusal(with_part(SIGNATURE, text_of(bytes(length))))
    assert text == f"the node's signature has {length} bytes, not 64"


@pytest.mark.parametrize(
    "message", [b"", b"{", b"\xff", b"[" * 5000, b'{"cert_pub": ' + b"9" * 5000 + b"}", b"nonsense"]
)
def test_a_signed_message_that_is_not_json_is_refused(message: bytes) -> None:
    said = "has no x-server-auth-message" if not message else "is not JSON"
    assert said in refusal(PARTICIPANT.sign(message))


@pytest.mark.parametrize("message", ["[]", "null", "1", '"text"', "true"])
def test_a_signed_message_that_is_no_object_is_refused(message: str) -> None:
    assert refusal(PARTICIPANT.sign(message.encode())).endswith("is not a JSON object")


def test_a_proof_about_another_key_than_the_connections_is_refused() -> None:
    other = AUTHORITY.issue_cert("model-node-1.crunchdao.internal").cert_chain_pems[0].bytes()
    said = "the node's proof is about another TLS key than this connection's"
    assert refusal(PARTICIPANT.delegate(public_key_of(other))) == said
    # a good proof, copied by somebody with a certificate of their own
    copied = base64.b64decode("".join(other.decode().splitlines()[1:-1]))
    assert refusal(PARTICIPANT.delegate(PUBLIC_KEY), certificate=copied) == said


@pytest.mark.parametrize("value", [None, "", 7, ["A"], {}, True])
def test_a_message_without_a_key_is_refused(value: Any) -> None:
    assert refusal(PARTICIPANT.delegate(PUBLIC_KEY, cert_pub=value)) == "the node's proof has no cert_pub"


def test_a_key_in_the_message_that_is_not_base64_is_refused() -> None:
    assert refusal(PARTICIPANT.delegate(PUBLIC_KEY, cert_pub="A")) == "the node's cert_pub is not base64"


def test_without_a_certificate_nothing_can_be_proved() -> None:
    good = PARTICIPANT.delegate(PUBLIC_KEY)
    assert refusal(good, certificate=None) == "the connection has no certificate that a proof could be about"
    assert refusal(good, certificate=b"\x30\x00") == "the public key in the node's certificate can't be read"


@pytest.mark.parametrize(("name", "expected"), [("model_id", MODEL_ID), ("hotkey", HOTKEY)])
@pytest.mark.parametrize("value", [None, "", "other", 13367, ["13367"], "\x1b[31m" * 100])
def test_another_model_or_hotkey_is_refused(name: str, expected: str, value: Any) -> None:
    text = refusal(PARTICIPANT.delegate(PUBLIC_KEY, **{name: value}))
    assert text.startswith(f"the node's proof has the {name} ")
    assert text.endswith(f", and the model's is {expected!r}")


@pytest.mark.parametrize("expires_at", [None, NOW, NOW + 0.5, int(NOW) + 10**9])
def test_a_proof_that_has_not_expired_is_accepted(expires_at: float | None) -> None:
    assert verify(PARTICIPANT.delegate(PUBLIC_KEY, expires_at=expires_at)) is None


@pytest.mark.parametrize("late", [0.5, 1, 3600, 1e308])
def test_a_proof_that_has_expired_is_refused(late: float) -> None:
    text = refusal(PARTICIPANT.delegate(PUBLIC_KEY, expires_at=NOW - late))
    assert text.startswith("the node's proof has expired: ")


def test_clocks_may_differ_by_the_leeway() -> None:
    metadata = PARTICIPANT.delegate(PUBLIC_KEY, expires_at=NOW)
    assert verify(metadata, now=NOW + 10, leeway=10) is None
    assert "has expired" in refusal(metadata, now=NOW + 10.5, leeway=10)


@pytest.mark.parametrize("expires_at", ["1900000000", True, [], {}, math.nan, math.inf, -math.inf, 10**400])
def test_an_expiry_that_is_no_time_is_refused(expires_at: Any) -> None:
    assert "has an expires_at that is no time" in refusal(
        PARTICIPANT.delegate(PUBLIC_KEY, expires_at=expires_at)
    )


def test_a_proof_that_comes_again_is_still_held_against_the_clock() -> None:
    proof = ConnectionProof(CERTIFICATE, clock_leeway=1)
    metadata = PARTICIPANT.delegate(PUBLIC_KEY, expires_at=NOW)
    for now in (NOW - 10, NOW, NOW + 1):
        proof.verify(metadata, PARTICIPANT.identity(), now=now)
    with pytest.raises(ProofFailed, match="expires_at was 2 s ago"):
        proof.verify(metadata, PARTICIPANT.identity(), now=NOW + 2)


def test_a_proof_that_was_accepted_vouches_for_no_other() -> None:
    proof = ConnectionProof(CERTIFICATE)
    proof.verify(PARTICIPANT.delegate(PUBLIC_KEY), PARTICIPANT.identity())
    with pytest.raises(ProofFailed, match="the signature"):
        proof.verify(with_part(SIGNATURE, text_of(bytes(64))), PARTICIPANT.identity())
    with pytest.raises(ProofFailed, match="without a proof"):
        proof.verify((), PARTICIPANT.identity())
    with pytest.raises(ProofFailed, match="the hotkey"):
        proof.verify(PARTICIPANT.delegate(PUBLIC_KEY), PARTICIPANT.identity(hotkey="another"))
    proof.verify(PARTICIPANT.delegate(PUBLIC_KEY), PARTICIPANT.identity())


def test_a_proof_that_comes_again_is_not_verified_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    proof = ConnectionProof(CERTIFICATE)
    proof.verify(PARTICIPANT.delegate(PUBLIC_KEY), PARTICIPANT.identity())
    monkeypatch.setattr(ConnectionProof, "_verify_anew", None)
    proof.verify(PARTICIPANT.delegate(PUBLIC_KEY), PARTICIPANT.identity())


INFOS = {"cruncher_wallet_pubkey": PARTICIPANT.address, "cruncher_hotkey": HOTKEY, "model_name": "x"}


def test_an_identity_comes_from_the_orchestrators_infos() -> None:
    assert issubclass(UnknownIdentity, ProofFailed)
    assert NodeIdentity.from_infos(MODEL_ID, INFOS) == PARTICIPANT.identity()


@pytest.mark.parametrize("key", ["cruncher_wallet_pubkey", "cruncher_hotkey"])
@pytest.mark.parametrize("value", [None, "", 7, ()])
def test_a_model_without_a_wallet_or_hotkey_can_not_be_proved(key: str, value: Any) -> None:
    with pytest.raises(UnknownIdentity, match=f"the orchestrator says no {key} of this model"):
        NodeIdentity.from_infos(MODEL_ID, INFOS | {key: value})
    with pytest.raises(UnknownIdentity, match=key):
        NodeIdentity.from_infos(MODEL_ID, {name: text for name, text in INFOS.items() if name != key})


values = st.text(st.characters(max_codepoint=255), max_size=200) | st.binary(max_size=200).map(text_of)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
near_messages = st.fixed_dictionaries(
    {},
    optional={
        "cert_pub": st.just(text_of(PUBLIC_KEY)) | json_values,
        "model_id": st.just(MODEL_ID) | json_values,
        "hotkey": st.just(HOTKEY) | json_values,
        "expires_at": st.just(NOW) | json_values,
    },
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([MESSAGE, SIGNATURE, WALLET, "x-other"]), values), max_size=5))
def test_any_metadata_is_refused_in_words(metadata: list[tuple[str, str]]) -> None:
    refusal(metadata)


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=100), st.text(max_size=60))
def test_any_parts_under_the_right_wallet_are_refused_in_words(
    message: bytes, signature: bytes, other: str
) -> None:
    refusal(((MESSAGE, text_of(message)), (SIGNATURE, text_of(signature)), (WALLET, PARTICIPANT.address)))
    identity = attrs.evolve(PARTICIPANT.identity(), wallet=other)
    refusal(
        ((MESSAGE, text_of(message)), (SIGNATURE, text_of(signature)), (WALLET, other)), identity=identity
    )


@settings(deadline=None)
@given(near_messages | json_values)
def test_any_message_that_the_wallet_signed_is_accepted_only_if_all_is_right(message: Any) -> None:
    good = {"cert_pub": text_of(PUBLIC_KEY), "model_id": MODEL_ID, "hotkey": HOTKEY}
    metadata = PARTICIPANT.sign(json.dumps(message).encode())
    expires_at = message.get("expires_at") if isinstance(message, dict) else None
    fits = isinstance(message, dict) and all(message.get(name) == value for name, value in good.items())
    lives = expires_at is None or (type(expires_at) in (int, float) and NOW <= expires_at < 1e308)
    if fits and lives:
        assert verify(metadata) is None
    else:
        refusal(metadata)
