"""Which shard a model is on: rendezvous hashing of the model's id.

Each shard has a score for each model, and the highest one gets it. If a shard is lost, its models go to the
others in equal parts, and no other model moves. The hash is the same in each process and each run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

__all__ = ["place"]


def place(model_id: str, shards: Iterable[int]) -> int:
    """The shard for a model.

    Args:
        model_id: the model.
        shards: the numbers of the shards that there are.

    Raises:
        ValueError: there is no shard.
    """
    encoded = model_id.encode("utf-8", "surrogatepass")
    return max(shards, key=lambda shard: (_score(encoded, shard), shard))


def _score(model_id: bytes, shard: int) -> bytes:
    return hashlib.blake2b(model_id, digest_size=8, salt=shard.to_bytes(16, "little")).digest()
