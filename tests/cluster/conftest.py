"""What the tests of memberships begin with; and tests on whole clusters run over shards, too."""

from __future__ import annotations

import pytest
from helpers.book import Book, entry
from helpers.over_shards import kind_of_cluster, pytest_generate_tests

__all__ = ["book", "kind_of_cluster", "pytest_generate_tests"]


@pytest.fixture
def book() -> Book:
    # One model, m, is ready there as its deployment d1 at x.
    book = Book()
    book.init(entry("m"))
    book.make_ready(book.started[0])
    return book
