"""Texts that are shown: cut to a length, written as steps of a path, and with nothing in them that acts."""

from __future__ import annotations

import ssl

import pytest
import trio

from trio_model_runner.rpc.ending import Ending
from trio_model_runner.text import as_step, cut, quoted, readable, with_reason


@pytest.mark.parametrize(
    ("key", "step"),
    [
        ("name", ".name"),
        ("a key", "['a key']"),
        ("it's", '["it\'s"]'),
        ("", "['']"),
        ("\x1b[2J", "['\\x1b[2J']"),
        (3, "[3]"),
        ("x" * 40, "." + "x" * 40),
        ("x" * 41, "['" + "x" * 40 + "'...]"),
    ],
)
def test_a_step_of_a_path_is_a_name_a_key_or_a_position(key: str | int, step: str) -> None:
    assert as_step(key) == step


def test_dots_say_that_a_text_was_cut() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "abc..."


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert readable("a\x1b[2J\u202eb\n\tc") == "a\\x1b[2J\\u202eb\n\tc"
    assert quoted("a\x1b\n") == "'a\\x1b\\n'"


def test_a_long_text_ends_with_a_sign_that_there_was_more() -> None:
    assert readable("abcdef", 4) == "abc…"
    assert readable("abcd", 4) == "abcd"
    assert quoted("abcdef", 4) == "'abcd...'"


def test_a_container_is_named_by_its_kind() -> None:
    assert quoted({"a": 1}) == "an object"
    assert quoted([1]) == "a list"


def test_a_reason_is_the_nearest_text_and_without_any_there_is_no_colon() -> None:
    error, cause = trio.BrokenResourceError(), trio.BrokenResourceError()
    error.__cause__ = cause
    assert with_reason("it broke", error) == "it broke"
    assert str(Ending.by_error(error)) == "the connection broke"
    cause.__cause__ = ConnectionResetError(104, "Connection reset by peer")
    assert with_reason("it broke", error) == "it broke: [Errno 104] Connection reset by peer"
    assert with_reason("it broke", ValueError("so")) == "it broke: so"
    cause.__cause__ = ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred (_ssl.c:1006)")
    assert str(Ending.by_error(error)).startswith("the connection broke: ")
    assert "EOF occurred" in str(Ending.by_error(error))
    assert "SSL" not in str(Ending.by_error(error))
    assert "_ssl.c" not in str(Ending.by_error(error))
