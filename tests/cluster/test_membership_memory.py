"""What a membership remembers of deployments that were replaced, and how much of it."""

from __future__ import annotations

import pytest
from helpers.book import RECOVERING, STOPPED, Book, entry

from trio_model_runner.cluster import membership


def test_who_stopped_while_another_came_up_was_replaced(book: Book) -> None:
    book.update(entry("m", "d2", at="y"), entry("m", state=STOPPED))
    book.update(entry("m", model_name="new"))
    book.update(entry("m", state=RECOVERING))
    book.init(entry("m"), entry("m", "d2", at="y"))
    assert [each.deployment_id for each in book.deployments] == ["d2"]
    assert len(book.started) == 2


def test_who_stops_at_one_of_two_places_was_not_replaced(book: Book) -> None:
    book.update(entry("m", at="y"))
    book.update(entry("m", state=STOPPED))
    book.update(entry("m"))
    assert [each.deployment_id for each in book.deployments] == ["d1"]


def test_a_deployment_moves_until_it_is_ready_there_or_stays(book: Book) -> None:
    here = book.started[0]
    assert not book.is_moving("m", here)
    book.update(entry("m", at="y"))
    there = book.started[1]
    assert book.is_moving("m", here)
    assert not book.is_moving("m", there)
    book.update(entry("m"))
    assert not book.is_moving("m", here)
    book.update(entry("m", at="y"))
    book.make_ready(book.started[2])
    assert not any(book.is_moving("m", each) for each in book.started)
    book.update(entry("m", "d2", at="z"))
    assert not any(book.is_moving("m", each) for each in book.started)
    assert not book.is_moving("n", here)


def test_an_endless_row_of_redeployments_takes_no_more_memory(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "_MAX_REPLACED", 10)
    for number in range(2, 100):
        book.update(entry("m", f"d{number}", at="y"))
        book.make_ready(book.started[-1])
        assert len(book.deployments) == 1
        # Private: the bound is on what is remembered, which nothing else shows.
        assert len(book._replaced) == min(number - 1, 10)
    book.update(entry("m", "d90"))
    assert len(book.deployments) == 1
