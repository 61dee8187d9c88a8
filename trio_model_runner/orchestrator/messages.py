"""What the orchestrator says, as values, and the reports that it is sent.

An orchestrator sends JSON objects, one in each WebSocket message. Some deployed orchestrators leave fields
out, and their operators make mistakes: a port as text, an address that is null while a model is down, a model
without an id. One bad entry must not cost the good entries beside it, and nothing may raise. So any text
gives an `Init`, an `Update` or nothing. Each mistake is logged once, not each time when it is sent. Texts
from outside are short and escaped in the log, since a terminal may show it. And an orchestrator may not fill
the memory of this process: ids are short and printable, a message has a bounded number of entries, and
`infos` bounds what is kept about a model.

Nothing here knows of connections, and nothing does I/O.
"""

from __future__ import annotations

import enum
import json
import logging
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeGuard

import attrs

from ..config.validators import is_host
from ..text import quoted
from ..values.failure_codes import FailureCode
from .infos import NO_INFOS, freeze

__all__ = [
    "Disconnected",
    "Entry",
    "FailureReport",
    "FeedEvent",
    "Init",
    "MessageParser",
    "RunState",
    "Update",
]

logger = logging.getLogger("trio_model_runner.orchestrator")

_REMEMBERED_COMPLAINTS = 1000
_COMPLAINTS_LOGGED_PER_MESSAGE = 20
_LONGEST_ID = 256  # characters


class RunState(enum.StrEnum):
    """What the orchestrator says about a deployment."""

    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    RECOVERING = "RECOVERING"  # it crashed and is being started again


_STATES = {state.value: state for state in RunState}


@attrs.frozen
class Entry:
    """One deployment of one model, as the orchestrator describes it.

    Attributes:
        model_id: the model's id, the same over all its deployments.
        deployment_id: the deployment's id; None from the oldest orchestrators, which have none.
        state: what the deployment is doing.
        host: where its gRPC server listens: a host name or an IP address. Empty where unknown, never for
            RUNNING.
        port: the server's TCP port. 0 where unknown, never for RUNNING.
        infos: what else the orchestrator says about the model. It is read-only, with tuples for lists.
    """

    model_id: str
    deployment_id: str | None
    state: RunState
    host: str = ""
    port: int = 0
    infos: Mapping[str, Any] = attrs.field(default=NO_INFOS, hash=False)


@attrs.frozen
class Init:
    """Everything that runs now. What is not in it is gone. It is the first event of every connection.

    Attributes:
        entries: the deployments.
        corrects: the connection was not lost, and this only mends what was missed: an entry that says nothing
            new announces nothing.
    """

    entries: tuple[Entry, ...]
    corrects: bool = False


@attrs.frozen
class Update:
    """What has changed. Everything else stays as it was."""

    entries: tuple[Entry, ...]


@attrs.frozen
class Disconnected:
    """The connection is lost. The models probably still run. The next event will be an `Init`."""

    error: str


FeedEvent: TypeAlias = Init | Update | Disconnected


@attrs.frozen
class FailureReport:
    """A report about a model, for the orchestrator.

    Attributes:
        model_id: the model's id.
        deployment_id: the deployment that failed. It is not sent; it serves to see whether the report is
            still right.
        host: the deployment's `Entry.host`. The orchestrator finds the run by model and host, so another host
            could stop another deployment.
        code: what kind of failure it is.
        reason: what the model's author is shown.
    """

    model_id: str
    deployment_id: str | None
    host: str
    code: FailureCode
    reason: str | None = None

    def to_message(self) -> str:
        """Make the JSON message to send. It has one report: a bad one makes its whole message fail."""
        return json.dumps(
            {
                "event": "report_failure",
                "data": [
                    {
                        "model_id": self.model_id,
                        "failure_code": str(self.code),
                        "failure_reason": self.reason,
                        "ip": self.host,
                    }
                ],
            }
        )


class _BadEntry(Exception):
    """An entry is wrong; the text says how."""


