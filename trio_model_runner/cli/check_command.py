"""The command ``check``: why can't I reach my models? A line for each stage, with what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click
from rich.text import Text

from ..network import address_text
from ..text import quoted
from .options import Chosen, Command, Seconds, chosen_settings, debug_option, json_option, no_color_option
from .output import clean, layout_width, open_console, wrapped, write, write_json
from .running import Exit, Running, library_log, run_until_interrupted

if TYPE_CHECKING:
    from rich.console import Console

    from ..config import ClusterConfig
    from .checking.findings import NodeReport, OrchestratorReport, Trouble

__all__ = ["check"]

_WIDEST: Final = 160
_MOST_NAMED: Final = 8
_STAGE_WIDTH: Final = 9
_TEXT_AT: Final = 2 + 4 + 2 + _STAGE_WIDTH + 2
_MOST_COMPLAINTS: Final = 8
_LONGEST_NAME: Final = 40
_LONGEST_DETAIL: Final = 300
_LONGEST_TEXT: Final = 1000


@click.command(cls=Command, short_help="Find out why models can't be reached.")
@chosen_settings
@click.option(
    "--model", "models", metavar="ID", multiple=True, help="The only node to check; several may be."
)
@click.option(
    "--timeout",
    type=Seconds(0.1, 600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="For each stage to the orchestrator, and for each node.",
)
@json_option
@no_color_option
@debug_option
@click.pass_obj
def check(
    running: Running,
    chosen: Chosen,
    models: tuple[str, ...],
    timeout: float,
    as_json: bool,
    no_color: bool,
) -> int:
    """Say why the orchestrator or the models can't be reached.

    The way is gone stage by stage: to the orchestrator by name, TCP, TLS and WebSocket up to its list of
    models; to each node by TCP, TLS, HTTP/2, a health check, and the proof with its answer. What fails is a
    line with what to do; equal troubles are one line.

      trio-model-runner check --host crunch.example.org --crunch-id bird-game
      trio-model-runner check --config /etc/birds/config.toml --json
      trio-model-runner check --config config.toml --model m1 --model m2

    Models are not called, and not set up. This is one client more at the orchestrator for a moment; in some
    releases, whoever comes and goes can cost other clients an update, so don't run it every minute.

    Exit codes: 0 all is well, 1 there are findings, 2 the settings or the credentials are wrong, 3 the
    orchestrator can't be reached. 1,000 nodes take 5 times SECONDS at the most.
    """
    console = open_console(color=not no_color)
    config = chosen.load()
    with library_log(running):
        return run_until_interrupted(Checking(console, config, timeout, models=models, as_json=as_json).run)


class Checking:
    """One check, and how it is shown.

    Args:
        console: where it is shown.
        config: the settings.
        timeout: seconds for each stage, and each node.
        models: the ids of the only models to check; empty checks all.
        as_json: write JSON.
    """

    def __init__(
        self,
        console: Console,
        config: ClusterConfig,
        timeout: float,
        *,
        models: Sequence[str] = (),
        as_json: bool,
    ) -> None:
        self._console = console
        self._config = config
        self._timeout = timeout
        self._models = models
        self._as_json = as_json
        self._width = layout_width(console, _WIDEST)

    async def run(self) -> int:
        """Check, and show what was found."""
        from .checking.nodes import check_nodes
        from .checking.orchestrator import check_orchestrator

        orchestrator = await check_orchestrator(self._config, self._timeout)
        if not self._as_json:
            self._show_orchestrator(orchestrator)
        nodes: list[NodeReport] = []
        if orchestrator.listed:
            entries = orchestrator.entries
            nodes = await check_nodes(self._config, entries, self._timeout, models=self._models)
        if self._as_json:
            self._write_json(orchestrator, nodes)
        elif nodes:
            self._show_nodes(nodes)
        if not orchestrator.listed:
            return Exit.NO_ORCHESTRATOR
        found = orchestrator.trouble or orchestrator.complaints or any(node.trouble for node in nodes)
        return Exit.FINDING if found else Exit.WELL

    def _write_json(self, orchestrator: OrchestratorReport, nodes: Sequence[NodeReport]) -> None:
        trouble = orchestrator.trouble
        row = {
            "crunch_id": self._config.crunch_id,
            "orchestrator": {
                "host": self._config.host,
                "port": self._config.port,
                "steps": [{"stage": step.stage.value, "text": step.text} for step in orchestrator.steps],
                "trouble": None if trouble is None else trouble.to_dict(),
                "complaints": orchestrator.complaints,
                "models": len(orchestrator.entries),
            },
            "nodes": [node.to_dict() for node in nodes],
        }
        write_json(self._console, row)

    def _show_orchestrator(self, report: OrchestratorReport) -> None:
        secured = "plaintext" if self._config.tls is False else "TLS"
        address = address_text(self._config.host, self._config.port)
        heading = f"  {address}, crunch {quoted(self._config.crunch_id)}, {secured}"
        write(self._console, Text.assemble(("Orchestrator", "bold"), (clean(heading), "bright_black")))
        for step in report.steps:
            self._say(True, step.stage, step.text)
        self._show_complaints(report.complaints)
        if report.trouble is not None:
            self._say_trouble(report.trouble, f"{report.trouble.what}: {report.trouble.detail}")

    def _show_complaints(self, complaints: Sequence[str]) -> None:
        for complaint in complaints[:_MOST_COMPLAINTS]:
            self._say(False, "init", complaint[:_LONGEST_DETAIL])
        if (more := len(complaints) - _MOST_COMPLAINTS) > 0:
            self._say(False, "init", f"and {more} more like these")
        if complaints:
            self._advise("The orchestrator's list has a fault: tell whoever runs it.")

    def _show_nodes(self, nodes: Sequence[NodeReport]) -> None:
        from .checking.findings import Stage, grouped

        secured = {"SecureCredentials": "secure mode", "GatewayCredentials": "gateway mode"}.get(
            type(self._config.credentials).__name__, "plaintext"
        )
        running = [node for node in nodes if node.address]
        models = len({node.model_id for node in running})
        run = "run" if models != 1 else "runs"
        heading = f"  {_nodes(len(running), models)} that {run}, {secured}"
        write(self._console, Text.assemble(("Nodes", "bold"), (heading, "bright_black")))
        if good := [node for node in nodes if node.trouble is None]:
            slowest = max(node.seconds or 0.0 for node in good)
            answers = "answer" if len(good) != 1 else "answers"
            self._say(True, Stage.HEALTH, f"{_models(len(good))} {answers}, the slowest in {slowest:.3f} s")
            if unproved := [node for node in good if node.proved is False]:
                text = f"{_models(len(unproved))} sent no proof with that; it will come with the Setup"
                self._say(True, Stage.PROOF, text)
        for group in grouped(nodes):
            trouble = group[0].trouble
            assert trouble is not None
            ids = list(dict.fromkeys(node.model_id for node in group))  # one may have several deployments
            names = ", ".join(quoted(each, _LONGEST_NAME) for each in ids[:_MOST_NAMED])
            detail = trouble.detail[:_LONGEST_DETAIL]
            if len(group) == 1:
                text = f"{names}: {trouble.what}: {detail}"
            else:
                more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
                text = f"{_nodes(len(group), len(ids))}: {trouble.what}: {names}{more} (the first: {detail})"
            self._say_trouble(trouble, text)

    def _say_trouble(self, trouble: Trouble, text: str) -> None:
        self._say(False, trouble.stage, text, trouble.advice)

    def _say(self, good: bool, stage: str, text: str, advice: str = "") -> None:
        sign = ("ok  ", "green") if good else ("FAIL", "bold red")
        before = Text.assemble("  ", sign, f"  {stage:<{_STAGE_WIDTH}}  ")
        lines = wrapped(self._console, text[:_LONGEST_TEXT], self._width - _TEXT_AT)
        indent = " " * _TEXT_AT
        write(self._console, before + Text(lines[0]), *(Text(indent + line) for line in lines[1:]))
        if advice:
            self._advise(advice)

    def _advise(self, advice: str) -> None:
        indent = " " * _TEXT_AT
        advised = wrapped(self._console, advice, self._width - _TEXT_AT - 3)
        for number, line in enumerate(advised):
            write(self._console, Text(indent + ("-> " if number == 0 else "   ") + line, "yellow"))


def _models(count: int) -> str:
    return f"{count} {'model' if count == 1 else 'models'}"


def _nodes(nodes: int, models: int) -> str:
    return _models(models) if nodes == models else f"{nodes} nodes of {_models(models)}"
