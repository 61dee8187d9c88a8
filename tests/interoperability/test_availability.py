"""Tests that this machine can't run are skipped, or fail where all must run; and nothing is built twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from . import building
from .availability import available
from .building import FOREIGN, Missing, cached, program
from .servers import PLAIN

if TYPE_CHECKING:
    from pathlib import Path

WORDS = "grpc-go: there is no go here"


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without compilers."""
    monkeypatch.setattr(building.shutil, "which", lambda name, path: None)


@pytest.mark.usefixtures("nothing_here")
def test_what_is_missing_is_named_by_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_FOREIGN_SERVERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=WORDS):
        available("grpc-go")


@pytest.mark.usefixtures("nothing_here")
def test_what_is_missing_is_a_failure_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_FOREIGN_SERVERS", "1")
    with pytest.raises(pytest.fail.Exception, match=WORDS):
        available("grpc-go")


@pytest.mark.usefixtures("nothing_here")
def test_servers_in_python_are_always_there() -> None:
    for kind in PLAIN.keys() - FOREIGN.keys():
        available(kind)
    assert PLAIN.keys() - FOREIGN.keys() == {"grpcio", "grpcio.aio", "grpclib"}


def test_something_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(building, "CACHE", tmp_path / "cache")
    made: list[Path] = []

    def make(directory: Path) -> None:
        made.append(directory)
        (directory / "server").touch()

    assert cached("it", make) == cached("it", make) == tmp_path / "cache" / "it"
    assert len(made) == 1
    assert (tmp_path / "cache" / "it" / "server").exists()


def test_what_could_not_be_built_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(building, "CACHE", tmp_path)

    def make(directory: Path) -> None:
        building.run("sh", "-c", "echo no such header >&2; exit 1", cwd=directory)

    for _ in range(2):
        with pytest.raises(Missing, match="no such header"):
            cached("it", make)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(Missing, match=r"no never-heard-of here \(Debian's package no-package\)"):
        program("never-heard-of", "no-package")
