"""What errors and log lines have in common, read from the source: each says something, and what can be done.

`tests/config/test_wrong_settings.py` and `tests/cluster/test_wrong_arguments.py` show what users are told.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from helpers.documents import documents

import trio_model_runner

PACKAGE = Path(trio_model_runner.__file__).parent

SILENT = {
    "AssertionError",
    "KeyboardInterrupt",
    "NodeBusyError",
    "NotImplementedError",
    "StopAsyncIteration",
    "TooDeepError",
}
"""These are for Python, or for code that can't be reached; or are caught before anybody could read them."""

SILENT_FILES = {"returns/strict.py"}
"""It raises one for itself to catch."""

OTHERS = ("testing/", "cli/")
"""The first imitates the texts of nodes, and the second those of click."""

PLACES = re.compile(r"(--)?[a-z_.{}]+: |\{\w+\}|(cannot read|no table|unknown in) ")
"""How the text of a ConfigError begins: with a field, an argument, an option, a file, or what is missing."""


def raised(tree: ast.AST) -> Iterator[tuple[str, ast.Call | ast.Name]]:
    """The exceptions that are made where they are raised, by their names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = made.attr if isinstance(made, ast.Attribute) else getattr(made, "id", "")
            if name[:1].isupper() and isinstance(node.exc, ast.Call | ast.Name):
                yield name, node.exc


def text_of(argument: ast.expr) -> str | None:
    """The text of a literal, with ``{}`` for what is put in; None if it is none."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value
    if isinstance(argument, ast.JoinedStr):
        return "".join(map(_part, argument.values))
    return None


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.FormattedValue):
        return f"{{{part.value.id if isinstance(part.value, ast.Name) else ''}}}"
    return text_of(part) or ""


def files() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "proto" not in path.parts:
            yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def silent(found: Iterable[tuple[str, ast.AST]]) -> list[str]:
    """Exceptions that are raised without a word."""
    return [
        f"{file}:{made.lineno} {name}"
        for file, tree in found
        if file not in SILENT_FILES
        for name, made in raised(tree)
        if name not in SILENT and (isinstance(made, ast.Name) or not made.args)
    ]


def without_place(found: Iterable[tuple[str, ast.AST]]) -> list[str]:
    """ConfigErrors that don't begin with what they are about."""
    return [
        f"{file}:{made.lineno} {text}"
        for file, tree in found
        for name, made in raised(tree)
        if name == "ConfigError" and isinstance(made, ast.Call)
        for argument in made.args
        if (text := text_of(argument)) is not None and not PLACES.match(text)
    ]


def sentences(found: Iterable[tuple[str, ast.AST]]) -> list[str]:
    """Texts of errors that end as sentences do: they stand in the middle of other texts, too."""
    return [
        f"{file}:{made.lineno} {text}"
        for file, tree in found
        if not file.startswith(OTHERS)
        for _, made in raised(tree)
        if isinstance(made, ast.Call)
        for argument in made.args
        if (text := text_of(argument)) and text.endswith((".", "!")) and not text.endswith("...")
    ]


def promises(found: Iterable[tuple[str, ast.AST]]) -> list[str]:
    """Texts that have users install this package from an index, where it is not."""
    return [
        f"{file}:{node.lineno} {text}"
        for file, tree in found
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant | ast.JoinedStr)
        if (text := text_of(node)) and re.search(r"install ['\"]?trio[-_]model[-_]runner", text)
    ]


def test_no_exception_is_raised_without_a_word() -> None:
    assert silent(files()) == []
    assert silent([("a.py", ast.parse("raise ValueError\nraise trio.ClosedResourceError()"))]) == [
        "a.py:1 ValueError",
        "a.py:2 ClosedResourceError",
    ]


def test_every_config_error_begins_with_what_it_is_about() -> None:
    assert without_place(files()) == []
    code = "raise ConfigError('wrong value')\nraise ConfigError(f'{source}: is wrong')"
    assert without_place([("a.py", ast.parse(code))]) == ["a.py:1 wrong value"]


def test_no_error_ends_as_a_sentence() -> None:
    assert sentences(files()) == []
    assert sentences([("a.py", ast.parse("raise ValueError(f'no {kind}.')"))]) == ["a.py:1 no {kind}."]


def test_nobody_is_told_to_install_what_no_index_has() -> None:
    assert promises(files()) == []
    for text in documents().values():
        assert not re.search(r"pip install ['\"]?trio[-_]model[-_]runner", text)
    code = "print(\"pip install 'trio-model-runner[cli]'\")"
    assert promises([("a.py", ast.parse(code))]) == ["a.py:1 pip install 'trio-model-runner[cli]'"]
