"""The pytest plugin: the fixture `local_crunch`, and tests that use it run in Trio on a clock that jumps.

pytest loads this module in every project on whose machine the library is installed, so it imports nothing
but pytest (and of Python) until a test uses the fixture. It leaves all other tests alone.

pytest-trio runs the tests. Without its ``trio_mode`` it runs only those that are marked, and it takes the
clock from the test's own arguments. An async test that uses `local_crunch` is meant for Trio. So it is marked
here, unless it has a mark of another runner, and the mark's ``run`` has the clock. pytest-trio raises what a
test raises in a group; where it is one exception, ``run`` raises that, since pytest explains it much better.
This module must not know how pytest-trio does the rest.
"""

from __future__ import annotations

import inspect
import unittest
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Literal

    from ..network import MemoryNetwork
    from .memory_crunch import MemoryCrunch
    from .node_services import Service

__all__ = ["CrunchFactory", "local_crunch"]

FIXTURE = "local_crunch"
OTHER_RUNNERS = ("anyio", "asyncio")


class CrunchFactory(Protocol):
    """What the fixture `local_crunch` is."""

    def __call__(
        self,
        models: Mapping[str, Any] | None = None,
        *,
        network: MemoryNetwork | None = None,
        crunch_id: str = "local",
        services: Collection[Service] = ...,
        security: Literal["secure", "gateway"] | None = None,
        settle: bool = True,
    ) -> MemoryCrunch:
        """Make a `LocalCrunch` in memory, for ``async with``; by default on a network of its own."""


@pytest.fixture(scope="session")
def local_crunch() -> CrunchFactory:
    """A function that makes a crunch in memory.

    ::

        async def test_it(local_crunch):
            async with local_crunch({"m0": Model()}) as crunch, Cluster(crunch.config(), service) as cluster:
                ...

    The test runs in Trio (by pytest-trio), on a clock that jumps: an hour takes no time. A test that uses
    another clock, such as `mock_clock`, keeps it. The arguments are those of
    `trio_model_runner.testing.LocalCrunch`; without `network`, each crunch has a `MemoryNetwork` of its own.
    """
    from .memory_crunch import MemoryCrunch

    def make(
        models: Mapping[str, Any] | None = None,
        *,
        network: MemoryNetwork | None = None,
        settle: bool = True,
        **settings: Any,
    ) -> MemoryCrunch:
        return MemoryCrunch(models, network=network, settle=settle, **settings)

    return make


@pytest.hookimpl(trylast=True)  # so that pytest-trio has marked its tests
def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Mark the async tests that use `local_crunch` for pytest-trio."""
    if not config.pluginmanager.hasplugin("trio"):
        return
    for item in items:
        if FIXTURE in getattr(item, "fixturenames", ()) and is_for_trio(item):
            mark_for_trio(item)


def is_for_trio(item: pytest.Item) -> bool:
    """Whether it is an async test that no other runner was asked to run. unittest's cases run their own."""
    case = getattr(item, "cls", None)
    if case is not None and issubclass(case, unittest.TestCase):
        return False
    function = getattr(item, "obj", None)
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    return inspect.iscoroutinefunction(function) and not any(map(item.get_closest_marker, OTHER_RUNNERS))


def mark_for_trio(item: pytest.Item) -> None:
    """Have pytest-trio run a test, on a clock that jumps unless the test has one."""
    from pytest_trio.plugin import choose_run

    chosen = [mark.kwargs["run"] for mark in item.iter_markers("trio") if "run" in mark.kwargs]
    run = chosen[0] if chosen else choose_run(item.config)
    item.add_marker(pytest.mark.trio(run=jumping(run)), append=False)


def jumping(run: Callable[..., Any]) -> Callable[..., Any]:
    """The same as `run`, on a clock that jumps where none is given, and without groups of one exception."""

    def run_jumping(*arguments: Any, clock: Any = None, **settings: Any) -> Any:
        __tracebackhide__ = True
        from trio.testing import MockClock

        clock = MockClock(autojump_threshold=0) if clock is None else clock
        try:
            return run(*arguments, clock=clock, **settings)
        except BaseExceptionGroup as group:
            error = only_one(group)
        raise error  # not above, where it would be shown as raised because of the group

    return run_jumping


def only_one(error: BaseException) -> BaseException:
    """The exception in a group of one, or in groups of groups of one; else the group."""
    inner = error
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return error if isinstance(inner, BaseExceptionGroup) else inner


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say what is missing, where it would be a riddle."""
    if (
        FIXTURE in getattr(item, "fixturenames", ())
        and not item.config.pluginmanager.hasplugin("trio")
        and is_for_trio(item)
    ):
        pytest.fail(
            "an async test that uses local_crunch needs pytest-trio: pip install pytest-trio",
            pytrace=False,
        )
