"""What an orchestrator announces: the entries on the wire, and what is wrong with one that is none.

A test that announces what no orchestrator would say finds a coordinator that ignores it, and searches for the
reason in the wrong place. So a wrong entry is refused. What deployed orchestrators do say passes, also the
oldest ones. For what is truly wrong there are `LocalOrchestrator.send_text` and ``greeting``.

It knows texts and numbers, and nothing of nodes or connections.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any, Final, Literal, Required, TypedDict

__all__ = ["Infos", "OrchestratorEntry", "check_entry"]


class Infos(TypedDict, total=False):
    """What an orchestrator says about a model beside where it runs. Further keys may come.

    Keys:
        model_name: the name that people gave it.
        cruncher_id: its author.
        cruncher_name: the author's name.
        cruncher_wallet_pubkey: the public key of the author's wallet, base58. Secure nodes are proved by it.
        cruncher_hotkey: the author's hotkey; secure nodes name it in their proof.
    """

    model_name: str
    cruncher_id: str
    cruncher_name: str
    cruncher_wallet_pubkey: str
    cruncher_hotkey: str


class OrchestratorEntry(TypedDict, total=False):
    """One deployment of one model, as orchestrators announce it.

    Keys:
        model_id: the model, the same over all its deployments.
        deployment_id: the deployment, new for each. The oldest orchestrators have none.
        state: RUNNING, STOPPED, or RECOVERING (it crashed and is being started again).
        ip: where its gRPC server listens: an IP address or a host name. Required for RUNNING; else it may be
            empty or None.
        port: the server's port, also as text. Required for RUNNING; else it may be 0 or None.
        infos: see `Infos`; any mapping with values of JSON.
        model_name: as in `Infos`, from the oldest orchestrators, which have no `infos`.
    """

    model_id: Required[str]
    deployment_id: str | None
    state: Required[Literal["RUNNING", "STOPPED", "RECOVERING"]]
    ip: str | None
    port: int | str | None
    infos: Mapping[str, Any] | None
    model_name: str


_KEYS: Final = tuple(OrchestratorEntry.__annotations__)
_STATES: Final = ("RUNNING", "STOPPED", "RECOVERING")


def check_entry(entry: Mapping[str, Any]) -> None:
    """Check that an orchestrator could announce this.

    Raises:
        TypeError: it is no mapping.
        ValueError: it is not; the text names the key, and the model.
    """
    if not isinstance(entry, Mapping):
        raise TypeError(f"an entry must be a mapping with the keys of OrchestratorEntry, got {entry!r}")
    for key in entry:
        if key not in _KEYS:
            close = difflib.get_close_matches(str(key), _KEYS, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"the keys are {', '.join(_KEYS)}"
            raise _wrong(entry, f"no orchestrator sends the key {key!r}; {hint}")
    for key in ("model_id", "state"):
        if key not in entry:
            raise _wrong(entry, f"has no {key}")
    model_id, deployment_id, state = entry["model_id"], entry.get("deployment_id"), entry["state"]
    if not isinstance(model_id, str) or not model_id:
        raise _wrong(entry, f"model_id must be text that is not empty, got {model_id!r}")
    if deployment_id is not None and not isinstance(deployment_id, str):
        raise _wrong(entry, f"deployment_id must be text, or None, got {deployment_id!r}")
    if state not in _STATES:
        raise _wrong(entry, f"state must be one of {', '.join(_STATES)}, got {state!r}")
    _check_address(entry, required=state == "RUNNING")
    _check_infos(entry)


def _check_address(entry: Mapping[str, Any], *, required: bool) -> None:
    ip, port = entry.get("ip"), entry.get("port")
    if not isinstance(ip, str | None) or (required and not ip):
        raise _wrong(entry, f"ip must be an address or a host name{_unless(required)}, got {ip!r}")
    number = int(port) if isinstance(port, str) and port.isascii() and port.isdecimal() else port
    fits = isinstance(number, int) and not isinstance(number, bool) and (0 < number < 65536)
    if not fits and (required or port not in (0, "0", "", None) or port is False):
        raise _wrong(entry, f"port must be a number from 1 to 65535{_unless(required)}, got {port!r}")


def _unless(required: bool) -> str:
    return " for a deployment that is RUNNING" if required else ", or None"


def _check_infos(entry: Mapping[str, Any]) -> None:
    infos = entry.get("infos")
    if not isinstance(infos, Mapping | None):
        raise _wrong(entry, f"infos must be a mapping, got {infos!r}")
    try:
        json.dumps(dict(entry))
    except (TypeError, ValueError) as error:
        raise _wrong(entry, f"can't be sent as JSON: {error}") from error


def _wrong(entry: Mapping[str, Any], text: str) -> ValueError:
    return ValueError(f"the entry of {entry.get('model_id', 'no model')!r}: {text}")
