"""Ctrl-C while a model is called, watched or brought up comes out at a checkpoint, and leaves all in order.

An interrupt between two lines of `model` could leave a place in a queue taken for ever, or end the task that
runs a model without a word. So every way into the room is protected, and here each is named.
"""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from helpers.checkpoints import interrupt_every_line
from helpers.coordinating import Model, coordinating
from helpers.insides import actor_of
from trio.testing import MockClock

import trio_model_runner
from trio_model_runner import Arguments, Cluster, ModelRunner, Status
from trio_model_runner.config import Health
from trio_model_runner.model.actor import ModelActor
from trio_model_runner.model.watch import Watch

ROOM = Path(trio_model_runner.__file__).parent / "model"

ENTRIES = {
    "ModelActor._close",
    "ModelActor.live",
    "ModelRunner.call",
    "ModelRunner.predict",
    "ModelRunner.reset",
    "NodeConnection.watch_proof",
    "NodeResources.run",
    "Watch._run",
}
"""What others await or start: the calls of coordinators, and the tasks that are started in a nursery."""


def protected_functions(tree: ast.Module) -> set[str]:
    """The methods of a module that are protected, with their classes."""
    return {
        f"{owner.name}.{function.name}"
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for function in owner.body
        if isinstance(function, ast.AsyncFunctionDef)
        and any(ast.unparse(each).endswith("enable_ki_protection") for each in function.decorator_list)
    }


def test_every_way_into_the_room_is_protected_and_named_here() -> None:
    found = set().union(*(protected_functions(ast.parse(path.read_text())) for path in ROOM.rglob("*.py")))
    assert found == ENTRIES


def started_functions(tree: ast.Module) -> set[str]:
    """The methods that a module's classes start in a nursery, with their classes."""
    return {
        f"{owner.name}.{call.args[0].attr}"
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for call in ast.walk(owner)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("nursery.start_soon")
        if isinstance(call.args[0], ast.Attribute) and ast.unparse(call.args[0].value) == "self"
    }


def test_every_task_that_the_room_starts_is_protected() -> None:
    """A task inherits no protection from who starts it."""
    started = set().union(*(started_functions(ast.parse(path.read_text())) for path in ROOM.rglob("*.py")))
    assert started
    assert started <= ENTRIES


class Operator:
    """Runs no model, and notes whether it was called under protection."""

    def __init__(self) -> None:
        self.protected: list[bool] = []

    async def _note(self) -> None:
        self.protected.append(trio.lowlevel.currently_ki_protected())
        await trio.lowlevel.checkpoint()

    async def call(self, method: str | None, arguments: Arguments, **options: Any) -> Any:
        await self._note()

    async def reset(self, timeout: float | None) -> Any:
        await self._note()


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.call("tick"),
        lambda model: model.predict(1.0),
        lambda model: model.reset(),
    ],
    ids=["call", "predict", "reset"],
)
async def test_what_a_coordinator_awaits_is_protected(
    use: Callable[[ModelRunner], Awaitable[object]],
) -> None:
    operator = Operator()
    runner: Any = ModelRunner
    await use(runner(operator, model_id="m", deployment_id=None, longest_text=100))
    assert operator.protected == [True]
    assert not trio.lowlevel.currently_ki_protected()


@pytest.mark.parametrize(("owner", "method"), [(ModelActor, "_take_steps"), (Watch, "_ask")])
async def test_the_tasks_of_a_model_are_protected(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, owner: Any, method: str
) -> None:
    protected: list[bool] = []
    original = getattr(owner, method)

    async def noting(self: Any, *args: Any) -> Any:
        protected.append(trio.lowlevel.currently_ki_protected())
        return await original(self, *args)

    monkeypatch.setattr(owner, method, noting)
    async with coordinating({"a": Model()}) as (_, cluster):
        assert (await cluster.call("sleep", Arguments(1.5), timeout=1)).by_id["a"].status is Status.TIMEOUT
        await trio.sleep(5)
        assert (await cluster.models["a"].predict(1.0)).value == 1.0
    assert protected
    assert all(protected)


@asynccontextmanager
async def one_model() -> AsyncIterator[Cluster]:
    async with coordinating({"a": Model()}, health=Health(require_witness=False)) as (_, cluster):
        yield cluster


async def call(cluster: Cluster) -> None:
    assert (await cluster.models["a"].call("tick", Arguments(1))).status is Status.SUCCESS


async def still_usable(cluster: Cluster, interrupted: bool) -> None:
    model = cluster.announced["a"]
    await cluster.wait_for_models(1)
    # The interrupted call may still run there, as one that was cut off.
    assert (await model.predict(2.0, timeout=5.0)).value == 2.0
    # Private: a place in a queue that was forgotten shows in no other way.
    assert len(actor_of(model)._queue) == 0


def test_an_interrupt_before_any_line_leaves_a_model_usable() -> None:
    points = interrupt_every_line(one_model, call, still_usable, path="trio_model_runner/model", stride=5)
    assert points >= 10
