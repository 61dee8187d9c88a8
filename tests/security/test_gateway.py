"""What a gateway is sent: signed tokens, made in threads and used for their whole second."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from helpers.gateways import make_credentials
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import ConfigError
from trio_model_runner.security import GatewayCredentials
from trio_model_runner.security.node_security import GatewaySecurity, node_security
from trio_model_runner.security.tokens import TokenMaker

if TYPE_CHECKING:
    from trio_model_runner.security.tokens import TokenMetadata

CALL = "/dynamic_subclass.DynamicSubclassService/Call"


@pytest.fixture(scope="module")
def credentials() -> GatewayCredentials:
    return make_credentials()


class Clock:
    """A clock that a test sets, and a signer that says when it signed."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.25
        self.signed: list[bytes] = []
        self.threads: set[int] = set()
        self.may_sign = threading.Event()
        self.may_sign.set()

    def __call__(self) -> float:
        return self.now

    def sign(self, message: bytes) -> bytes:
        assert self.may_sign.wait(10)
        self.signed.append(message)
        self.threads.add(threading.get_ident())
        return b"signed: " + message

    def maker(self, lifetime: float = 1.0) -> TokenMaker:
        return TokenMaker(self.sign, b"public key", lifetime=lifetime, clock=self)


def read(token: TokenMetadata) -> dict[str, object]:
    return json.loads(base64.b64decode(dict(token)[b"x-gateway-auth-message"]))


async def test_a_token_says_which_model_and_when_under_the_coordinators_key(
    credentials: GatewayCredentials,
) -> None:
    token = await TokenMaker(credentials.sign, credentials.public_key, clock=Clock()).make("13367")
    assert [name for name, _ in token] == [
        b"x-gateway-auth-message",
        b"x-gateway-auth-signature",
        b"x-gateway-auth-pubkey",
    ]
    message, signature, public_key = (base64.b64decode(value, validate=True) for _, value in token)
    assert message == b'{"model_id":"13367","timestamp":1800000000}'
    key = load_der_public_key(public_key)
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(signature, message, padding.PKCS1v15(), SHA256())


async def test_a_token_serves_its_whole_second() -> None:
    clock = Clock()
    maker = clock.maker()
    token = await maker.make("1")
    clock.now = 1_800_000_000.99
    assert maker.ready("1") is token
    assert await maker.make("1") is token
    clock.now = 1_800_000_001.0
    assert maker.ready("1") is None
    assert read(await maker.make("1"))["timestamp"] == 1_800_000_001
    clock.now = 1_799_999_999.0  # it was set back
    assert maker.ready("1") is None
    assert len(clock.signed) == 2


async def test_each_model_has_tokens_of_its_own() -> None:
    maker = Clock().maker()
    assert read(await maker.make("1"))["model_id"] == "1"
    assert read(await maker.make('"\u00e9'))["model_id"] == '"\u00e9'
    assert maker.ready("1") != maker.ready("2")


async def test_many_models_are_signed_for_once_each_in_threads() -> None:
    clock = Clock()
    maker = clock.maker()
    tokens: dict[str, TokenMetadata] = {}

    async def ask(model_id: str) -> None:
        tokens[model_id] = await maker.make(model_id)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(ask, str(number))
            nursery.start_soon(ask, str(number))
    assert all(read(token)["model_id"] == model_id for model_id, token in tokens.items())
    assert len(tokens) == len(clock.signed) == len(set(clock.signed)) == 100
    assert threading.get_ident() not in clock.threads


async def test_the_event_loop_goes_on_while_threads_sign() -> None:
    clock = Clock()
    maker = clock.maker()
    clock.may_sign.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(maker.make, "1")
        nursery.start_soon(maker.make, "2")
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert not clock.signed
        clock.may_sign.set()


async def test_a_caller_that_gives_up_costs_no_other_its_token() -> None:
    clock = Clock()
    maker = clock.maker()
    clock.may_sign.clear()
    scopes = [trio.CancelScope() for _ in range(20)]

    async def ask(model_id: str, scope: trio.CancelScope) -> None:
        with scope:
            await maker.make(model_id)

    async with trio.open_nursery() as nursery:
        for number, scope in enumerate(scopes):
            nursery.start_soon(ask, str(number), scope)
        await wait_all_tasks_blocked()
        for scope in scopes[::2]:
            scope.cancel()
        clock.may_sign.set()
    assert all(maker.ready(str(number)) for number in range(1, 20, 2))
    assert read(await maker.make("0"))["model_id"] == "0"


