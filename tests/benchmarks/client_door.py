"""Our door from asyncio, doing the reference client's job with its imports changed: see `job`."""

from __future__ import annotations

import asyncio

from client_asyncio import Words, coordinate
from job import given_job

from trio_model_runner.compat import (
    Argument,
    DynamicSubclassModelConcurrentRunner,
    ModelPredictResult,
    Variant,
    VariantType,
    encode_data,
)

WORDS = Words(
    runner=DynamicSubclassModelConcurrentRunner,
    success=ModelPredictResult.Status.SUCCESS,
    argument=Argument,
    variant=Variant,
    variant_type=VariantType,
    encode_data=encode_data,
)

if __name__ == "__main__":
    asyncio.run(coordinate(given_job(), WORDS))
