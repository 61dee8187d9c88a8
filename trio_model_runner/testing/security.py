"""How the nodes of a local crunch and its coordinator prove who they are.

There is a mode for each kind of credentials, and one authority for a crunch. A mode makes the coordinator's
credentials, says what the orchestrator tells of a participant, and gives each node a `Guard`. The guard has
the TLS of the node's connections, what goes ahead of every answer, and which calls are let in. The faults of
the node say what is wrong with that.

Keys are in memory, and in a directory only while they are loaded, or where a test wants them. It needs the
extra ``secure``. It must not know models, the orchestrator, or when nodes come and go.
"""

from __future__ import annotations

import abc
import base64
import json
import re
import ssl
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ..security import GatewayCredentials, SecureCredentials
from ..security.tls import client_context
from .authority import CLIENTS, DAY, Authority, Certificate, server_context
from .wallet import Metadata, Wallet

if TYPE_CHECKING:
    from .faults import Faults, WrongCertificate, WrongProof
    from .grpc_call import ServerCall

__all__ = ["GatewayMode", "Guard", "Mode", "SecureMode"]

_HEALTH: Final = "/grpc.health.v1.Health/"
_TOKEN: Final = tuple(f"x-gateway-auth-{part}" for part in ("message", "signature", "pubkey"))
_TOKEN_LIFETIME: Final = 300  # seconds, either way
_EXPIRED_FOR: Final = 3600  # seconds
_DNS_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")


class Guard(abc.ABC):
    """What one node shows, and wants to see.

    Attributes:
        faults: the names of the faults that it can act on.
    """

    faults: ClassVar[frozenset[str]]

    @abc.abstractmethod
    def context(self, faults: Faults) -> ssl.SSLContext:
        """The TLS of the connection that has just come."""

    @abc.abstractmethod
    def admit(self, call: ServerCall, faults: Faults) -> None:
        """Look at a call that has just come, and begin its answer.

        Raises:
            grpclib.GRPCError: it is refused.
        """


class Mode(abc.ABC):
    """How one crunch is secured."""

    @property
    @abc.abstractmethod
    def credentials(self) -> SecureCredentials | GatewayCredentials:
        """The coordinator's credentials."""

    @abc.abstractmethod
    def write_credentials(self, directory: Path) -> None:
        """Write the coordinator's credentials into files, as ``credentials_path`` wants them."""

    @abc.abstractmethod
    def infos(self, model_id: str) -> dict[str, str]:
        """What the orchestrator says about a model's participant.

        Raises:
            ValueError: no node could have that model.
        """

    @abc.abstractmethod
    def guard(self, model_id: str, host: str) -> Guard:
        """The guard of a new node at `host`."""


class SecureMode(Mode):
    """The secure model protocol: certificates on both sides, and a wallet's word for every node's key."""

    def __init__(self) -> None:
        self.authority = Authority.make()
        self._coordinator = self.authority.issue(["coordinator@example.org"], usage=CLIENTS)
        self._participants: dict[str, tuple[Wallet, str]] = {}
        with tempfile.TemporaryDirectory() as directory:
            self.write_credentials(Path(directory))
            self._credentials = SecureCredentials.from_directory(directory)

    @property
    def credentials(self) -> SecureCredentials:
        """See `Mode.credentials`. The files that they name exist no longer."""
        return self._credentials

    def write_credentials(self, directory: Path) -> None:
        """See `Mode.write_credentials`: ``ca.crt``, ``tls.crt`` and ``tls.key``."""
        (directory / "ca.crt").write_bytes(self.authority.pem)
        (directory / "tls.crt").write_bytes(self._coordinator.chain)
        write_key(directory / "tls.key", self._coordinator.key_pem)

    def infos(self, model_id: str) -> dict[str, str]:
        """See `Mode.infos`."""
        if not _DNS_NAME.fullmatch(node_name(model_id)):
            raise ValueError(
                f"model_id: {model_id!r} can't be in a certificate, as security='secure' needs it"
            )
        wallet, hotkey = self._participants.setdefault(model_id, (Wallet(), Wallet().address))
        return {"cruncher_wallet_pubkey": wallet.address, "cruncher_hotkey": hotkey}

    def guard(self, model_id: str, host: str) -> Guard:
        """See `Mode.guard`."""
        wallet, hotkey = self._participants[model_id]
        return SecureGuard(self.authority, model_id, wallet, hotkey)


class SecureGuard(Guard):
    """Asks for the coordinator's certificate, and sends a proof ahead of every answer."""

    faults = frozenset({"wrong_certificate", "wrong_proof"})

    def __init__(self, authority: Authority, model_id: str, wallet: Wallet, hotkey: str) -> None:
        self._authority = authority
        self._model_id = model_id
        self._wallet = wallet
        self._hotkey = hotkey
        self._certificates = Certificates(authority, [node_name(model_id)])
        self._proofs: dict[WrongProof | None, Metadata] = {}

    def context(self, faults: Faults) -> ssl.SSLContext:
        """See `Guard.context`."""
        return self._certificates.context(faults.wrong_certificate, clients=self._authority)

    def admit(self, call: ServerCall, faults: Faults) -> None:
        """See `Guard.admit`: as deployed nodes do, it sends the proof before anything is run."""
        wrong = faults.wrong_proof
        if wrong not in self._proofs:
            self._proofs[wrong] = self._make_proof(wrong)
        if proof := self._proofs[wrong]:
            call.initial_metadata.extend(proof)
            call.send_initial_metadata()

    def _make_proof(self, wrong: WrongProof | None) -> Metadata:
        public_key = self._certificates.get(None).public_key
        good = {"model_id": self._model_id, "hotkey": self._hotkey}
        match wrong:
            case None:
                return self._wallet.delegate(public_key, **good)
            case "missing":
                return ()
            case "expired":
                expires_at = int(time.time()) - _EXPIRED_FOR
                return self._wallet.delegate(public_key, **good, expires_at=expires_at)
            case "other wallet":
                return Wallet().delegate(public_key, **good)
            case "other key":
                return self._wallet.delegate(self._authority.issue().public_key, **good)
            case "other model":
                return self._wallet.delegate(public_key, **good | {"model_id": f"not-{self._model_id}"})