async def test_what_the_signer_raises_is_raised_and_the_next_caller_tries_again() -> None:
    clock, broken = Clock(), True

    def sign(message: bytes) -> bytes:
        if broken:
            raise ValueError("no")
        return clock.sign(message)

    maker = TokenMaker(sign, b"public key", clock=clock)
    with pytest.raises(ValueError, match="no"):
        await maker.make("1")
    broken = False
    assert read(await maker.make("1"))["model_id"] == "1"


async def test_signing_needs_none_of_trios_threads() -> None:
    limiter = trio.to_thread.current_default_thread_limiter()
    for number in range(int(limiter.total_tokens)):
        limiter.acquire_on_behalf_of_nowait(number)
    with trio.fail_after(30):
        await Clock().maker().make("1")


@pytest.mark.parametrize("seconds", [0.3, 1.0, 5.0])
async def test_who_waits_gets_a_token_however_long_signing_takes(seconds: float) -> None:
    clock, lock = Clock(), threading.Lock()
    tokens: dict[str, TokenMetadata] = {}

    def sign_slowly(message: bytes) -> bytes:
        with lock:  # for the clock: several threads sign
            clock.now += seconds
            assert len(clock.signed) < 1000, "they are signed again and again"
            return clock.sign(message)

    maker = TokenMaker(sign_slowly, b"public key", clock=clock)

    async def ask(model_id: str) -> None:
        tokens[model_id] = await maker.make(model_id)

    async with trio.open_nursery() as nursery:
        for number in range(64):
            nursery.start_soon(ask, str(number))
            nursery.start_soon(ask, str(number))
    assert len(tokens) == 64
    assert all(read(token)["model_id"] == model_id for model_id, token in tokens.items())
    assert len(clock.signed) == 64  # each once, for all who waited for it
    clock.now += 1
    assert maker.ready("63") is None  # but who comes later gets a new one
    await maker.make("63")
    assert len(clock.signed) == 65


async def test_tokens_of_models_long_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_model_runner.security.tokens._REMEMBERED_TOKENS", 10)
    maker = Clock().maker()
    for number in range(25):
        await maker.make(str(number))
    assert len(maker._tokens) <= 10  # nothing else shows that it would not fill the process over weeks
    assert maker.ready("24")


async def test_calls_carry_tokens_and_health_checks_do_not(credentials: GatewayCredentials) -> None:
    security = node_security(credentials)
    assert security.ready_metadata("1", CALL) is None
    token = await security.call_metadata("1", CALL)
    assert read(token)["model_id"] == "1"
    for method in ("Check", "Watch"):
        path = f"/grpc.health.v1.Health/{method}"
        assert await security.call_metadata("1", path) == ()
        assert security.ready_metadata("1", path) == ()


def test_a_gateway_is_reached_under_its_own_name_and_proves_no_wallet(
    credentials: GatewayCredentials,
) -> None:
    security = node_security(credentials)
    tls = security.tls("1")
    assert tls is not None
    assert tls.server_hostname is None
    assert tls.context.verify_mode is ssl.CERT_REQUIRED
    assert tls.context.check_hostname
    assert security.authority("1", "gateway.example:443") == "gateway.example:443"
    assert security.proof(b"certificate") is None


def test_a_gateway_of_another_authority_may_be_trusted() -> None:
    context = ssl.create_default_context()
    trustme.CA().configure_trust(context)
    tls = GatewaySecurity(make_credentials(tls=context)).tls("1")
    assert tls.context is context


@pytest.mark.parametrize("flaw", ["hostname", "certificate", "none at all"])
def test_whoever_could_be_anybody_is_sent_no_token(flaw: str) -> None:
    context: Any = ssl.create_default_context()
    context.check_hostname = False
    if flaw == "certificate":
        context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ConfigError, match="tls: must be"):
        make_credentials(tls=True if flaw == "none at all" else context)


async def test_a_clock_that_jumps_does_not_pass_the_time_in_which_a_token_is_signed(
    autojump_clock: MockClock,
) -> None:
    clock = Clock()
    with trio.move_on_after(1):
        await clock.maker().make("1")
    assert clock.threads == {threading.get_ident()}
    assert trio.current_time() == 0
