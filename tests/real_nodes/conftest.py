"""Node processes for the tests, and an orchestrator that speaks of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from .installation import InstallationError, installed_python
from .node_process import NodeLauncher, NodePool
from .waiting import Release


@pytest.fixture(scope="session")
def launcher() -> Iterator[NodeLauncher]:
    try:
        launcher = NodeLauncher(installed_python())
    except InstallationError as error:
        pytest.fail(f"the node software can't be installed: {error}", pytrace=False)
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def shared_pool(launcher: NodeLauncher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodePool]:
    """Nodes for all tests of a module."""
    pool = NodePool(launcher, tmp_path_factory.mktemp("nodes"))
    yield pool
    pool.close()


@pytest.fixture
def pool(launcher: NodeLauncher, tmp_path: Path) -> Iterator[NodePool]:
    """Nodes for one test."""
    pool = NodePool(launcher, tmp_path)
    yield pool
    pool.close()


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Release]:
    """Ends every `hold` of the test, at its end at the latest."""
    release = Release(tmp_path)
    yield release
    release.now()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the nodes had to say when a test fails."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for fixture in ("pool", "shared_pool"):
            pool = item.funcargs.get(fixture)
            for node in pool.nodes if isinstance(pool, NodePool) else ():
                report.sections.append((f"end of the output of {node.model_id}", node.output[-4000:]))
    return report
