"""The tables of `cluster/README.md` have every kind of change, every state and every service."""

from __future__ import annotations

import re

from helpers.documents import chapter, documents

from trio_model_runner import ChangeKind, ModelRunner, ModelState, services
from trio_model_runner.services import NodeService


def test_every_kind_of_change_and_every_state_is_explained() -> None:
    watching = chapter("cluster/README.md", "Watching")
    kinds, states = watching.split("| state |")
    assert re.findall(r"^\| `([a-z ]+)` \|", kinds, re.MULTILINE) == [*ChangeKind]
    assert re.findall(r"^\| `([a-z ]+)` \|", states, re.MULTILINE) == [*ModelState]


def test_every_service_is_in_the_table() -> None:
    table = chapter("cluster/README.md", "Services")
    names = {name for name in services.__all__ if issubclass(getattr(services, name), NodeService)}
    assert set(re.findall(r"`(\w+Service)\(", table)) == names - {"NodeService"}


def test_all_that_a_runner_has_is_named() -> None:
    (item,) = re.findall(
        r"^- A `ModelRunner` has (.*?)\n- ", documents()["cluster/README.md"], re.MULTILINE | re.DOTALL
    )
    public = {name for name in dir(ModelRunner) if not name.startswith("_")}
    assert set(re.findall(r"`(\w+)(?:\(\))?`", item)) == public
