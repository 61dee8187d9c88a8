"""The fixture `local_crunch`: its tests run in Trio with any settings, and other projects notice nothing.

Each test runs pytest as a user would, in an empty directory, with the plugins that are installed.
"""

from __future__ import annotations

import importlib.metadata

import pytest

pytest_plugins = ["pytester"]

PROJECT = """
    import pytest, trio
    from trio_model_runner import Cluster, DynamicSubclassService

    SERVICE = DynamicSubclassService("any.Name")

    class Model:
        def predict(self):
            return 1.5
"""

TESTS = """
    async def test_time_jumps(local_crunch):
        async with local_crunch({"a": Model()}) as crunch, Cluster(crunch.config(), SERVICE) as cluster:
            await trio.sleep(60)
            assert (await cluster.call("predict")).by_id["a"].unwrap() == 1.5

    async def test_with_the_clock_by_name(local_crunch, autojump_clock, nursery):
        nursery.start_soon(trio.sleep, 60)
        async with local_crunch(), local_crunch():
            await trio.sleep(60)

    async def test_another_clock_stays(local_crunch, mock_clock):
        mock_clock.jump(5)
        async with local_crunch():
            assert trio.current_time() == 5

    @pytest.fixture
    async def cluster(local_crunch):
        async with local_crunch({"a": Model()}) as crunch, Cluster(crunch.config(), SERVICE) as cluster:
            yield cluster

    class TestsInAClass:
        async def test_through_another_fixture(self, cluster):
            await trio.sleep(60)
            assert len(cluster.models) == 1

    ran = []

    def run(*arguments, **settings):
        ran.append(settings["clock"])
        return trio.run(*arguments, **settings)

    @pytest.mark.trio(run=run)
    async def test_a_runner_of_ones_own(local_crunch):
        await trio.sleep(60)
        assert len(ran) == 1

    def test_without_async(local_crunch):
        async def main():
            async with local_crunch({"a": Model()}) as crunch:
                assert crunch.node("a")
        trio.run(main)
"""

FAILURES = """
    async def test_reported(local_crunch):
        async with local_crunch({"a": Model()}) as crunch, Cluster(crunch.config(), SERVICE) as cluster:
            crunch.assert_reported("a", "MULTIPLE_FAILED")

    async def test_plain(local_crunch):
        try:
            1 / 0
        except ZeroDivisionError:
            assert 1 == 2

    async def test_two(local_crunch):
        async def fail():
            raise ValueError
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(fail)

    @pytest.mark.asyncio
    async def test_of_another_runner(local_crunch):
        pass
"""


def test_it_is_installed() -> None:
    """Where this fails, install the work tree again: pip install -e '.[dev]'."""
    plugins = importlib.metadata.entry_points(group="pytest11", name="trio-model-runner")
    assert [plugin.value for plugin in plugins] == ["trio_model_runner.testing.pytest_plugin"]


def test_tests_run_in_trio_and_need_no_time(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PROJECT + TESTS)
    done = pytester.runpytest_subprocess("-W", "error", "-o", "trio_mode=true")
    done.assert_outcomes(passed=6)


def test_so_they_do_without_trio_mode_and_failures_are_shown_as_any(pytester: pytest.Pytester) -> None:
    """pytest-trio alone shows a group of exceptions, without the source."""
    pytester.makeini("[pytest]\nmarkers =\n    anyio\n    asyncio")
    pytester.makepyfile(PROJECT + TESTS + FAILURES)
    done = pytester.runpytest_subprocess("-W", "error", "-p", "no:anyio", "-p", "no:asyncio")
    done.assert_outcomes(passed=6, failed=4)
    done.stdout.fnmatch_lines(
        [
            '>           crunch.assert_reported("a", "MULTIPLE_FAILED")',
            "E           AssertionError: a was not reported as MULTIPLE_FAILED",
            "E           reported: nothing",
            "E           pending: nothing",
            "E           held: nothing",
            "E             a: ready",
            "test_*.py:*: AssertionError",
            "*ZeroDivisionError: division by zero",
            ">           assert 1 == 2",
            "E           assert 1 == 2",
            "*ExceptionGroup*(2 sub-exceptions)",
            "*async def functions are not natively supported*",
        ]
    )


def test_without_pytest_trio_the_failure_says_what_to_install(pytester: pytest.Pytester) -> None:
    project = PROJECT + TESTS.replace("@pytest.mark.trio(run=run)", "")
    pytester.makepyfile(project)
    done = pytester.runpytest_subprocess("-W", "error", "-p", "no:trio", "-k", "jumps or without_async")
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(
        ["an async test that uses local_crunch needs pytest-trio: pip install pytest-trio"]
    )


def test_unittests_own_loop_is_left_to_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, unittest, pytest

        class TestInAsyncio(unittest.IsolatedAsyncioTestCase):
            @pytest.fixture(autouse=True)
            def crunches(self, local_crunch):
                self.local_crunch = local_crunch

            async def test_it(self):
                await asyncio.sleep(0)
                assert callable(self.local_crunch)
        """
    )
    pytester.runpytest_subprocess("-W", "error").assert_outcomes(passed=1)


def test_a_project_without_it_notices_nothing(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            print("modules:", *sorted(name for name in sys.modules if "trio" in name or name == "h2"))
        """
    )
    pytester.makepyfile("def test_it(): pass")
    # Their plugins import Trio, and are others' affair.
    others = [f"-pno:{name}" for name in ("trio", "anyio", "hypothesispytest")]
    done = pytester.runpytest_subprocess("-W", "error", *others)
    done.assert_outcomes(passed=1)
    ours = "trio_model_runner trio_model_runner.testing trio_model_runner.testing.pytest_plugin"
    done.stdout.fnmatch_lines([f"modules: {ours}"])
