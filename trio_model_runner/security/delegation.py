"""Whether a node belongs to its model.

In the secure model protocol a participant's wallet signs a small message, once. The message has a TLS key,
the model, and a hotkey. The node sends message and signature with every answer, as metadata. TLS alone shows
that the authority gave somebody a certificate with the name of the model's node. The signature shows that the
participant wanted exactly this key.

The message and its signature are public, so another node can copy and send them. They prove something only
because the message has the key of **the connection on which it came**: only the owner of the key can have
such a connection. A client that reads the certificate on a connection of its own has no proof. So a
`ConnectionProof` belongs to one connection and its certificate, and must not be used with another.

The proof is checked with each answer. This takes very little time: while the same bytes come, only the time
is checked again. A peer can send anything, so each part is bounded, and every error is a `ProofFailed`.

A proof holds for a time, and for whom the orchestrator named. Both can be over before the connection is. So
`ConnectionProof.holds` is asked before anything of value is sent, and says no from then on. An answer that
was under way at that moment is a `ProofLapsed`: it is not to be believed, and its node did nothing wrong.
A node that answers with a proof which had expired when it was asked has proved nothing: `ProofFailed`.

Nothing here does I/O. `cryptography` and `base58` are imported by the first check.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from ..errors import ProofFailed
from ..text import quoted
from .keys import public_key_info
from .wallet import WalletError, check_wallet_signature, decode_wallet

__all__ = [
    "ConnectionProof",
    "NodeIdentity",
    "ProofLapsed",
    "UnknownIdentity",
    "carries_proof",
    "same_participant",
]

MESSAGE: Final = "x-server-auth-message"
SIGNATURE: Final = "x-server-auth-signature"
WALLET: Final = "x-server-wallet-pubkey"

_KEYS: Final = (MESSAGE, SIGNATURE, WALLET)
_WALLET_INFO: Final = "cruncher_wallet_pubkey"
_HOTKEY_INFO: Final = "cruncher_hotkey"
_LONGEST_MESSAGE: Final = 8192  # characters of base64; one with an RSA key of 8,192 bits has 2,200
_SIGNATURE_BYTES: Final = 64
_LONGEST_SHOWN: Final = 64  # characters

HeaderFields = Iterable[tuple[str, str]]


class UnknownIdentity(ProofFailed):
    """The orchestrator does not say who a model's node must be. The model is not at fault."""


class ProofLapsed(ProofFailed):
    """What the node proved held when the request was sent, and holds no longer. The model is not at fault.

    The proof has expired since, or the orchestrator has named somebody else. Another proof, on a new
    connection, shows whether the node belongs to the model.
    """


@attrs.frozen
class NodeIdentity:
    """What the orchestrator says about a model's participant. A node's proof must agree with it.

    Attributes:
        model_id: the model's id.
        wallet: the public key of the participant's wallet, base58.
        hotkey: the participant's hotkey.
    """

    model_id: str
    wallet: str
    hotkey: str

    @classmethod
    def from_infos(cls, model_id: str, infos: Mapping[str, Any]) -> NodeIdentity:
        """Read the identity from a model's infos.

        Raises:
            UnknownIdentity: something is missing, or the wallet is none, so no proof could be accepted.
        """
        wallet, hotkey = infos.get(_WALLET_INFO), infos.get(_HOTKEY_INFO)
        for what, key in ((wallet, _WALLET_INFO), (hotkey, _HOTKEY_INFO)):
            if not isinstance(what, str) or not what:
                raise UnknownIdentity(
                    f"the orchestrator says no {key} of this model, so nothing can prove its node"
                )
        try:
            decode_wallet(str(wallet))
        except WalletError as error:
            raise UnknownIdentity(
                f"the orchestrator says a {_WALLET_INFO} of this model that proves nothing: {error}"
            ) from error
        return cls(model_id, str(wallet), str(hotkey))


