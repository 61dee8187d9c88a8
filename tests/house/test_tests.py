"""Each test file says at its head what it shows, and imports no other: `helpers` has what they share."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
FILES = {
    str(path.relative_to(TESTS)): ast.parse(path.read_text()) for path in sorted(TESTS.rglob("test_*.py"))
}


def test_every_test_file_says_what_it_shows() -> None:
    assert len(FILES) > 50
    assert "\n".join(name for name, tree in FILES.items() if not ast.get_docstring(tree)) == ""


def test_no_test_file_imports_another() -> None:
    assert [name for name, tree in FILES.items() if any(map(is_of_tests, imported(tree)))] == []


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            if node.level:  # what is imported from a package of tests may be a module
                yield from (alias.name for alias in node.names)


def is_of_tests(module: str) -> bool:
    return module.rpartition(".")[2].startswith("test_")
