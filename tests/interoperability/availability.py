"""What becomes of tests for which this machine lacks a server or a proxy."""

from __future__ import annotations

import os

import pytest

from .building import Missing, require

__all__ = ["available"]


def available(kind: str) -> None:
    """Skip a test if this machine lacks that kind of server or proxy, and say what is missing.

    Where REQUIRE_FOREIGN_SERVERS is set, as `.ci/run` does, the test fails.
    """
    try:
        require(kind)
    except Missing as error:
        missing = f"{kind}: {error}"
    else:
        return
    if os.environ.get("REQUIRE_FOREIGN_SERVERS"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)