class GatewayMode(Mode):
    """Nodes behind gateways: ordinary TLS, and a signed token with every call. Each node has a gateway."""

    def __init__(self) -> None:
        self.authority = Authority.make()
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.authority.pem)
            file.flush()
            context = client_context(file.name)
        self._credentials = GatewayCredentials.from_pem(_gateway_key_pem(), tls=context)

    @property
    def credentials(self) -> GatewayCredentials:
        """See `Mode.credentials`."""
        return self._credentials

    def write_credentials(self, directory: Path) -> None:
        """See `Mode.write_credentials`: ``key.pem``, and the gateways' authority as ``gateway-ca.crt``."""
        (directory / "gateway-ca.crt").write_bytes(self.authority.pem)
        write_key(directory / "key.pem", _gateway_key_pem())

    def infos(self, model_id: str) -> dict[str, str]:
        """See `Mode.infos`: gateways prove nothing of participants."""
        return {}

    def guard(self, model_id: str, host: str) -> Guard:
        """See `Mode.guard`."""
        return GatewayGuard(Certificates(self.authority, [host]), model_id, self._credentials.public_key)


@attrs.frozen
class GatewayGuard(Guard):
    """Takes calls that carry a good token."""

    faults: ClassVar = frozenset({"wrong_certificate", "lose_token"})

    certificates: Certificates
    model_id: str
    public_key: bytes

    def context(self, faults: Faults) -> ssl.SSLContext:
        """See `Guard.context`."""
        return self.certificates.context(faults.wrong_certificate)

    def admit(self, call: ServerCall, faults: Faults) -> None:
        """See `Guard.admit`. What deployed gateways answer to a bad token is not known; this is gRPC's."""
        if call.path.startswith(_HEALTH):
            return
        token = tuple("" if faults.lose_token else call.metadata.get(name, "") for name in _TOKEN)
        if (flaw := check_token(token, self.model_id, self.public_key)) is not None:
            raise GRPCError(Status.UNAUTHENTICATED, f"the gateway refuses the call: {flaw}")


class Certificates:
    """The certificates of one node or gateway: the right one, and wrong ones."""

    def __init__(self, authority: Authority, names: list[str]) -> None:
        self._authority = authority
        self._names = names
        self._made: dict[WrongCertificate | None, Certificate] = {}
        self._contexts: dict[WrongCertificate | None, ssl.SSLContext] = {}

    def get(self, wrong: WrongCertificate | None) -> Certificate:
        """The certificate."""
        if wrong not in self._made:
            self._made[wrong] = self._make(wrong)
        return self._made[wrong]

    def context(self, wrong: WrongCertificate | None, *, clients: Authority | None = None) -> ssl.SSLContext:
        """The context of a server that shows it."""
        if wrong not in self._contexts:
            self._contexts[wrong] = server_context(self.get(wrong), clients=clients)
        return self._contexts[wrong]

    def _make(self, wrong: WrongCertificate | None) -> Certificate:
        match wrong:
            case None:
                return self._authority.issue(self._names)
            case "expired":
                return self._authority.issue(self._names, first=-2 * DAY, last=-DAY)
            case "other authority":
                return Authority.make("another authority").issue(self._names)
            case "other name":
                return self._authority.issue(["another-node.example"])


def check_token(parts: tuple[str, ...], model_id: str, public_key: bytes) -> str | None:
    """What is wrong with a token's message, signature and public key; None if nothing is."""
    if not all(parts):
        return "it has no token"
    try:
        message, signature, key = (base64.b64decode(part, validate=True) for part in parts)
        said = json.loads(message)
        stamp, named = said["timestamp"], said["model_id"]
    except (ValueError, KeyError, TypeError):
        return "its token can't be read"
    if key != public_key:
        return "its token is another coordinator's"
    try:
        _gateway_key().public_key().verify(signature, message, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        return "the signature on its token is wrong"
    if named != model_id:
        return f"its token is for the model {named!r}"
    if not isinstance(stamp, int) or abs(time.time() - stamp) > _TOKEN_LIFETIME:
        return f"its token has the timestamp {stamp!r}"
    return None


def node_name(model_id: str) -> str:
    """The name in the certificate of a model's node."""
    return f"model-node-{model_id}.crunchdao.internal"


def write_key(path: Path, pem: bytes) -> None:
    """Write a private key into a new file that nobody else may read."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(pem)


@cache
def _gateway_key() -> rsa.RSAPrivateKey:
    """The coordinator's key, the same for all crunches of this process: to make one takes 0.1 s."""
    return rsa.generate_private_key(65537, 2048)


def _gateway_key_pem() -> bytes:
    return _gateway_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
