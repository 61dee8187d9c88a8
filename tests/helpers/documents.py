"""The documents and the blocks of code in them: the README, those in the package, and those of the tests.

A block has the name of its document and heading, such as `cluster/README.md#rounds`, with `/2` for the second
one below the same heading. The docstring at the door of a room is a document, too: its indented blocks are
`instruments/__init__.py`, `instruments/__init__.py/2` and so on. `house/test_documents.py` says of each how
it runs, and fails for one that does not.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

import trio_model_runner

__all__ = ["ROOT", "Block", "anchors", "block", "blocks", "chapter", "documents"]

ROOT = Path(__file__).parents[2]
PACKAGE = Path(trio_model_runner.__file__).parent

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*(?:\n|\Z)|\n(?= {4}))+")
_INSIDE_FENCES = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Block:
    """A block of code.

    Attributes:
        name: see the module.
        document: the name of the document that it is in.
        language: the one that its fence says; of a docstring's blocks, the one that it is.
        code: what is in it.
    """

    name: str
    document: str
    language: str
    code: str


@functools.cache
def documents() -> Mapping[str, str]:
    """All documents by name: their paths below the package, or below the repository."""
    found = {path: ROOT / path for path in ("README.md", "CHANGELOG.md")}
    found |= {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.md"))}
    found |= {path.relative_to(ROOT).as_posix(): path for path in sorted((ROOT / "tests").rglob("*.md"))}
    return {name: path.read_text() for name, path in found.items()}


@functools.cache
def blocks() -> Mapping[str, Block]:
    """All blocks by name."""
    found: dict[str, Block] = {}
    for document, text in documents().items():
        for place, language, code in _fenced(text):
            _add(found, document, f"{document}#{place}", language, code)
    for door in sorted(PACKAGE.rglob("__init__.py")):
        words = ast.get_docstring(ast.parse(door.read_text())) or ""
        name = door.relative_to(PACKAGE).as_posix()
        for code in _INDENTED.findall(words):
            _add(found, name, name, _language_of(code), inspect.cleandoc(code) + "\n")
    return found


def block(name: str) -> str:
    """The code of a block."""
    return blocks()[name].code


def chapter(document: str, heading: str) -> str:
    """The text below a heading of a document, up to the next one of its kind."""
    text = documents()[document]
    (mark,) = re.findall(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    below = text.partition(f"\n{mark} {heading}\n")[2]
    return re.split(rf"^#{{1,{len(mark)}}} ", below, maxsplit=1, flags=re.MULTILINE)[0]


def anchors(document: str) -> set[str]:
    """What links into a document may name, as GitHub makes it of its headings."""
    return {_anchor(heading) for heading in _HEADING.findall(_INSIDE_FENCES.sub("", documents()[document]))}


def _add(found: dict[str, Block], document: str, name: str, language: str, code: str) -> None:
    number = 1 + sum(re.sub(r"/\d+$", "", each) == name for each in found)
    name = name if number == 1 else f"{name}/{number}"
    found[name] = Block(name, document, language, code)


def _fenced(text: str) -> Iterator[tuple[str, str, str]]:
    """The anchors of the headings above blocks, with the blocks' languages and code."""
    place, end = "", 0
    for fence in _FENCE.finditer(text):
        for heading in _HEADING.findall(text[end : fence.start()]):
            place = _anchor(heading)
        end = fence.end()
        yield place, fence[1], fence[2]


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _language_of(code: str) -> str:
    for language, read in (("json", json.loads), ("python", _compile)):
        try:
            read(code)
        except (SyntaxError, ValueError):
            continue
        return language
    return "text"


def _compile(code: str) -> None:
    compile(inspect.cleandoc(code), "door", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
