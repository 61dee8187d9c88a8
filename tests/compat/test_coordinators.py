"""Coordinators of the asyncio client, with their imports changed: the same results for the same models."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from benchmarks.venvs import InstallationError, reference_python
from helpers.coordinating import Model
from helpers.documents import block, blocks, documents
from helpers.from_asyncio import in_asyncio

import trio_model_runner
from trio_model_runner import compat
from trio_model_runner.compat import ModelPredictResult
from trio_model_runner.testing import LocalCrunch, Service

HERE = Path(__file__).parent
ROOT = Path(trio_model_runner.__file__).parents[1]
README = documents()["compat/README.md"]
EXAMPLE = (HERE / "first_release_example.txt").read_text()
"""The README of `model-runner-client` 0.1.0 (MIT licence), with its imports changed and nothing else."""


async def test_the_example_of_the_first_release_runs(tmp_path: Path) -> None:
    class Steady:
        def infer(self, value: Any) -> float:
            return float(value["dove_location"])

    class Bad:
        def infer(self, value: Any) -> None:
            raise ValueError("no feathers")

    program = tmp_path / "coordinator.py"
    models = {"steady": Steady(), "bad": Bad()}
    async with LocalCrunch(models, crunch_id="bird-game", services=(Service.MODEL_RUNNER,)) as crunch:
        program.write_text(EXAMPLE.replace("port=8000", f"port={crunch.orchestrator.port}"))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        command = [sys.executable, "-u", str(program)]
        process = await trio.lowlevel.open_process(command, env=environment, **pipes)
        output, interrupted = b"", False
        async for data in process.stdout:
            output += data
            if output.count(b"ModelPredictResult(") == 2 and not interrupted:
                interrupted = True
                process.send_signal(signal.SIGINT)  # while it sleeps
        assert await process.wait() == 0
    lines = sorted(output.decode().splitlines())
    assert lines[0] == ""
    assert lines[1] == "Received exit signal, shutting down gracefully."
    assert "status=<Status.FAILED: 'FAILED'>" in lines[2]
    assert lines[3].startswith("steady: ModelPredictResult(model_runner=ModelRunner(model_id='steady', ")
    assert "result=19.164986723324326, status=<Status.SUCCESS: 'SUCCESS'>" in lines[3]


EXAMPLES = [each.code for each in blocks().values() if each.document == "compat/README.md"]


@pytest.mark.parametrize("code", EXAMPLES)
async def test_the_readmes_example_runs(code: str) -> None:
    async with LocalCrunch({"a": Model(), "b": Model()}, crunch_id="bird-game") as crunch:
        names: dict[str, Any] = {"print": lambda *words: said.append(words)}
        said: list[Any] = []
        exec(code.replace("9091", str(crunch.orchestrator.port)), names)
        await in_asyncio(names["main"])
    assert sorted(said) == [(each, ModelPredictResult.Status.SUCCESS, 1.5) for each in "ab"]


async def test_the_example_at_the_door_runs() -> None:
    code = "".join(f"    {line}\n" for line in block("compat/__init__.py").splitlines())
    assert "8000" in code
    async with LocalCrunch({"a": Model()}, crunch_id="bird-game") as crunch:
        names: dict[str, Any] = dict(vars(compat))
        code = code.replace("8000", str(crunch.orchestrator.port))
        exec(f"async def main():\n{code}    await runner.close()\n    return results", names)
        (result,) = (await in_asyncio(names["main"])).values()
    assert result.result == 1.5


def test_all_that_the_readme_has_imported_is_there() -> None:
    told = {name for row in re.findall(r"^\|.*", README, re.MULTILINE) for name in re.findall(r"\w+", row)}
    assert set(compat.__all__) <= told


@pytest.fixture(scope="module")
def reference() -> Path:
    try:
        return reference_python()
    except InstallationError as error:
        pytest.fail(f"the asyncio client can't be installed: {error}", pytrace=False)


async def test_both_clients_get_the_same_from_the_same_models(reference: Path) -> None:
    class Pair(Model):
        def pair(self, first: Any, second: Any, third: Any = None) -> Any:
            return [first, second, third]

    async def run(python: Path, client: str, **environment: str) -> Any:
        command = [str(python), str(HERE / "both_clients.py"), str(crunch.orchestrator.port), client]
        done = await trio.run_process(command, env={**os.environ, **environment}, capture_stdout=True)
        return json.loads(done.stdout)

    async with LocalCrunch(dict.fromkeys("abc", Pair)) as crunch:
        paths = os.pathsep.join([str(ROOT), *sys.path[1:]])
        ours = await run(Path(sys.executable), "ours", PYTHONPATH=paths)
        theirs = await run(reference, "reference", PYTHONPATH="")
    assert ours == theirs
    assert len(ours["rounds"]) == 10
    assert ours["rounds"][0]["a"] == ["SUCCESS", {"deep": [1, None, {"x": 1.5}], "7": "seven"}]
    assert ours["rounds"][4]["a"] == ["SUCCESS", [-7, 2.5, "grün"]]
