"""The chapter "Testing your coordinator" is true: a block, copied into an empty project, is a green test.

So are the README's example, and the one at the door. They are run as a user would: by pytest, in a directory
with nothing else in it but the README's `history.py`.
"""

from __future__ import annotations

import re

import pytest
from helpers.documents import Block, block, blocks

pytest_plugins = ["pytester"]

CHAPTER = [
    each
    for each in blocks().values()
    if each.document == "testing/README.md"
    and each.language == "python"
    and "#a-crunch-to-run-against" not in each.name  # see `real_nodes/test_crunch_to_run_against.py`
]
OTHERS = ["README.md#testing", "testing/__init__.py"]
HISTORY = "README.md#models-that-join-late"


def file_name(of: Block) -> str:
    return "test_" + re.sub(r"\W+", "_", of.name)


def test_every_block_passes_in_an_empty_project(pytester: pytest.Pytester) -> None:
    examples = [*CHAPTER, *(blocks()[name] for name in OTHERS)]
    files = {file_name(each): each.code for each in examples}
    assert all(re.search(r"^async def test_\w+\(", code, re.MULTILINE) for code in files.values())
    pytester.makepyfile(**files, history=block(HISTORY))
    done = pytester.runpytest_subprocess("-W", "error", "-rA")
    outcomes = done.parseoutcomes()
    assert set(outcomes) == {"passed"}, done.stdout.str()
    passed = {line.partition(".py")[0].split()[-1] for line in done.outlines if line.startswith("PASSED")}
    assert passed == set(files)
