"""The list of troubles is true: each text that it quotes is one of the code's, so that it can't go stale.

A quote's `…` stands for anything. The words beside it must be in one text of the source, in that order, and
nothing may be put in between them, by an f-string or by ``%``. Quotes that are made of several texts, or are
Python's own, must be caused. `test_troubles_caused` does that, and it causes most of the others, too.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers.causing import CALLS, MISTAKES
from helpers.causing_entering import ENTERING
from helpers.causing_log_lines import LOG_LINES
from helpers.causing_results import RESULTS
from helpers.troubles import is_in, quotes, rows

import trio_model_runner

PACKAGE = Path(trio_model_runner.__file__).parent
CAUSED = {*MISTAKES, *CALLS, *(text for texts in {**ENTERING, **RESULTS, **LOG_LINES} for text in texts)}
FEWEST_LETTERS = 7
"""So many a quote has at least, besides what is put in."""


def texts_of(tree: ast.AST) -> Iterator[str]:
    """All texts in a file that are no docstrings, with a zero byte for what is put in."""
    parts = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(map(id, node.values))
            yield "".join(map(_part, node.values))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            parts.add(id(node.value))  # a docstring
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield re.sub(r"%[sdr]|%\.\df", "\0", node.value)


def _part(part: ast.expr) -> str:
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "\0"


@cache
def source() -> str:
    """All texts of the package, a line feed between them."""
    files = (path for path in sorted(PACKAGE.rglob("*.py")) if "proto" not in path.parts)
    texts = (text for path in files for text in texts_of(ast.parse(path.read_text())))
    return "\n".join(text.replace("\n", " ") for text in texts)


def test_every_quote_is_in_the_source_or_is_caused() -> None:
    assert len(quotes()) >= 150
    assert [text for text in quotes() if text not in CAUSED and not is_in(text, source())] == []
    assert [text for text in quotes() if len(text.replace("…", "")) < FEWEST_LETTERS] == []


def test_no_quote_is_there_twice_and_every_trouble_is_explained() -> None:
    assert [text for text, count in Counter(quotes()).items() if count > 1] == []
    assert [cells[0] for cells in rows() if not any(cells[1:])] == []


@pytest.mark.parametrize(
    ("code", "there"),
    [
        ("raise ValueError(f'{name}: must be an {kind} here')", True),
        ("raise ValueError('%s: must be ' 'an %d here')", True),
        ("raise ValueError(f'{name}: must be a {kind} here')", False),
        ("raise ValueError(f'must be an {kind}', f'{kind} here')", False),
        ("def f():\n    '''a: must be an x here'''", False),
    ],
)
def test_a_quote_is_found_where_it_is_one_text(code: str, there: bool) -> None:
    texts = "\n".join(texts_of(ast.parse(code)))
    assert is_in("…: must be an … here", texts) is there
