"""The command ``call``: ask some models for one thing, by hand.

It is a client beside the coordinator, so it must change as little as it can. It never reports. It connects to
the models that were named and to no others, since a Setup makes an instance where there is none. It lives for
one call: what it can't know is whose call a busy node is at, so it blames nobody. The results say all that
went wrong, and the library's log would only say it again.

Connecting and the call have a time each. If they shared one, a model that can't be reached would use up what
is the others', and they would look late.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
from rich.text import Text

from ..errors import OrchestratorUnavailable
from ..text import quoted
from ..values.results import Status
from .options import Chosen, Command, Seconds, chosen_settings, debug_option, json_option, no_color_option
from .output import ascii_only, clean, layout_width, open_console, write, write_json
from .running import Exit, Failure, Running, library_log, run_until_interrupted
from .table import STYLES, fit, name_width, plain_table
from .values_given import read_keywords, read_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from ..cluster.cluster import Cluster, Join
    from ..config import ClusterConfig
    from ..services import DynamicSubclassService
    from ..values.data import Arguments
    from ..values.prediction_round import PredictionRound
    from ..values.results import PredictResult

__all__ = ["Called", "Calling", "call", "prepare_call"]

_WIDEST: Final = 200
_LONGEST: Final = 2000  # characters of a value or a detail in a table
_CONNECT_TIMEOUT: Final = 5.0  # seconds; a person waits, and a model that is down takes all of it
_NO_KEYWORDS: Final[Mapping[str, Any]] = {}
_STATE_CARRYING: Final = frozenset({"tick", "train", "update", "fit"})


@click.command(cls=Command, short_help="Call a method of some models by hand.")
@click.argument("method")
@click.argument("values", metavar="[JSON]...", nargs=-1)
@click.option(
    "-k", "keywords", metavar="NAME=JSON", multiple=True, help="A keyword argument; several may be."
)
@click.option("--class", "class_name", metavar="NAME", required=True, help="The class of the models.")
@click.option("--model", "models", metavar="ID", multiple=True, help="Whom to call; several may be.")
@click.option("--all", "everyone", is_flag=True, help="Call all models of the crunch.")
@click.option(
    "--timeout",
    type=Seconds(0.001),
    metavar="SECONDS",
    help="For the call itself, once the models are ready. Else the settings' timeout.",
)
@click.option(
    "--connect-timeout",
    type=Seconds(0.001),
    default=_CONNECT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Before the call: for the list of models, and then for connecting and Setup.",
)
@chosen_settings
@json_option
@no_color_option
@debug_option
@click.pass_obj
def call(
    running: Running,
    method: str,
    values: tuple[str, ...],
    keywords: tuple[str, ...],
    class_name: str,
    models: tuple[str, ...],
    everyone: bool,
    timeout: float | None,
    connect_timeout: float,
    chosen: Chosen,
    as_json: bool,
    no_color: bool,
) -> int:
    """Call METHOD of some models, and show what each answers.

    Arguments are JSON: 3, '"BTC"', '[1, 2]', null; behind -- also -3. @FILE reads one from a file, and - from
    standard input. Whom to call must be said: --model ID, or --all.

      trio-model-runner call predict --model 42 --class birds.Tracker
      trio-model-runner call predict '"BTC"' -k step=60 --all --class a.Tracker
      trio-model-runner call tick @payload.json --model 42 --class birds.Tracker

    All models are called at once, when each is ready or --connect-timeout has passed. Who is not ready then
    is ABSENT, and costs the others no time. The settings' startup_timeout does not count here.

    Nobody is ever reported for what this does. But what a model learns from a call by hand, such as a tick,
    its coordinator does not know of; and a node that has no instance makes one. Node and coordinator share
    one model: a coordinator's call that comes meanwhile waits, and may be late.

    Exit codes: 0 all succeeded, 1 some did not, 2 wrong use or settings, 3 no orchestrator.
    """
    if bool(models) == everyone:
        raise click.UsageError("say whom to call: --model ID (once or more), or --all")
    if [*values, *(pair.partition("=")[2] for pair in keywords)].count("-") > 1:
        raise click.UsageError("standard input (-) can be one value, and no more")
    given, named = [read_value(value) for value in values], read_keywords(keywords)
    config = attrs.evolve(chosen.load(), report_failures=False)
    calling = prepare_call(
        config,
        class_name,
        method,
        given,
        named,
        timeout=timeout,
        connect_timeout=connect_timeout,
        models=models,
    )
    if method in _STATE_CARRYING:
        text = "may change what a model knows, and its coordinator will not know of it"
        click.echo(f"warning: {method} by hand {text}", err=True)
    console = open_console(color=not no_color)

    async def run() -> int:
        return _show(console, await calling.run(), as_json=as_json)

    with library_log(running, level=logging.CRITICAL):
        return run_until_interrupted(run)


def prepare_call(
    config: ClusterConfig,
    class_name: str,
    method: str,
    values: Sequence[Any] = (),
    keywords: Mapping[str, Any] = _NO_KEYWORDS,
    *,
    timeout: float | None = None,
    connect_timeout: float = _CONNECT_TIMEOUT,
    models: Sequence[str] = (),
) -> Calling:
    """The call; whatever could not be sent is refused here, before anybody is connected.

    Args:
        config: the settings.
        class_name: the class of the models.
        method: the method.
        values: its arguments.
        keywords: its arguments that have names.
        timeout: seconds for the call; None for the settings' timeout.
        connect_timeout: seconds for the list of models, and then for the models to be ready.
        models: ids; empty for all.

    Raises:
        Failure: wrong use.
    """
    from ..model.round_spec import check_size
    from ..services import DynamicSubclassService
    from ..values.data import Arguments

    if not all(part.isidentifier() for part in class_name.split(".")):
        raise Failure(f"--class: {quoted(class_name)} is no name such as package.module.Class", Exit.USAGE)
    if not method.isidentifier():
        raise Failure(f"METHOD: {quoted(method)} is no name of a method", Exit.USAGE)
    try:
        service, arguments = DynamicSubclassService(class_name), Arguments(*values, **keywords)
        service.setup_request()
        check_size(service.call_request(method, arguments), config.limits.max_message_bytes)
    except (ValueError, TypeError) as error:
        raise Failure(str(error), Exit.USAGE) from error
    return Calling(config, service, method, arguments, timeout, connect_timeout, models or None)


@attrs.frozen
class Called:
    """What came of a call.

    Attributes:
        results: the results.
        busy: the models whose nodes are busy with what this call is not.
    """

    results: PredictionRound[Any]
    busy: frozenset[str]

    def detail(self, result: PredictResult[Any]) -> str:
        """What happened, in words. An earlier command's call may go on: a node can't interrupt a model."""
        if result.model.model_id in self.busy and not result.sent:
            return "its node is busy, perhaps with an earlier call"
        return result.detail

    def to_dict(self, result: PredictResult[Any]) -> dict[str, Any]:
        """A result as JSON. A number that JSON lacks has its type beside it, else it would look like None."""
        row = result.to_dict() | {"detail": self.detail(result)}
        if row["value"] is None and result.value is not None:
            row.setdefault("value_type", type(result.value).__name__)
        return row


@attrs.frozen
class Calling:
    """One call.

    Attributes:
        config: the settings.
        service: the service, with the class.
        method: the method.
        arguments: the arguments.
        timeout: seconds for the call; None for the settings' timeout.
        connect_timeout: seconds for the list of models, and then for the models to be ready.
        models: ids, or None for all.
    """

    config: ClusterConfig
    service: DynamicSubclassService
    method: str
    arguments: Arguments
    timeout: float | None
    connect_timeout: float
    models: Sequence[str] | None

    async def run(self) -> Called:
        """Call, and give the results.

        Raises:
            OrchestratorUnavailable: no list of models came.
            Failure: no model runs.
        """
        from ..cluster.cluster import Cluster, limit_to

        config = attrs.evolve(
            self.config,
            orchestrator_timeout=min(self.config.orchestrator_timeout, self.connect_timeout),
            startup_timeout=self.connect_timeout,
        )
        cluster: Cluster = Cluster(config, self.service, on_join=_warn_of_new_instance)
        if self.models is not None:
            limit_to(cluster, self.models)
        try:
            async with cluster:
                return await self._call(cluster)
        except OrchestratorUnavailable as error:
            if config.orchestrator_timeout == self.config.orchestrator_timeout:
                raise
            text = str(error).replace("(orchestrator_timeout)", "(--connect-timeout)")
            raise OrchestratorUnavailable(text) from error

    async def _call(self, cluster: Cluster) -> Called:
        if self.models is None and not cluster.announced:
            raise Failure(f"no model runs in crunch {quoted(self.config.crunch_id)}")
        results = await cluster.call(
            self.method, self.arguments, timeout=self.timeout, models=self.models, sit_out=False
        )
        rows = cluster.snapshot(models=True).model_rows or ()
        return Called(results, frozenset(row["model_id"] for row in rows if row["busy_with"]))


async def _warn_of_new_instance(join: Join) -> None:  # noqa: ASYNC124 - `on_join` is awaited
    if join.fresh:
        name = quoted(join.model.model_id)
        click.echo(
            f"warning: {name} had no instance, so one was made: it has no history, "
            "and its coordinator will not know",
            err=True,
        )


def _show(console: Console, called: Called, *, as_json: bool) -> int:
    results = called.results
    if as_json:
        for result in results.values():
            write_json(console, called.to_dict(result))
    elif results:
        _show_table(console, called)
    for model_id in results.missing:
        click.echo(f"{quoted(model_id)} is not announced: the orchestrator does not list it", err=True)
    well = bool(results) and not results.missing and len(results.succeeded) == len(results)
    return Exit.WELL if well else Exit.FINDING


def _show_table(console: Console, called: Called) -> None:
    results = list(called.results.values())
    width, plain = layout_width(console, _WIDEST), ascii_only(console)
    names = max(5, name_width(_name(result) for result in results))
    texts = max(8, width - names - 7 - 9 - 3 * 2)
    table = plain_table()
    table.add_column("model", width=names, no_wrap=True)
    table.add_column("status", width=7, no_wrap=True)
    table.add_column("seconds", width=9, no_wrap=True, justify="right")
    table.add_column("answer", width=texts, no_wrap=True)
    for result in results:
        # that of one alone is written below, whole
        answer = _answer(called, result) if len(results) > 1 else ""
        table.add_row(
            Text(fit(clean(_name(result)), names, ascii_only=plain)),
            Text(result.status.value, STYLES[result.status]),
            Text(f"{result.elapsed:.3f}"),
            Text(fit(answer[:_LONGEST], texts, ascii_only=plain)),
        )
    write(console, table)
    if len(results) == 1:
        console.out(_answer(called, results[0]), highlight=False)


def _name(result: PredictResult[Any]) -> str:
    return (result.model.name or result.model.model_id)[:_LONGEST]


def _answer(called: Called, result: PredictResult[Any]) -> str:
    """The answer as JSON, or what happened, in one printable line."""
    if result.status is not Status.SUCCESS:
        return clean(called.detail(result)[:_LONGEST])
    row = result.to_dict()
    if "value_type" in row:
        return clean(f"({row['value_type']}) {str(result.value)[:_LONGEST]}")
    try:
        return json.dumps(result.value)  # with NaN
    except (TypeError, ValueError, RecursionError):
        return json.dumps(row["value"])
