"""Credentials of the asyncio client are taken for ours, and nodes in secure mode are called with them."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from helpers.from_asyncio import in_asyncio
from helpers.secure_crunch import AUTHORITY, SecureCrunch

from trio_model_runner import ConfigError
from trio_model_runner.compat import (
    DynamicSubclassModelConcurrentRunner,
    GatewayCredentials,
    ModelPredictResult,
    SecureCredentials,
)
from trio_model_runner.compat.credentials import to_credentials


@dataclasses.dataclass(frozen=True)
class TheirSecureCredentials:
    """As `model_runner_client.security.credentials` has them (0.14.0)."""

    ca_bytes: bytes
    cert_bytes: bytes
    key_bytes: bytes


@dataclasses.dataclass(frozen=True)
class TheirGatewayCredentials:
    """As `model_runner_client.security.gateway_credentials` has them (0.14.0)."""

    private_key: rsa.RSAPrivateKey


def theirs(authority: trustme.CA = AUTHORITY) -> TheirSecureCredentials:
    certificate = authority.issue_cert("coordinator.example.org", key_type=trustme.KeyType.RSA)
    return TheirSecureCredentials(
        authority.cert_pem.bytes(),
        certificate.cert_chain_pems[0].bytes(),
        certificate.private_key_pem.bytes(),
    )
