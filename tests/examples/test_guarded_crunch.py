"""The guarded crunch: troubles wake somebody once each, useless models are reported, and all can be seen."""

from __future__ import annotations

import json
import math
import socket
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
import trio
from helpers.programs import running

from examples import guarded_crunch
from examples.guarded_crunch import MOST_USELESS, Alarms, main
from trio_model_runner import FailureCode
from trio_model_runner.testing import CrunchFactory, LocalCrunch


class Model:
    """Answers one number."""

    def __init__(self, answer: float = 1.5) -> None:
        self.answer = answer

    def predict(self) -> float:
        return self.answer


class Pager:
    """Keeps what somebody was woken for; the first time, it breaks."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def wake(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.texts.append(text)
        if len(self.texts) == 1:
            raise OSError("no battery")


async def test_each_trouble_wakes_somebody_once(
    local_crunch: CrunchFactory, caplog: pytest.LogCaptureFixture
) -> None:
    pager = Pager()
    async with local_crunch({name: Model() for name in "abc"}) as crunch, trio.open_nursery() as nursery:
        nursery.start_soon(main, crunch.config(timeout=1.0), [Alarms(pager.wake)])
        await trio.sleep(5)
        assert pager.texts == []
        for name in "ab":
            crunch.node(name).faults.busy = True
        await trio.sleep(10)
        (silence,) = pager.texts
        assert "1 of 3 SUCCESS" in silence
        assert "nobody was woken" in caplog.text
        crunch.orchestrator.kill()
        await trio.sleep(10)
        assert len(pager.texts) == 2
        assert pager.texts[1].startswith("the orchestrator is away: ")
        nursery.cancel_scope.cancel()


async def test_models_whose_answers_are_useless_are_reported(local_crunch: CrunchFactory) -> None:
    async with (
        local_crunch({"good": Model(), "useless": Model(math.nan)}) as crunch,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(main, crunch.config(), [])
        report = await crunch.wait_for_report("useless", FailureCode.LOW_PERFORMANCE)
        assert report.reason == f"predict returned NaN {MOST_USELESS} times in a row"
        nursery.cancel_scope.cancel()


async def test_as_a_program_it_can_be_looked_at(tmp_path: Path) -> None:
    def scrape() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10.0) as answer:
            return str(answer.read(), "utf-8")

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    settings, status = tmp_path / "config.toml", tmp_path / "status.sock"
    async with LocalCrunch({"a": Model(), "b": Model()}, crunch_id="bird-game", security="secure") as crunch:
        crunch.write_credentials(tmp_path)
        await trio.Path(settings).write_text(
            "[trio-model-runner]\ncrunch_id = 'bird-game'\nallowed_networks = ['127.0.0.0/8']\n"
            f"credentials_mode = 'secure'\ncredentials_path = {json.dumps(str(tmp_path))}\n"
        )
        arguments = (str(settings), str(status), str(port))
        async with running("guarded_crunch.py", crunch, *arguments) as program:
            await crunch.node("a").wait_for_calls(2)
            async with await trio.open_unix_socket(status) as stream:
                line = b""
                while b"\n" not in line:
                    line += await stream.receive_some()
            assert json.loads(line.partition(b"\n")[0])["snapshot"]["models"] == {"ready": 2}
            scraped = await trio.to_thread.run_sync(scrape)
            assert 'trio_model_runner_models{crunch_id="bird-game",state="ready"} 2.0' in scraped
            program.terminate()
            await program.wait()
    assert program.returncode == 0, program.output
    assert "2 models answer" in program.output  # said by `check`
    assert "Traceback" not in program.output


def test_without_an_orchestrator_it_leaves_with_what_the_check_says(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "config.toml"
    settings.write_text("[trio-model-runner]\ncrunch_id = 'bird-game'\nport = 1\nhost = '127.0.0.1'\n")
    with pytest.raises(SystemExit, match="3"):
        guarded_crunch.check(str(settings))
    assert "FAIL  TCP" in capfd.readouterr().out