class MessageParser:
    """Reads the orchestrator's messages, and remembers what it has complained about.

    Args:
        max_models: how many models there may be. Two entries for each are read of a message; further entries
            are skipped.

    Attributes:
        refusal: the text of the orchestrator's last ``{"error": ...}`` message, quoted; None if there was
            none. The orchestrator closes the connection after such a message.
    """

    def __init__(self, *, max_models: int = 10_000) -> None:
        self.refusal: str | None = None
        self._max_entries = 2 * max_models  # a model that is being redeployed is listed twice
        self._complaints: dict[str, None] = {}  # the oldest first
        self._left_to_log = 0
        self._not_logged = 0

    def parse(self, text: str | bytes) -> Init | Update | None:
        """Read one message; None if it has no event. No `text` makes this raise."""
        self._left_to_log, self._not_logged = _COMPLAINTS_LOGGED_PER_MESSAGE, 0
        try:
            event = self._parse_message(json.loads(text))
        except (
            ValueError,
            RecursionError,
        ) as error:  # bad UTF-8, bad JSON, a number too long, a nesting too deep
            self._complain(f"a message is no JSON: {quoted(str(error))}")
            event = None
        if self._not_logged:
            logger.warning("the orchestrator: and %d more complaints about this message", self._not_logged)
        return event

    def _parse_message(self, message: object) -> Init | Update | None:
        if not isinstance(message, dict):
            self._complain(f"a message is {quoted(message)}, not an object")
            return None
        event = message.get("event")
        if event is None and "error" in message:
            self.refusal = quoted(message["error"])
            logger.error("the orchestrator refuses us: %s", self.refusal)
            return None
        if event not in ("init", "update"):
            self._complain(f"unknown event {quoted(event)}")
            return None
        data = message.get("data")
        if not isinstance(data, list):
            self._complain(f"the data of {quoted(event)} is {quoted(data)}, not a list")
            return None
        entries = []
        if len(data) > self._max_entries:
            self._complain(f"a message has {len(data)} entries; the first {self._max_entries} are read")
        for item in data[: self._max_entries]:
            try:
                entries.append(self._parse_entry(item))
            except (_BadEntry, RecursionError) as error:
                self._complain(str(error))
        return Init(tuple(entries)) if event == "init" else Update(tuple(entries))

    def _parse_entry(self, item: object) -> Entry:
        if not isinstance(item, dict):
            raise _BadEntry(f"an entry is {quoted(item)}, not an object")
        model_id = item.get("model_id")
        if not _is_id(model_id):
            raise _BadEntry(f"an entry's model_id is {quoted(model_id)}")
        deployment_id = item.get("deployment_id") or None
        if deployment_id is not None and not _is_id(deployment_id):
            raise _BadEntry(f"model {quoted(model_id)}: deployment_id is {quoted(deployment_id)}")
        named = item.get("state")
        state = _STATES.get(named) if isinstance(named, str) else None
        if state is None:
            raise _BadEntry(f"model {quoted(model_id)}: state is {quoted(named)}")
        host, port = _parse_host(item.get("ip")), _parse_port(item.get("port"))
        if state is RunState.RUNNING and not (host and port):
            address = f"ip is {quoted(item.get('ip'))}, port is {quoted(item.get('port'))}"
            raise _BadEntry(f"model {quoted(model_id)}: {address}")
        return Entry(model_id, deployment_id, state, host, port, self._parse_infos(model_id, item))

    def _parse_infos(self, model_id: str, item: Mapping[str, Any]) -> Mapping[str, Any]:
        infos = item.get("infos")
        if infos is None:
            infos = {}
        elif not isinstance(infos, dict):
            self._complain(f"model {quoted(model_id)}: infos is {quoted(infos)}")
            infos = {}
        if "model_name" in item:
            infos.setdefault("model_name", item["model_name"])
        try:
            return freeze(infos)
        except ValueError as error:
            self._complain(f"model {quoted(model_id)}: its infos are dropped: {error}")
            return NO_INFOS

    def _complain(self, complaint: str) -> None:
        if complaint in self._complaints:
            return
        if not self._left_to_log:
            self._not_logged += 1
            return
        self._left_to_log -= 1
        if len(self._complaints) >= _REMEMBERED_COMPLAINTS:
            del self._complaints[next(iter(self._complaints))]
        self._complaints[complaint] = None
        logger.warning("the orchestrator: %s", complaint)


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and value.isprintable()


def _parse_host(value: object) -> str:
    return value if isinstance(value, str) and is_host(value) else ""


def _parse_port(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 5:
        value = int(value)
    return value if type(value) is int and 1 <= value <= 65535 else 0
