"""The reference client, doing a job as the coordinators in the field have it do theirs: see `job`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from client_asyncio import Words, coordinate
from job import Job, given_job
from model_runner_client.grpc.generated.commons_pb2 import Argument, Variant, VariantType
from model_runner_client.model_concurrent_runners import (
    DynamicSubclassModelConcurrentRunner,
    ModelPredictResult,
)
from model_runner_client.security.credentials import SecureCredentials
from model_runner_client.security.gateway_credentials import GatewayCredentials
from model_runner_client.utils.datatype_transformer import encode_data

WORDS = Words(
    runner=DynamicSubclassModelConcurrentRunner,
    success=ModelPredictResult.Status.SUCCESS,
    argument=Argument,
    variant=Variant,
    variant_type=VariantType,
    encode_data=encode_data,
)


def credentials(job: Job) -> dict[str, Any]:
    """The coordinator's, which the fleet has written."""
    directory = Path(job.credentials)
    if job.fleet == "secure":
        return {"secure_credentials": SecureCredentials.from_directory(directory)}
    if job.fleet == "gateway":
        # It trusts the system's authorities alone; this is how gRPC is told of others.
        os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(directory / "gateway-ca.crt")
        return {"gateway_credentials": GatewayCredentials.from_pem((directory / "key.pem").read_bytes())}
    return {}


if __name__ == "__main__":
    given = given_job()
    asyncio.run(coordinate(given, WORDS, **credentials(given)))
