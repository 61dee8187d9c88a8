"""The package is a house of floors: a file imports from its own floor and from those below, never from above.

This is read from the source, so it counts what is imported for type checkers alone (``TYPE_CHECKING``), and
what a function imports when it is called. There is no circle of files, either; every room has words at its
door; and ``pyproject.toml`` requires what is imported from elsewhere. Failures name the files: who -> whom.
"""

from __future__ import annotations

import ast
import importlib.metadata
import itertools
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import trio_model_runner

FLOORS = (
    (
        "errors",
        "text",
        "signal",
        "backoff",
        "groups",
        "abandoned",
        "workers",
        "trio_needed",
        "given",
        "interpreters",
        "forks",
        "version",
        "proto",
    ),
    ("values", "returns"),
    ("config", "network", "security", "frame_readers"),
    ("rpc", "channel"),
    ("services",),
    ("model", "orchestrator"),
    ("cluster",),
    ("instruments", "sharding"),
    ("testing", "cli", "compat", "__main__"),
)
"""Modules and packages, from the ground up; those of one floor may import each other, but one way only."""

EXTRAS = {
    "values": ("arrow",),
    "frame_readers": ("arrow",),
    "security": ("secure",),
    "instruments": ("otel", "prometheus"),
    "testing": ("testing", "secure"),
    "cli": ("cli", "arrow"),
    "compat": ("compat", "secure"),
    "sharding": ("dask",),
}
"""The rooms that import what only extras bring, and their names."""

BROUGHT_BY_USERS = {"pandas", "numpy"}  # frames are made of pandas for those who have it, and it needs numpy

GENERATED = "proto"  # it has no docstrings

PACKAGE = Path(trio_model_runner.__file__).parent
ROOT = Path(__file__).parents[2]


def test_every_room_has_its_floor() -> None:
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    rooms |= {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert sorted(rooms) == sorted(room for floor in FLOORS for room in floor)


def test_nothing_imports_upward() -> None:
    expect_none(upward(imports_of(PACKAGE)))


def test_rooms_on_one_floor_import_each_other_one_way() -> None:
    between: dict[str, set[str]] = {}
    for file, targets in imports_of(PACKAGE).items():
        between.setdefault(room_of(file), set()).update(map(room_of, targets))
    for room, targets in between.items():
        targets.discard(room)
    expect_none(circles(between))


def test_there_is_no_circle_of_files() -> None:
    expect_none(circles(imports_of(PACKAGE)))


def test_every_room_has_words_at_its_door() -> None:
    expect_none(rooms_without_words(PACKAGE))


def test_what_is_imported_is_required() -> None:
    of_all, of_extras = requirements()
    missing = [
        f"{file} imports {name}, which is {distribution}"
        for file in files_of(PACKAGE)
        for name, distribution in sorted(third_parties(PACKAGE / file))
        if name not in BROUGHT_BY_USERS
        and distribution not in of_all.union(*(of_extras[extra] for extra in EXTRAS.get(room_of(file), ())))
    ]
    expect_none(missing)


def test_what_is_required_is_imported() -> None:
    of_all, of_extras = requirements()
    required = of_all.union(*(of_extras[extra] for extras in EXTRAS.values() for extra in extras))
    imported = {
        distribution for file in files_of(PACKAGE) for _, distribution in third_parties(PACKAGE / file)
    }
    assert required - imported == set()


def files_of(package: Path) -> list[str]:
    """Its source files, relative to it; the package's own ``__init__.py`` is the roof, and none of them."""
    files = sorted(path.relative_to(package).as_posix() for path in package.rglob("*.py"))
    return [file for file in files if file != "__init__.py"]


def room_of(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def imports_of(package: Path) -> dict[str, set[str]]:
    """For each file, the files of the package that it imports."""
    return {file: set(targets_of(package, file)) - {file} for file in files_of(package)}


def targets_of(package: Path, file: str) -> Iterator[str]:
    """What one file imports of the package, wherever in it an import stands."""
    directory = (package / file).parent
    for node in ast.walk(ast.parse((package / file).read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == package.name:
                    yield file_of(package, package.parent.joinpath(*alias.name.split(".")))
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                base = [directory, *directory.parents][node.level - 1].joinpath(*parts)
            elif parts[0] == package.name:
                base = package.parent.joinpath(*parts)
            else:
                continue
            for alias in node.names:
                yield file_of(package, base / alias.name, base)


def file_of(package: Path, *modules: Path) -> str:
    """The file of the first of these that is a module or a package."""
    for module in modules:
        for path in (module.with_suffix(".py"), module / "__init__.py"):
            if path.exists():
                return path.relative_to(package).as_posix()
    raise AssertionError(f"no such module: {modules[-1]}")


def upward(imports: dict[str, set[str]]) -> Iterator[str]:
    """The imports that lead to a higher floor; the package's own ``__init__.py`` is above all."""
    floors = {room: number for number, floor in enumerate(FLOORS, 1) for room in floor}
    for file, targets in imports.items():
        for target in sorted(targets):
            here, there = floors.get(room_of(file), 0), floors.get(room_of(target), len(FLOORS) + 1)
            if there > here:
                yield f"{file} -> {target} (floor {here} -> {there})"


def circles(imports: dict[str, set[str]]) -> Iterator[str]:
    """Circles, until there were none if one import of each went away."""
    left = {file: set(targets) for file, targets in imports.items()}
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            circle = error.args[1][::-1]  # it has whoever is imported first
            left[circle[0]].remove(circle[1])
            yield " -> ".join(circle)
        else:
            return


def rooms_without_words(package: Path) -> Iterator[str]:
    """The doors of rooms of several files that say no more than a line of what is inside."""
    for door in sorted(package.rglob("*/__init__.py")):
        room = door.parent
        if room_of(room.relative_to(package).as_posix()) != GENERATED and len([*room.rglob("*.py")]) > 1:
            words = ast.get_docstring(ast.parse(door.read_text())) or ""
            if "\n" not in words and not (room / "README.md").exists():
                yield door.relative_to(package).as_posix()


def third_parties(path: Path) -> set[tuple[str, str]]:
    """The top-level names that a file imports from elsewhere, with the distributions that have them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    names = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {PACKAGE.name}
    return {(name, normalized(DISTRIBUTIONS.get(name, [name])[0])) for name in names}


DISTRIBUTIONS = importlib.metadata.packages_distributions() | {"opentelemetry": ["opentelemetry-api"]}
"""Which distributions have a name; that one is shared by a dozen."""


def requirements() -> tuple[set[str], dict[str, set[str]]]:
    """The distributions that all need, and those of each extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {extra: names_of(texts) for extra, texts in project["optional-dependencies"].items()}
    return names_of(project["dependencies"]), extras


def names_of(requirements: Iterable[str]) -> set[str]:
    names = {normalized(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in requirements}
    return names - {"trio-model-runner"}  # an extra that takes in another


def normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def expect_none(mistakes: Iterable[str]) -> None:
    if found := "\n".join(mistakes):
        pytest.fail(found, pytrace=False)  # pytest would cut a comparison short


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small house with every mistake that the tests above look for."""
    package = tmp_path / "house"
    sources = {
        "__init__.py": "from .cluster.all import Cluster",
        "errors.py": "if TYPE_CHECKING:\n    from .cluster import all",
        "text.py": "def shown():\n    import house.values",
        "values/__init__.py": '"""One line."""\nfrom .data import A',
        "values/data.py": "from ..errors import E\nfrom .results import R",
        "values/results.py": "import house.values.data",
        "cluster/__init__.py": '"""Two lines.\n\nHere."""',
        "cluster/all.py": "from .. import values\nfrom house import Cluster",
        "cluster/one.py": "import trio, os.path\ndef f():\n    from trio_websocket import X",
    }
    for name, source in sources.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(source)
    return package


def test_imports_are_found_wherever_they_stand(house: Path) -> None:
    assert imports_of(house) == {
        "errors.py": {"cluster/all.py"},
        "text.py": {"values/__init__.py"},
        "values/__init__.py": {"values/data.py"},
        "values/data.py": {"errors.py", "values/results.py"},
        "values/results.py": {"values/data.py"},
        "cluster/__init__.py": set(),
        "cluster/all.py": {"values/__init__.py", "__init__.py"},
        "cluster/one.py": set(),
    }
    assert third_parties(house / "cluster/one.py") == {("trio", "trio"), ("trio_websocket", "trio-websocket")}


def test_mistakes_are_named(house: Path) -> None:
    imports = imports_of(house)
    assert set(upward(imports)) == {
        "errors.py -> cluster/all.py (floor 1 -> 7)",
        "text.py -> values/__init__.py (floor 1 -> 2)",
        "cluster/all.py -> __init__.py (floor 7 -> 10)",
    }
    found = [circle.split(" -> ") for circle in circles(imports)]
    assert {frozenset(circle) for circle in found} == {
        frozenset({"values/data.py", "values/results.py"}),
        frozenset({"values/data.py", "errors.py", "cluster/all.py", "values/__init__.py"}),
    }
    assert all(target in imports[file] for circle in found for file, target in itertools.pairwise(circle))
    assert [*rooms_without_words(house)] == ["values/__init__.py"]
