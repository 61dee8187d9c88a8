"""What an orchestrator of today says of a running model on this machine."""

from __future__ import annotations

from typing import Any

__all__ = ["Entry", "entry", "model_id"]

Entry = dict[str, Any]

NOBODY = {
    "cruncher_wallet_pubkey": "4uQeVj5tqViQh7yWWGStvkEG1Zmhx6uasJtWCJziofM",
    "cruncher_hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
}


def model_id(index: int) -> str:
    """The id of one of the models."""
    return f"model-{index}"


def entry(index: int, port: int, participant: dict[str, str] = NOBODY) -> Entry:
    """The entry of a model.

    Args:
        index: which one it is.
        port: where its node listens.
        participant: the participant's wallet and hotkey, which only matter in secure mode.
    """
    return {
        "deployment_id": f"deployment-{index}",
        "model_id": model_id(index),
        "state": "RUNNING",
        "ip": "127.0.0.1",
        "port": port,
        "infos": {
            "model_name": f"name-of-{index}",
            "cruncher_id": f"cruncher-{index}",
            "cruncher_name": f"somebody-{index}",
            **participant,
        },
    }