class ConnectionProof:
    """Checks the proofs on one connection.

    Args:
        certificate: the certificate that the server showed on this connection (X.509, DER); None if it
            showed none.
        clock_leeway: a proof is accepted for so many seconds after it expired, since clocks differ.
    """

    def __init__(self, certificate: bytes | None, *, clock_leeway: float = 0.0) -> None:
        self._certificate = certificate
        self._clock_leeway = clock_leeway
        self._public_key: bytes | None = None
        self._metadata: HeaderFields | None = None  # in which `_found` was found
        self._found: tuple[str, str, str] | None = None
        self._parts: tuple[str, str, str] | None = None  # of the proof that was accepted last
        self._identity: NodeIdentity | None = None  # whose that was
        self._expires_at = -math.inf

    def holds(self, identity: NodeIdentity, *, now: float | None = None) -> bool:
        """Whether the last proof that was accepted here is still one for this participant.

        Args:
            identity: the participant and model to which the server must belong.
            now: POSIX seconds; None asks the clock.
        """
        if identity is not self._identity and identity != self._identity:  # to compare the texts takes longer
            return False
        return (time.time() if now is None else now) - self._expires_at <= self._clock_leeway

    def holds_for(self, *, now: float | None = None) -> float:
        """For how many seconds the last proof that was accepted here holds yet, by time alone.

        It is negative after that, and `math.inf` where no time was set.

        Args:
            now: POSIX seconds; None asks the clock.
        """
        return self._expires_at + self._clock_leeway - (time.time() if now is None else now)

    def verify(
        self,
        metadata: HeaderFields,
        identity: NodeIdentity,
        *,
        asked_before: float = 0.0,
        now: float | None = None,
    ) -> None:
        """Check the proof in an answer's initial metadata.

        Args:
            metadata: the initial metadata, names in lower case; other headers may be among it.
            identity: the participant and model to which the server must belong.
            asked_before: how long ago the request was sent, seconds.
            now: POSIX seconds; None asks the clock.

        Raises:
            ProofLapsed: it may have been good when the request was sent: it is the proof that was accepted
                here last, or had not expired then; or the connection was proved for another participant.
            ProofFailed: the proof is missing or wrong; the text says in what way.
        """
        try:
            if self._found is None or metadata is not self._metadata:
                self._found = _find(metadata)
                # A server's answers have the same headers again and again; and a tuple stays as it is.
                self._metadata = metadata if isinstance(metadata, tuple) else None
            self._verify(self._found, identity, asked_before, time.time() if now is None else now)
        except ProofLapsed:
            raise
        except ProofFailed as error:
            if self._identity is None or self._identity == identity:
                raise
            text = "the orchestrator has named another participant since this node was proved"
            raise ProofLapsed(f"{text}: {error}") from error

    def _verify(
        self, parts: tuple[str, str, str], identity: NodeIdentity, asked_before: float, now: float
    ) -> None:
        known = parts == self._parts and (identity is self._identity or identity == self._identity)
        expires_at = self._expires_at if known else self._verify_anew(*parts, identity)
        if now - expires_at > self._clock_leeway:
            held_when_asked = known or now - asked_before - expires_at <= self._clock_leeway
            failure = ProofLapsed if held_when_asked and self._identity is not None else ProofFailed
            raise failure(f"the node's proof has expired: expires_at was {now - expires_at:.10g} s ago")
        self._parts, self._identity, self._expires_at = parts, identity, expires_at

    def _verify_anew(self, message_text: str, signature: str, wallet: str, identity: NodeIdentity) -> float:
        """Check everything but the time, and return when the proof expires."""
        if wallet != identity.wallet:
            raise ProofFailed(
                f"the node's wallet is {_shown(wallet)}, and the model's is {_shown(identity.wallet)}"
            )
        if len(message_text) > _LONGEST_MESSAGE:
            raise ProofFailed(f"the node's {MESSAGE} is longer than {_LONGEST_MESSAGE} characters")
        message = _decode_base64(message_text, MESSAGE)
        _check_signature(wallet, message, _decode_base64(signature, SIGNATURE))
        fields = _read_message(message)
        if _decode_base64(fields.get("cert_pub"), "cert_pub") != self._read_public_key():
            raise ProofFailed("the node's proof is about another TLS key than this connection's")
        for name, expected in (("model_id", identity.model_id), ("hotkey", identity.hotkey)):
            said = fields.get(name)
            if not isinstance(said, str) or said != expected:
                raise ProofFailed(
                    f"the node's proof has the {name} {_shown(said)}, and the model's is {_shown(expected)}"
                )
        return _read_expiry(fields.get("expires_at"))

    def _read_public_key(self) -> bytes:
        if self._public_key is None:
            if self._certificate is None:
                raise ProofFailed("the connection has no certificate that a proof could be about")
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.x509 import load_der_x509_certificate

            try:
                self._public_key = public_key_info(load_der_x509_certificate(self._certificate).public_key())
            except (ValueError, UnsupportedAlgorithm) as error:
                raise ProofFailed("the public key in the node's certificate can't be read") from error
        return self._public_key


def same_participant(infos: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two infos of one model name the same participant, or neither names any."""
    return all(infos.get(key) == others.get(key) for key in (_WALLET_INFO, _HOTKEY_INFO))


def carries_proof(metadata: HeaderFields) -> bool:
    """Whether an answer's initial metadata has any part of a proof."""
    return any(name in _KEYS for name, _ in metadata)


def _find(metadata: HeaderFields) -> tuple[str, str, str]:
    """The three parts of the proof."""
    found: dict[str, str] = {}
    for name, value in metadata:
        if name in _KEYS:
            if name in found:
                raise ProofFailed(f"the node's answer has {name} more than once")
            found[name] = value
    if not found:
        raise ProofFailed("the node's answer comes without a proof of who it is")
    missing = [name for name in _KEYS if not found.get(name)]
    if missing:
        raise ProofFailed(f"the node's answer has no {' and no '.join(missing)}")
    return found[MESSAGE], found[SIGNATURE], found[WALLET]


def _decode_base64(text: object, name: str) -> bytes:
    if not isinstance(text, str) or not text:
        raise ProofFailed(f"the node's proof has no {name}")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error is one; so is text that is not ASCII
        raise ProofFailed(f"the node's {name} is not base64") from error


def _check_signature(wallet: str, message: bytes, signature: bytes) -> None:
    try:
        key = decode_wallet(wallet)
    except WalletError as error:
        raise ProofFailed(str(error)) from error
    if len(signature) != _SIGNATURE_BYTES:
        raise ProofFailed(f"the node's signature has {len(signature)} bytes, not {_SIGNATURE_BYTES}")
    if not check_wallet_signature(key, message, signature):
        raise ProofFailed("the signature on the node's proof is not the wallet's")


def _read_message(message: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(message.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProofFailed("the signed message of the node's proof is not JSON") from error
    if not isinstance(fields, dict):
        raise ProofFailed("the signed message of the node's proof is not a JSON object")
    return fields


def _read_expiry(expires_at: object) -> float:
    if expires_at is None:
        return math.inf
    if isinstance(expires_at, int | float) and not isinstance(expires_at, bool):
        try:
            seconds = float(expires_at)
        except OverflowError:
            seconds = math.nan
        if math.isfinite(seconds):
            return seconds
    raise ProofFailed(f"the node's proof has an expires_at that is no time: {_shown(expires_at)}")


def _shown(value: object) -> str:
    # Other letters can look the same as those in the right wallet or id: they are written out.
    return quoted(value, _LONGEST_SHOWN, ascii_only=True)
