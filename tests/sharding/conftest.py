"""A Dask cluster, for all tests here that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.dask_cluster import DaskCluster
from helpers.dask_cluster import dask_cluster as open_dask_cluster


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with open_dask_cluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster
