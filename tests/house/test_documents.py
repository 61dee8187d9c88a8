"""Every block of code in a document runs, every command in one exists, and every link leads somewhere.

`RUNS` says of each block of Python how it runs. A new block that is not in it fails here.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
import trio
from helpers.documents import ROOT, anchors, block, blocks, documents
from trio.testing import MockClock

import trio_model_runner
from trio_model_runner import Cluster, ClusterConfig, DynamicSubclassService
from trio_model_runner.cli.commands import commands
from trio_model_runner.cli.settings_list import all_settings
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch

LANGUAGES = {"python", "sh", "toml", "text", "json", "sql"}

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@attrs.frozen
class Here:
    """It is a part of a coordinator, and runs in one that has two models.

    Attributes:
        shows: what it must print.
        node: an address in it for which a model's node is put.
    """

    shows: str = ""
    node: str = ""


@attrs.frozen
class In:
    """A test elsewhere runs it, and names the block, or its document if it runs all that are in it."""

    file: str


RUNS: dict[str, Here | In] = {
    "README.md#a-coordinator": In("house/test_readme.py"),
    "README.md#models-that-join-late": In("cluster/test_histories.py"),
    "README.md#stopping": In("house/test_readme.py"),
    "README.md#testing": In("testing/test_chapter.py"),
    "channel/README.md#a-channel": Here(node='"localhost", 50051'),
    "channel/README.md#a-models-channel": Here(),
    "cluster/README.md#rounds": Here("2 of 2 SUCCESS"),
    "cluster/README.md#results-as-they-come": Here("model-18 SUCCESS"),
    "cluster/README.md#as-json": Here(),
    "cluster/README.md#watching": Here("joined model-17"),
    "cluster/README.md#only-observing": Here("<ModelState.REACHABLE: 'reachable'>"),
    "cluster/README.md#outside-trio": In("cluster/test_outside_trio.py"),
    "cluster/README.md#outside-trio/2": In("cluster/test_outside_trio.py"),
    "config/README.md#in-python": Here(),
    "instruments/README.md#the-record/2": In("instruments/test_recorder.py"),
    "instruments/README.md#the-status-socket": In("instruments/test_instruments_readme.py"),
    "instruments/README.md#prometheus": In("instruments/test_instruments_readme.py"),
    "instruments/README.md#one-of-your-own": In("instruments/test_instruments_readme.py"),
    "security/README.md#how-to-set-it": In("security/test_config.py"),
    "sharding/README.md#on-one-machine": In("sharding/test_chapter.py"),
    "sharding/README.md#on-a-dask-cluster/4": In("sharding/test_chapter.py"),
    "testing/README.md#a-crunch-to-run-against": In("real_nodes/test_crunch_to_run_against.py"),
    "testing/README.md#a-crunch-to-run-against/2": In("real_nodes/test_crunch_to_run_against.py"),
    "testing/README.md#a-crunch-to-run-against/3": In("real_nodes/test_crunch_to_run_against.py"),
    "values/README.md#what-is-sent-and-what-comes-back": Here(),
    "values/README.md#what-an-answer-must-be": Here("$: must be a list, for list[Point], got float"),
    "__init__.py": Here(),
    "compat/__init__.py": In("compat/test_coordinators.py"),
    "instruments/__init__.py": In("instruments/test_door.py"),
    "testing/__init__.py": In("testing/test_chapter.py"),
}

ALL_OF = {
    "compat/README.md": In("compat/test_coordinators.py"),
    "testing/README.md": In("testing/test_chapter.py"),
}
"""Documents whose blocks all run in the same way, but for those in the other table."""


class Bird:
    def __init__(self, *_: Any) -> None:
        pass

    def predict(self, *_: Any, **__: Any) -> float:
        return 1.5


# Python


def test_every_block_of_python_runs_somewhere() -> None:
    python = [each for each in blocks().values() if each.language == "python"]
    assert [each.name for each in python if each.document not in ALL_OF or each.name in RUNS] == list(RUNS)
    for name, how in {**RUNS, **ALL_OF}.items():
        if isinstance(how, In):
            assert f'"{name}"' in (ROOT / "tests" / how.file).read_text()


def test_every_block_says_its_language() -> None:
    assert {each.language for each in blocks().values()} <= LANGUAGES
    assert len(blocks()) > 40


@pytest.mark.parametrize("name", [name for name, how in RUNS.items() if isinstance(how, Here)])
async def test_a_part_of_a_coordinator_runs(autojump_clock: MockClock, name: str) -> None:
    how = RUNS[name]
    assert isinstance(how, Here)
    said: list[str] = []

    def say(*words: Any) -> None:
        said.append(" ".join(map(str, words)))

    service = DynamicSubclassService("bird.Tracker")
    models = {"model-17": Bird, "model-18": Bird}
    async with LocalCrunch(models, network=MemoryNetwork(), crunch_id="bird-game") as crunch:
        config = crunch.config()
        code = block(name)
        if how.node:
            assert how.node in code
            node = crunch.node("model-17")
            code = code.replace(how.node, f"{node.host!r}, {node.port}, network=network")
        async with Cluster(config, service) as cluster:
            public = {each: getattr(trio_model_runner, each) for each in trio_model_runner.__all__}
            names = {**public, "trio": trio, "cluster": cluster, "config": config, "service": service}
            names |= {"print": say, "network": crunch.network, "payload": {"dove_location": 19.2}}
            with trio.move_on_after(60) as until_it_ends:  # a loop over changes does not
                compiled = compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                if (running := eval(compiled, names)) is not None:  # noqa: S307 - our own
                    assert inspect.isawaitable(running)
                    await running
            assert until_it_ends.cancelled_caught == ("async for change in" in code)
    assert how.shows in "\n".join(said)


# Files of settings


@pytest.mark.parametrize("name", [each.name for each in blocks().values() if each.language == "toml"])
def test_a_file_of_settings_has_settings_that_exist(name: str) -> None:
    table = tomllib.loads(block(name))["trio-model-runner"]
    parts = {key: value for key, value in table.items() if isinstance(value, dict)}
    fields = {key for key in table if key not in parts}
    fields |= {f"{part}.{key}" for part, values in parts.items() for key in values}
    assert fields <= {each.name for each in all_settings()}


def test_a_file_of_settings_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(block("config/README.md#in-a-file-and-in-the-environment"))
    config = ClusterConfig.load(path)
    assert (config.crunch_id, config.timeout, config.limits.max_queued_calls) == ("bird-game", 5.0, 64)
    names: dict[str, Any] = {}
    exec(block("config/README.md#in-python"), names)
    assert names["config"] == config


# Commands


def lines_of_shell() -> Iterator[tuple[str, list[str]]]:
    for each in blocks().values():
        if each.language == "sh":
            for line in each.code.replace("\\\n", " ").splitlines():
                for command in line.split(" && "):
                    yield each.name, shlex.split(command, comments=True)


@pytest.mark.parametrize(("name", "words"), [pytest.param(*each, id=each[0]) for each in lines_of_shell()])
def test_a_command_exists_with_its_options(name: str, words: list[str]) -> None:
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if not words:
        return
    program, *arguments = words
    check = {
        "trio-model-runner": check_our_command,
        "pip": check_pip,
        "python": check_python,
        "python3": check_python,
        "export": check_variables,
        "eval": check_completion,
        "dask": check_dask,
    }
    if program not in ("cd", "mkdir", ".", "chmod", "openssl"):  # what `sharding` has of these is run
        check[Path(program).name](arguments)


def check_our_command(arguments: list[str]) -> None:
    name, *rest = arguments
    command = commands.commands[name]
    with click.Context(command, info_name=name) as context:
        command.make_parser(context).parse_args(rest)  # raises NoSuchOption


def check_dask(arguments: list[str]) -> None:
    role, *rest = arguments
    command = import_module(f"distributed.cli.dask_{role}").main
    with click.Context(command, info_name=role) as context:
        command.make_parser(context).parse_args(rest)


def check_pip(arguments: list[str]) -> None:
    assert arguments[0] in ("install", "wheel")
    for extras in re.findall(r"\[(\w[\w,]*)\]", " ".join(arguments)):
        assert set(extras.split(",")) <= set(EXTRAS)
    assert not any(re.match(r"trio[-_]model[-_]runner", each) for each in arguments)  # it is on no index


def check_python(arguments: list[str]) -> None:
    first, *rest = arguments
    if first == "-m":
        assert rest[0] in ("venv", "pytest", "model_runner.server")  # the last is a real node's
        return
    if "/" not in first:  # a block that the reader has saved
        assert any(first in text for text in documents().values())
        return
    assert (ROOT / first).exists()
    sources = "".join(path.read_text() for path in (ROOT / first).parent.glob("*.py"))
    for option in rest:
        assert not option.startswith("--") or f'"{option}"' in sources


def check_variables(arguments: list[str]) -> None:
    assert {each.partition("=")[0] for each in arguments} <= {each.variable for each in all_settings()}


def check_completion(arguments: list[str]) -> None:
    (source,) = arguments
    assert (
        source == "$(_TRIO_MODEL_RUNNER_COMPLETE=bash_source trio-model-runner)"
    )  # see `cli/test_running.py`


# Links


LINKS = [
    (document, target)
    for document, text in documents().items()
    for target in re.findall(r"\]\(([^)\s]+)\)", text)
    if not target.startswith("https://")
]


@pytest.mark.parametrize(("document", "target"), LINKS, ids=map(" -> ".join, LINKS))
def test_a_link_leads_somewhere(document: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    here = ROOT / document
    if not here.exists():
        here = Path(trio_model_runner.__file__).parent / document
    there = (here.parent / path).resolve() if path else here
    assert there.exists()
    if anchor:
        (named,) = (
            name for name in documents() if (ROOT / name).resolve() == there or name_of(there) == name
        )
        assert anchor in anchors(named)


def test_files_that_are_named_are_there() -> None:
    named = {
        (document, path)
        for document, text in documents().items()
        for path in re.findall(r"`((?:tests|trio_model_runner|proto|\.ci)/[\w./-]*)`", text)
    }
    assert len(named) > 10
    assert [each for each in sorted(named) if not (ROOT / each[1]).exists()] == []


def name_of(path: Path) -> str:
    package = Path(trio_model_runner.__file__).parent
    return path.relative_to(package).as_posix() if path.is_relative_to(package) else ""
