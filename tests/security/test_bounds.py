"""What an orchestrator or a node can make this process keep, or connect to, has its bounds."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from helpers.book import Book, FakeDeployment, deployments_of
from helpers.coordinating import Model, coordinating, until
from helpers.secure_crunch import Node
from helpers.secure_crunch import coordinating as coordinating_nodes

from trio_model_runner import Status
from trio_model_runner.cluster.membership import Membership
from trio_model_runner.config import Limits, OrchestratorConfig
from trio_model_runner.orchestrator import Entry, Init, RunState, Update


def entries(*model_ids: str, state: RunState = RunState.RUNNING) -> tuple[Entry, ...]:
    return tuple(Entry(model_id, f"of {model_id}", state, "host", 1) for model_id in model_ids)


def membership() -> Membership[FakeDeployment]:
    return Membership(FakeDeployment, max_models=2)


def test_there_are_no_more_models_than_allowed() -> None:
    book = membership()
    book.apply(Init(entries("a", "b", "c", "d")))
    assert set(book.current) == {"a", "b"}
    assert book.left_out == 2
    book.apply(Update(entries("e", state=RunState.RECOVERING)))
    assert set(book.current) == {"a", "b"}
    assert book.left_out == 1


def test_models_that_are_there_are_told_what_is_said_of_them_however_many_there_are() -> None:
    book = membership()
    book.apply(Init(entries("a", "b")))
    book.apply(Update(entries("b", "c")))
    assert book.current["b"].told == ["revive"]
    assert book.left_out == 1
    book.apply(Update((Entry("a", "another", RunState.RUNNING, "host", 2),)))
    assert len(deployments_of(book)) == 3
    assert book.left_out == 0


def test_there_is_room_again_when_models_leave() -> None:
    book = membership()
    book.apply(Init(entries("a", "b", "c")))
    book.apply(Update((*entries("a", state=RunState.STOPPED), *entries("c"))))
    assert set(book.current) == {"b", "c"}
    assert book.left_out == 0


def test_an_init_of_as_many_other_models_leaves_none_out() -> None:
    book = membership()
    book.apply(Init(entries("a", "b")))
    book.apply(Init(entries("c", "d", "e")))
    assert set(book.current) == {"c", "d"}
    assert book.left_out == 1


def test_a_book_without_a_limit_takes_all() -> None:
    book = Book()
    book.apply(Init(entries(*map(str, range(50)))))
    assert len(book) == 50


async def test_a_cluster_says_once_that_models_are_left_out(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    models = dict.fromkeys("ab", Model)
    async with coordinating(models, orchestrator=OrchestratorConfig(max_models=2)) as (crunch, cluster):
        for model_id in "cd":
            await crunch.add(model_id, Model)
        await crunch.remove("a")
        await until(cluster, lambda: set(cluster.announced) == {"b"})
        assert len([each for each in caplog.records if "left out" in each.getMessage()]) == 1
        crunch.announce("c")
        await until(cluster, lambda: set(cluster.models) == {"b", "c"})
        assert len(await cluster.call("predict")) == 2
    messages = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert messages == ["orchestrator.max_models is 2: models beyond that are left out: 1"]


async def test_addresses_outside_the_allowed_networks_are_not_connected_to_and_nobody_is_blamed() -> None:
    with Node(authority=None) as node:
        async with coordinating_nodes(node, allowed_networks=["10.0.0.0/8"]) as scene:
            assert scene.state(node) == "failed"
            assert "127.0.0.1 is in no allowed network" in str(scene.error(node))
            result = (await scene.cluster.call("predict")).by_id["7"]
            assert result.status is Status.ABSENT
            assert scene.connections(node) == 0
            assert scene.cluster.snapshot().reports_pending == 0
        assert scene.crunch.reports == []
        async with coordinating_nodes(node, allowed_networks=["10.0.0.0/8", "127.0.0.1"]) as scene:
            assert set(scene.cluster.models) == {"7"}


async def test_more_headers_than_allowed_cost_the_setup_and_the_model_is_given_up() -> None:
    with Node(authority=None) as node:
        many = tuple((f"x-header-{number}", "x" * 100) for number in range(12))
        node.proof = lambda method: many
        limits = Limits(max_header_bytes=1024)
        async with coordinating_nodes(node, limits=limits) as scene:
            report = await scene.first_report()
            assert scene.state(node) == "failed"
            assert "the answer's headers are over the limit" in report["failure_reason"]
        enough = Limits(max_header_bytes=4096)
        async with coordinating_nodes(node, limits=enough) as scene:
            assert set(scene.cluster.models) == {"7"}
