"""The way to the orchestrator: name, TCP, TLS, WebSocket, and the list of models.

It is the way that `orchestrator.conversation` takes, one stage at a time. A client that comes and goes can
cost other clients an update, so there is one connection, and it is closed as soon as the list has come.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import trio

from ...network import address_text
from ...network.tls import TLSNetwork
from ...orchestrator.messages import Entry, Init, MessageParser, RunState
from ...orchestrator.websocket import WebSocket, WebSocketLost, host_header
from ...text import quoted
from ..log import LIBRARY, log_to
from .advice import Place, of_name, of_silence, of_tcp, of_tls
from .findings import OrchestratorReport, Stage, Step, Trouble
from .streams import OpenStream, speaks_tls

if TYPE_CHECKING:
    from ...config import ClusterConfig

__all__ = ["check_orchestrator"]

_HERE: Final = Place.ORCHESTRATOR
_MOST_COMPLAINTS: Final = 100


class _TroubleError(Exception):
    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.what)
        self.trouble = trouble


async def check_orchestrator(config: ClusterConfig, timeout: float) -> OrchestratorReport:
    """Go the way to the orchestrator.

    Args:
        config: the settings.
        timeout: seconds that each stage may take.
    """
    report = OrchestratorReport()
    try:
        stream = await _connect(config, timeout, report)
        try:
            await _listen(config, timeout, stream, report)
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
    except _TroubleError as error:
        report.trouble = error.trouble
    return report


async def _connect(config: ClusterConfig, timeout: float, report: OrchestratorReport) -> trio.abc.Stream:
    host, port, address = config.host, config.port, address_text(config.host, config.port)
    with _in_time(Stage.NAME, "the resolver does not answer", address, timeout), _failing(of_name):
        await config.network.look_up(host)
    report.steps.append(Step(Stage.NAME, host))
    with _in_time(Stage.TCP, "no answer", address, timeout):
        try:
            stream = await config.network.connect(host, port)
        except OSError as error:
            raise _TroubleError(of_tcp(error, address, _HERE)) from error
    report.steps.append(Step(Stage.TCP, address))
    context = config.orchestrator_tls()
    if context is None:
        return stream
    tls = TLSNetwork(context, OpenStream(stream), protocol=None)
    with _in_time(Stage.TLS, "no answer to the TLS handshake", address, timeout), _failing(of_tls):
        encrypted = await tls.connect(host, port)
    report.steps.append(Step(Stage.TLS, "the certificate is good"))
    return encrypted


async def _listen(
    config: ClusterConfig, timeout: float, stream: trio.abc.Stream, report: OrchestratorReport
) -> None:
    try:
        async with trio.open_nursery() as nursery:
            websocket = await _shake_hands(config, timeout, nursery, stream)
            report.steps.append(Step(Stage.WEBSOCKET, f"/{config.crunch_id}"))
            report.entries = await _receive_list(config, timeout, websocket, report)
            with trio.move_on_after(config.shutdown_grace):
                await websocket.aclose()
            nursery.cancel_scope.cancel()
    except* WebSocketLost as group:
        raise _TroubleError(await _of_loss(config, group.exceptions[0], report)) from group
    except* _TroubleError as group:
        error = group.exceptions[0]
        assert isinstance(error, _TroubleError)
        raise _TroubleError(error.trouble) from group
    report.steps.append(Step(Stage.INIT, _count(report.entries)))
    if not any(entry.state is RunState.RUNNING for entry in report.entries):
        detail = f"in crunch {quoted(config.crunch_id)}"
        if report.entries:
            advice = "All are stopped, or are being started: start models, or look at why they were stopped."
        else:
            advice = "Check crunch_id: an orchestrator may send an empty list for one that it does not know."
        report.trouble = Trouble(Stage.INIT, "no model runs", detail, advice)


async def _shake_hands(
    config: ClusterConfig, timeout: float, nursery: trio.Nursery, stream: trio.abc.Stream
) -> WebSocket:
    address = address_text(config.host, config.port)
    with _in_time(Stage.WEBSOCKET, "no answer to the WebSocket handshake", address, timeout):
        return await WebSocket.open(
            nursery,
            stream,
            host=host_header(config.host, config.port, default_port=80 if config.tls is False else 443),
            path=f"/{quote(config.crunch_id, safe='')}",
            max_message_bytes=config.orchestrator.max_message_bytes,
        )
    raise AssertionError


async def _receive_list(
    config: ClusterConfig, timeout: float, websocket: WebSocket, report: OrchestratorReport
) -> tuple[Entry, ...]:
    parser = MessageParser(max_models=config.orchestrator.max_models)
    crunch = quoted(config.crunch_id)
    with _complaints(report.complaints), trio.move_on_after(timeout):
        while True:
            event = parser.parse(await websocket.receive())
            if isinstance(event, Init):
                return event.entries
            if parser.refusal is not None:
                report.complaints[:] = [text for text in report.complaints if parser.refusal not in text]
                advice = "Check crunch_id: it must be spelt as the orchestrator has it."
                what = "the orchestrator refuses this crunch"
                raise _TroubleError(Trouble(Stage.INIT, what, f"{crunch}: {parser.refusal}", advice))
    detail = f"connected, but no list of models for crunch {crunch} came within {timeout:g} s"
    advice = "Is this an orchestrator? Is the crunch id right? Look at the orchestrator's log."
    raise _TroubleError(Trouble(Stage.INIT, "no init came", detail, advice))


class _Gathering(logging.Handler):
    """Keeps what the reader of messages complains about, each complaint once.

    Args:
        kept: where to.
    """

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        text = record.getMessage()
        if len(self._kept) < _MOST_COMPLAINTS and text not in self._kept:
            self._kept.append(text)


def _complaints(kept: list[str]) -> contextlib.AbstractContextManager[None]:
    """Gather the complaints about what the orchestrator says: they are findings here, and not for the log.

    They are gathered whatever level the log has.
    """
    name = f"{LIBRARY}.orchestrator"
    level = min(logging.getLogger(name).getEffectiveLevel(), logging.WARNING)
    return log_to(_Gathering(kept), name, level=level)


@contextlib.contextmanager
def _in_time(stage: Stage, what: str, where: str, timeout: float) -> Iterator[None]:
    with trio.move_on_after(timeout) as scope:
        yield
    if scope.cancelled_caught:
        raise _TroubleError(of_silence(stage, what, where, timeout, _HERE))


@contextlib.contextmanager
def _failing(meaning: Callable[[OSError, Place], Trouble]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _TroubleError(meaning(error, _HERE)) from error


async def _of_loss(config: ClusterConfig, error: BaseException, report: OrchestratorReport) -> Trouble:
    """What it means that the WebSocket could not be opened, or was lost."""
    if report.steps[-1].stage is not Stage.WEBSOCKET:
        if config.tls is False and await speaks_tls(config.network, config.host, config.port):
            what, advice = "TLS where plaintext is spoken", "Set tls to true (--tls), or check the port."
            return Trouble(Stage.TLS, what, str(error), advice)
        advice = "Check host and port: something else than an orchestrator may listen there."
        return Trouble(Stage.WEBSOCKET, "no WebSocket", str(error), advice)
    advice = "Check crunch_id. If it is right, look at the orchestrator's log."
    return Trouble(Stage.INIT, "no init came", str(error), advice)


def _count(entries: tuple[Entry, ...]) -> str:
    models, states = len({each.model_id for each in entries}), Counter(each.state.value for each in entries)
    listed = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    text = f"{models} {'model' if models == 1 else 'models'}"
    if len(entries) > models:
        text = f"{len(entries)} entries of {text}"
    return f"{text}{f': {listed}' if listed else ''}"
