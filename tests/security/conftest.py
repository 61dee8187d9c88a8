"""What the tests of secure nodes begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from helpers.secure_crunch import AUTHORITY, Node
from helpers.secure_nodes import write_credentials

from trio_model_runner import SecureCredentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> SecureCredentials:
    directory = write_credentials(tmp_path_factory.mktemp("credentials"), AUTHORITY)
    return SecureCredentials.from_directory(directory)


@pytest.fixture
def node() -> Iterator[Node]:
    with Node() as node:
        yield node


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def directory(tmp_path: Path, authority: trustme.CA) -> Path:
    """The files of `SecureCredentials`, which nobody else may read."""
    directory = write_credentials(tmp_path / "credentials", authority)
    directory.chmod(0o700)  # whatever the umask
    return directory
