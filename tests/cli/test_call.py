"""`call` asks those who were named, and nobody else; it never reports, and says what it may have changed."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_model_runner import Cluster, DynamicSubclassService, Status
from trio_model_runner.cli.call_command import prepare_call
from trio_model_runner.cli.commands import run
from trio_model_runner.testing import CrunchFactory, LocalCrunch

COMMAND = [sys.executable, "-W", "error", "-m", "trio_model_runner", "call"]


class Model:
    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def predict(self, asset: Any, history: Any, more: Any, step: Any = None) -> Any:
        return {"values": [asset, history, more], "step": step}

    async def hang(self) -> None:
        await trio.sleep_forever()

    async def think(self) -> int:
        await trio.sleep(9)
        return 1

    def nan(self) -> float:
        return math.nan

    def tick(self, payload: Any) -> None:
        return None

    def nasty(self) -> str:
        return "\x1b[2J\u202eevil\n"

    def fail(self) -> None:
        raise ValueError("\x1b[31mno nest\u2066 here\r\n")


class Other(Model):
    made = 0


async def called(crunch: LocalCrunch, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    place = ["--crunch-id", crunch.orchestrator.crunch_id, "--port", str(crunch.orchestrator.port)]
    place += ["--host", "127.0.0.1"]
    ended = await trio.run_process(
        [*COMMAND, *arguments, "--class", "birds.Tracker", *place],
        stdin=stdin,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


async def test_one_model_is_asked_and_no_other_is_even_set_up(tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text("[1, 2]")
    async with LocalCrunch({"a": Model, "b": Other}) as crunch:
        arguments = ["predict", '"BTC"', f"@{tmp_path}/value.json", "-", "-k", "step=60", "--model", "a"]
        code, out, err = await called(crunch, *arguments, "--json", stdin=b'{"from": "stdin"}')
        assert code == 0
        row = json.loads(out)
        assert (row["model_id"], row["status"]) == ("a", "SUCCESS")
        assert row["value"] == {"values": ["BTC", [1, 2], {"from": "stdin"}], "step": 60}
        assert "'a' had no instance, so one was made" in err
        assert (Model.made, Other.made) == (1, 0)

        code, out, err = await called(crunch, "tick", "3", "--model", "a", "--model", "zz")
        assert code == 1
        assert "SUCCESS" in out
        assert "warning: tick by hand may change what a model knows" in err
        assert "'zz' is not announced" in err
        assert "no instance" not in err


async def test_what_models_say_can_not_garble_the_terminal_and_nobody_is_reported() -> None:
    async with LocalCrunch({"a": Model, "b": Other}) as crunch:
        for method, code in (("nasty", 0), ("fail", 1)):
            ended_with, out, _ = await called(crunch, method, "--all")
            assert ended_with == code
            assert all(line.isprintable() for line in out.splitlines())
            assert len(out.splitlines()) == 3
        assert crunch.reports == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["predict", "--class", "a.B"], "say whom to call: --model ID (once or more), or --all"),
        (["predict", "--class", "a.B", "--all", "--model", "a"], "say whom to call"),
        (["predict", "--all"], "Missing option '--class'"),
        (["predict", "BTC", "--all", "--class", "a.B"], "'BTC' is no JSON"),
        (["predict", "BTC", "--all", "--class", "a.B"], """a text has quotes of its own: '"BTC"'"""),
        (["predict", "@nowhere", "--all", "--class", "a.B"], "'@nowhere' can't be read: No such file"),
        (["predict", "-k", "3", "--all", "--class", "a.B"], "'3' is not NAME=JSON"),
        (["predict", "-k", "a=1", "-k", "a=2", "--all", "--class", "a.B"], "a is given twice"),
        (["predict", "-", "-k", "a=-", "--all", "--class", "a.B"], "(-) can be one value, and no more"),
        (["predict", "@/dev/zero", "--all", "--class", "a.B"], "'@/dev/zero' is too large"),
        (["predict", "1" + "0" * 400, "--all", "--class", "a.B"], "the integer does not fit"),
        (["predict", '"\\ud800"', "--all", "--class", "a.B"], "surrogate"),
        (["predict", "--all", "--class", "B"], "must look like 'package.module.ClassName'"),
        (["predict", "--all", "--class", "a..B"], "'a..B' is no name such as package.module.Class"),
        (["two words", "--all", "--class", "a.B"], "'two words' is no name of a method"),
        (["predict", "--all", "--class", "a.B", "--timeout", "nan"], "nan is no number of seconds"),
    ],
)
def test_what_is_missing_or_wrong_is_said(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    """Before anybody is connected: nobody listens there, which would be 3."""
    monkeypatch.setattr("trio_model_runner.cli.values_given._MOST_BYTES", 1 << 20)
    monkeypatch.setenv("TRIO_MODEL_RUNNER_CRUNCH_ID", "birds")
    monkeypatch.setenv("TRIO_MODEL_RUNNER_HOST", "no-such-host.invalid")
    monkeypatch.setattr(sys, "argv", ["trio-model-runner", "call", *arguments])
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        assert run() == 2
    assert complaint in " ".join(err.getvalue().split())
    assert "Traceback" not in err.getvalue()


async def test_a_node_that_is_at_an_earlier_call_is_busy_and_nobody_is_accused() -> None:
    async with LocalCrunch({"a": Model}) as crunch:
        code, out, err = await called(crunch, "hang", "--all", "--timeout", "0.4")
        assert (code, "TIMEOUT" in out) == (1, True)
        assert "ERROR" not in err  # the result has said it
        arguments = ["predict", "1", "1", "1", "--all", "--connect-timeout", "0.5"]
        code, out, err = await called(crunch, *arguments)
        assert (code, err) == (1, "")
        assert "its node is busy, perhaps with an earlier call" in out
        assert crunch.reports == []


@pytest.mark.parametrize("startup_timeout", [0.0, 10.0, math.inf])
async def test_one_that_is_down_or_busy_costs_the_others_no_time(
    local_crunch: CrunchFactory, startup_timeout: float
) -> None:
    """On the default settings of the command, whatever a coordinator waits for at its start."""
    models = {"a": Model, "b": Model, "busy": Model()}
    async with local_crunch(models, crunch_id="birds") as crunch:
        config = crunch.config(startup_timeout=startup_timeout)
        service = DynamicSubclassService("birds.Tracker")
        async with Cluster(crunch.config(), service) as cluster, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: cluster.models["busy"].call("hang", timeout=3600))
            await trio.testing.wait_all_tasks_blocked()
            down = {
                "model_id": "down",
                "deployment_id": "d",
                "state": "RUNNING",
                "ip": "127.0.0.1",
                "port": 1,
            }
            crunch.orchestrator.announce(down)
            called = await prepare_call(config, "birds.Tracker", "think").run()
            nursery.cancel_scope.cancel()
    statuses = {result.model.model_id: result.status for result in called.results.values()}
    expected = dict.fromkeys("ab", Status.SUCCESS) | dict.fromkeys(["busy", "down"], Status.ABSENT)
    assert statuses == expected


async def test_nan_is_not_none() -> None:
    async with LocalCrunch({"a": Model}) as crunch:
        _, out, _ = await called(crunch, "nan", "--all")
        assert out.splitlines()[-1] == "NaN"
        row = json.loads((await called(crunch, "nan", "--all", "--json"))[1])
    assert (row["value"], row["value_type"]) == (None, "float")


@pytest.mark.parametrize(
    ("setting", "options", "decided"),
    [(0.1, [], "in 0.1 s (orchestrator_timeout)"), (60, ["0.1"], "in 0.1 s (--connect-timeout)")],
)
async def test_without_an_orchestrator_the_code_is_3_and_it_is_said_what_decided(
    tmp_path: Path, setting: float, options: list[str], decided: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[trio-model-runner]\norchestrator_timeout = {setting}\n")
    async with LocalCrunch(crunch_id="birds") as crunch:
        port = crunch.orchestrator.port
    command = [*COMMAND, "predict", "--all", "--class", "a.B", "--crunch-id", "birds", "--port", str(port)]
    command += [word for option in options for word in ("--connect-timeout", option)]
    ended = await trio.run_process(
        [*command, "--config", str(file)], capture_stdout=True, capture_stderr=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (3, b"")
    err = ended.stderr.decode()
    assert err.startswith("Error: no list of models from the orchestrator at localhost:")
    assert decided in err
    assert "(trio-model-runner check says more)" in err
    assert err.count("\n") == 1
