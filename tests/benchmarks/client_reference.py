"""The reference client, doing a job as the coordinators in the field have it do theirs: see `job`."""

from __future__ import annotations

import asyncio

from client_asyncio import Words, coordinate
from job import given_job
from model_runner_client.grpc.generated.commons_pb2 import Argument, Variant, VariantType
from model_runner_client.model_concurrent_runners import (
    DynamicSubclassModelConcurrentRunner,
    ModelPredictResult,
)
from model_runner_client.utils.datatype_transformer import encode_data

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
