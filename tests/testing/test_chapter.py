"""The chapter "Testing your coordinator" is true: a block, copied into an empty project, is a green test.

So is the README's example. They are run as a user would: by pytest, in a directory with nothing else in it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import trio_model_runner.testing

pytest_plugins = ["pytester"]

CHAPTER = Path(trio_model_runner.testing.__file__).parent / "README.md"
README = Path(__file__).parents[2] / "README.md"
FIXTURE = "local_crunch"


def blocks(path: Path) -> dict[str, str]:
    """The Python blocks, by names made of the headings above them."""
    found = {}
    for part in re.split(r"^##+ ", path.read_text(), flags=re.MULTILINE)[1:]:
        heading = re.sub(r"\W+", "_", part.partition("\n")[0].lower())
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", part, re.DOTALL)):
            found[f"{path.parent.name}_{heading}_{number}"] = code
    return found


def test_every_block_passes_in_an_empty_project(pytester: pytest.Pytester) -> None:
    examples = {name: code for name, code in blocks(README).items() if FIXTURE in code}
    files = {f"test_{name}": code for name, code in (blocks(CHAPTER) | examples).items()}
    assert len(examples) >= 1
    assert all(re.search(r"^async def test_\w+\(", code, re.MULTILINE) for code in files.values())
    pytester.makepyfile(**files)
    done = pytester.runpytest_subprocess("-W", "error", "-rA")
    outcomes = done.parseoutcomes()
    assert set(outcomes) == {"passed"}, done.stdout.str()
    passed = {line.partition(".py")[0].split()[-1] for line in done.outlines if line.startswith("PASSED")}
    assert passed == set(files)
