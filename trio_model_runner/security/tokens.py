"""Signed tokens: what a gateway wants to see with every call.

A token says which model is called and when, in whole seconds, and is signed with the coordinator's RSA key.
To sign one takes 0.3 ms with a key of 2,048 bits, and 1.5 ms with 4,096 bits. A round on a thousand models
would hold up the event loop for up to 1.5 s, and no answer would be read meanwhile. `cryptography` releases
the interpreter's lock while it signs. So a few threads sign, several tokens at a time, and a token is used
for all calls on its model for a while.

Under a clock that jumps, tokens are signed in the event loop; `workers` says why.

The calls of a round ask for their tokens at the same time, and get their turns in that order. A turn signs
the caller's token and those of the next calls in the queue. So most calls find their token ready when their
own turn comes.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable
from itertools import islice
from typing import Final

import attrs
import trio

from ..workers import clock_jumps

__all__ = ["TokenMaker", "TokenMetadata"]

TokenMetadata = tuple[tuple[bytes, bytes], ...]

_MOST_THREADS: Final = 4
_TOKENS_A_TURN: Final = 8
_REMEMBERED_TOKENS: Final = 20_000


@attrs.define(eq=False)
class _Request:
    """A token that a task waits for. If it has no token in the end, signing has failed."""

    token: TokenMetadata | None = None
    ended: trio.Event = attrs.field(factory=trio.Event)


class TokenMaker:
    """Makes tokens, and keeps each for a while.

    Args:
        sign: signs a message; runs in threads.
        public_key: what the signatures are verified with, DER SubjectPublicKeyInfo.
        lifetime: how long a token is used, in seconds from the whole second that is written in it.
        clock: the time in POSIX seconds.
    """

    def __init__(
        self,
        sign: Callable[[bytes], bytes],
        public_key: bytes,
        *,
        lifetime: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sign = sign
        self._public_key = base64.b64encode(public_key)
        self._lifetime = lifetime
        self._clock = clock
        self._tokens: dict[str, tuple[int, TokenMetadata]] = {}
        self._wanted: dict[str, _Request] = {}  # in the order of asking
        self._being_signed: dict[str, _Request] = {}
        threads = min(_MOST_THREADS, os.cpu_count() or 1)
        self._turns = trio.CapacityLimiter(threads)
        self._threads = trio.CapacityLimiter(threads)  # not Trio's own, which the whole program shares

    def ready(self, model_id: str) -> TokenMetadata | None:
        """The token for a model, if there is one that may still be used."""
        token = self._tokens.get(model_id)
        if token is None or not 0 <= self._clock() - token[0] < self._lifetime:
            return None
        return token[1]

    async def make(self, model_id: str) -> TokenMetadata:
        """The token for a model: the present one, or a new one.

        If signing takes long, a new token may be older than `lifetime` when it is ready. The task that waited
        for it gets it all the same: the next token would not be ready sooner.

        Returns:
            Metadata fields, names and values.
        """
        await trio.lowlevel.checkpoint()
        while (token := self.ready(model_id)) is None:
            request = self._being_signed.get(model_id)
            if request is None:
                request = self._wanted.setdefault(model_id, _Request())
                async with self._turns:
                    if self._wanted.get(model_id) is request:
                        await self._sign_next(model_id)
            await request.ended.wait()
            if request.token is not None:
                return request.token
        return token

    async def _sign_next(self, model_id: str) -> None:
        """Sign a model's token, and those that were asked for first."""
        others = (each for each in self._wanted if each != model_id)
        batch = {each: self._wanted[each] for each in (model_id, *islice(others, _TOKENS_A_TURN - 1))}
        for each in batch:
            del self._wanted[each]
        self._being_signed.update(batch)
        try:
            tokens = await self._sign_apart(list(batch), int(self._clock()))
            for each, request in batch.items():
                request.token = tokens[each][1]
        finally:
            for each, request in batch.items():
                del self._being_signed[each]
                request.ended.set()
        if len(self._tokens) + len(tokens) > _REMEMBERED_TOKENS:
            self._tokens.clear()
        self._tokens.update(tokens)

    async def _sign_apart(self, model_ids: list[str], now: int) -> dict[str, tuple[int, TokenMetadata]]:
        if clock_jumps():
            await trio.lowlevel.checkpoint()
            return self._sign_all(model_ids, now)
        return await trio.to_thread.run_sync(self._sign_all, model_ids, now, limiter=self._threads)

    def _sign_all(self, model_ids: list[str], now: int) -> dict[str, tuple[int, TokenMetadata]]:
        return {model_id: (now, self._new_token(model_id, now)) for model_id in model_ids}

    def _new_token(self, model_id: str, now: int) -> TokenMetadata:
        message = json.dumps({"model_id": model_id, "timestamp": now}, separators=(",", ":")).encode()
        return (
            (b"x-gateway-auth-message", base64.b64encode(message)),
            (b"x-gateway-auth-signature", base64.b64encode(self._sign(message))),
            (b"x-gateway-auth-pubkey", self._public_key),
        )
