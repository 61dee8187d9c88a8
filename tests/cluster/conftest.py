"""What the tests of memberships begin with."""

from __future__ import annotations

import pytest
from helpers.book import Book, entry


@pytest.fixture
def book() -> Book:
    # One model, m, is ready there as its deployment d1 at x.
    book = Book()
    book.init(entry("m"))
    book.make_ready(book.started[0])
    return book
