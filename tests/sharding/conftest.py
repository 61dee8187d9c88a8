"""A Dask cluster, for all tests here that need one."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest
from helpers.dask_cluster import DaskCluster
from helpers.dask_cluster import dask_cluster as open_dask_cluster


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with open_dask_cluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def dask_leaves_sockets(request: pytest.FixtureRequest) -> Iterator[None]:
    """Dask lets the garbage collector close connections that were lost, maybe in somebody else's test."""
    yield
    if "dask" in request.node.nodeid:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
