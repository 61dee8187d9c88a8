"""A wallet whose key proves nothing is none: keys of small order, in every encoding, and what is no key."""

from __future__ import annotations

import hashlib
import itertools

import base58
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from helpers.secure_nodes import HOTKEY, MODEL_ID, Wallet, text_of
from hypothesis import given
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
from trio_model_runner.security.wallet import WalletError, check_wallet_signature, decode_wallet

PRIME = 2**255 - 19
ORDER_8 = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
EVERY_Y = (0, 1, PRIME - 1, ORDER_8, PRIME - ORDER_8, PRIME, PRIME + 1)
"""The y of all points of small order; of those, 0 and 1 can be written as more than p, too."""

SMALL = [(y | sign << 255).to_bytes(32, "little") for y in EVERY_Y for sign in (0, 1)]
NULL_WALLET = "1" * 32
NO_POINT = (2).to_bytes(32, "little")
ORDER = 2**252 + 27742317777372353535851937790883648493


def name_of(key: bytes) -> str:
    return base58.b58encode(key).decode()


def forge(key: bytes) -> tuple[bytes, bytes]:
    """A message, and a signature of it that OpenSSL takes for one by this key. No private key is needed."""
    for number, point in itertools.product(range(64), SMALL):
        message, signature = str(number).encode(), point + bytes(32)
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):
            continue
        return message, signature
    raise AssertionError("nothing can be forged")


def test_the_null_wallet_is_such_a_key() -> None:
    assert base58.b58decode(NULL_WALLET) == bytes(32)
    assert len(set(SMALL)) == 14
    assert bytes(32) in SMALL


@pytest.mark.parametrize("key", SMALL, ids=bytes.hex)
def test_a_key_that_anybody_can_sign_with_is_refused_in_every_encoding(key: bytes) -> None:
    message, signature = forge(key)
    with pytest.raises(WalletError, match="is a key of small order, so anybody can sign with it"):
        decode_wallet(name_of(key))
    wallet = name_of(key)
    metadata = ((MESSAGE, text_of(message)), (SIGNATURE, text_of(signature)), (WALLET, wallet))
    identity = NodeIdentity(MODEL_ID, wallet, HOTKEY)
    with pytest.raises(ProofFailed, match="small order"):
        ConnectionProof(None).verify(metadata, identity)


@pytest.mark.parametrize("wallet", [NULL_WALLET, *map(name_of, SMALL), "1" * 31, "0OIl", name_of(NO_POINT)])
def test_such_a_wallet_is_as_good_as_none(wallet: str) -> None:
    infos = {"cruncher_wallet_pubkey": wallet, "cruncher_hotkey": HOTKEY}
    with pytest.raises(UnknownIdentity, match="cruncher_wallet_pubkey of this model that proves nothing: "):
        NodeIdentity.from_infos(MODEL_ID, infos)


@given(st.binary(min_size=32, max_size=32))
def test_every_key_that_somebody_has_is_a_wallet(seed: bytes) -> None:
    wallet = Wallet(Ed25519PrivateKey.from_private_bytes(seed))
    key = decode_wallet(wallet.address)
    assert check_wallet_signature(key, b"message", wallet.key.sign(b"message"))
    assert not check_wallet_signature(key, b"another", wallet.key.sign(b"message"))
    infos = {"cruncher_wallet_pubkey": wallet.address, "cruncher_hotkey": HOTKEY}
    assert NodeIdentity.from_infos(MODEL_ID, infos) == wallet.identity()


def test_bytes_that_are_no_point_are_no_wallet() -> None:
    with pytest.raises(WalletError, match="is no Ed25519 key, so nobody can sign with it"):
        decode_wallet(name_of(NO_POINT))


def test_what_else_is_strange_about_signatures_forges_nothing() -> None:
    """What the module says of R and S, for a key that somebody has: only its owner knows the scalar."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public, message = key.public_key().public_bytes_raw(), b"message"
    scalar = int.from_bytes(hashlib.sha512(key.private_bytes_raw()).digest()[:32], "little")
    scalar = scalar & ((1 << 254) - 8) | 1 << 254

    def sign_with(point: int) -> bytes:
        """The signature with this R, which is the neutral element in some encoding."""
        start = point.to_bytes(32, "little")
        k = int.from_bytes(hashlib.sha512(start + public + message).digest(), "little")
        return start + (k * scalar % ORDER).to_bytes(32, "little")

    assert check_wallet_signature(public, message, sign_with(1))
    assert not check_wallet_signature(public, message, sign_with(PRIME + 1))
    assert not check_wallet_signature(public, message, sign_with(1)[:32] + bytes(32))
    good = key.sign(message)
    larger = int.from_bytes(good[32:], "little") + ORDER
    assert check_wallet_signature(public, message, good)
    assert not check_wallet_signature(public, message, good[:32] + larger.to_bytes(32, "little"))
