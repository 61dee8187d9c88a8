"""What the tests of secure nodes begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.secure_crunch import AUTHORITY, Node
from helpers.secure_nodes import write_credentials

from trio_model_runner import SecureCredentials

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> SecureCredentials:
    directory = write_credentials(tmp_path_factory.mktemp("credentials"), AUTHORITY)
    return SecureCredentials.from_directory(directory)


@pytest.fixture
def node() -> Iterator[Node]:
    with Node() as node:
        yield node
