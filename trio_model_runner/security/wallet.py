"""Participants' wallets: what their keys are, and which keys prove nothing.

A wallet is named by its Ed25519 public key (RFC 8032): 32 bytes, a point of a curve, written in base58.

Eight points of the curve have **small order**: eight times the point is the neutral element. With such a
point as the key, S = 0 and a guessed R are a good signature of at least every eighth message, and nobody
needs a private key. Thirty-two zero bytes, Solana's default key, are such a point. Neither RFC 8032 nor
OpenSSL refuses these keys. So they are refused here: by arithmetic, which knows every encoding, where a list
forgets those that are not canonical.

What else is strange about Ed25519 forges nothing here, where OpenSSL computes R as [S]B - [k]A and compares
its bytes with those of the signature:

- An R of small order is accepted, but only the owner of the key can find its S. An R that is not in canonical
  form is never equal.
- S must be less than the order of B, so nobody can change a signature into another one.
- A key that is the sum of a good one and a point of small order ("mixed") hides its private key as well as
  the good one. Its owner can make signatures that other libraries refuse; nobody else can make any.
- The y of a point may be written as y + p, for the few that are small enough. Wallets are compared as texts,
  so that is another wallet, and nobody speaks by it for the first.
"""

from __future__ import annotations

import functools
from typing import Final

from ..text import quoted

__all__ = ["WalletError", "check_wallet_signature", "decode_wallet"]

_WALLET_BYTES: Final = 32
_LONGEST_WALLET: Final = 44  # characters of base58 that 32 bytes can have
_LONGEST_SHOWN: Final = 64  # characters

_PRIME: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _PRIME) % _PRIME  # the curve is -x^2 + y^2 = 1 + d x^2 y^2
_SIGN: Final = 1 << 255  # the bit of an encoding that says which of the two x it is


class WalletError(ValueError):
    """A text names no wallet whose signature would prove anything. The error's text says why."""


@functools.lru_cache(maxsize=4096)  # asked for with each connection and again with its proof; takes 0.1 ms
def decode_wallet(wallet: str) -> bytes:
    """The public key of a wallet.

    Args:
        wallet: the key in base58.

    Raises:
        WalletError: it is no key, or one that proves nothing.
    """
    import base58

    key = b""
    if len(wallet) <= _LONGEST_WALLET:  # decoding takes time with the square of the length
        try:
            key = base58.b58decode(wallet)
        except ValueError:
            key = b""
    shown = quoted(wallet, _LONGEST_SHOWN, ascii_only=True)
    if len(key) != _WALLET_BYTES:
        raise WalletError(f"the wallet {shown} is not {_WALLET_BYTES} bytes in base58")
    y = int.from_bytes(key, "little") % _SIGN
    if not _is_on_the_curve(y):
        raise WalletError(f"the wallet {shown} is no Ed25519 key, so nobody can sign with it")
    if _has_small_order(y):
        raise WalletError(f"the wallet {shown} is a key of small order, so anybody can sign with it")
    return key


def check_wallet_signature(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a wallet has signed a message.

    Args:
        key: the wallet's key, from `decode_wallet`.
        message: the message.
        signature: 64 bytes; anything else is no signature.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _is_on_the_curve(y: int) -> bool:
    """Whether a point has this y: there is an x with x^2 = (y^2 - 1) / (d y^2 + 1)."""
    square = y * y % _PRIME
    product = (square - 1) * (_D * square + 1)  # it is a square where the quotient is one
    return pow(product, (_PRIME - 1) // 2, _PRIME) in (0, 1)


def _has_small_order(y: int) -> bool:
    """Whether eight times a point with this y is the neutral element, (0, 1). The sign of x does not matter.

    y may be larger than p, as in an encoding that is not canonical.

    The y of twice a point is (d y^4 + 2 y^2 - 1) / (-d y^4 + 2 d y^2 + 1): the addition of RFC 8032, section
    5.1.4, without x. Numerator and denominator are kept apart, since dividing is slow.
    """
    numerator, denominator = y, 1
    for _ in range(3):
        square, below = numerator**2 % _PRIME, denominator**2 % _PRIME
        numerator = (_D * square**2 + 2 * square * below - below**2) % _PRIME
        denominator = (-_D * square**2 + 2 * _D * square * below + below**2) % _PRIME
    return numerator == denominator
