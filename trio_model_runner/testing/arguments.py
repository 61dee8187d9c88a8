"""What a `LocalCrunch` is made with: mistakes are found before anything runs, and named."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ..given import check_flag
from ..network import MemoryNetwork
from .entries import Infos, OrchestratorEntry
from .node_services import Service

if TYPE_CHECKING:
    from .security import Mode

__all__ = ["NotEntered", "check_arguments", "check_infos", "check_model", "make_mode"]


def check_arguments(
    models: object,
    network: object,
    crunch_id: object,
    services: object,
    security: object,
    threads: object,
    settle: object,
) -> None:
    """Check what a `LocalCrunch` is made with.

    Raises:
        TypeError: an argument is of another type; the text names it.
        ValueError: it is no such value.
    """
    if models is not None and not isinstance(models, Mapping):
        raise TypeError(f"models: must be a mapping from model ids to models, got {type(models).__name__}")
    for model_id, model in (models or {}).items():
        check_model(model_id, model)
    if network is not None and not isinstance(network, MemoryNetwork):
        raise TypeError(f"network: must be a MemoryNetwork, or None for sockets, got {network!r}")
    if not isinstance(crunch_id, str):
        raise TypeError(f"crunch_id: must be text, got {crunch_id!r}")
    if (
        not isinstance(services, Collection)
        or isinstance(services, str)
        or not all(isinstance(each, Service) for each in services)
    ):
        raise TypeError(f"services: must be a collection of Service, got {services!r}")
    if security not in ("secure", "gateway", None):
        raise ValueError(f"security: must be 'secure', 'gateway' or None, got {security!r}")
    check_flag(threads, "threads")
    check_flag(settle, "settle")


def check_model(model_id: object, model: object) -> None:
    """Check what is deployed.

    Raises:
        TypeError: the id is no text, or there is no model.
    """
    if not isinstance(model_id, str) or not model_id:
        raise TypeError(f"model_id: must be text that is not empty, got {model_id!r}")
    if model is None:
        raise TypeError(f"model: {model_id!r} must be an object, a class or a function, got None")


def check_infos(infos: object) -> None:
    """Check what is announced of a model beside where it runs.

    Raises:
        TypeError: it is no mapping.
        ValueError: it has a key of the entry itself, where nobody would look for it.
    """
    if infos is None:
        return
    if not isinstance(infos, Mapping):
        raise TypeError(f"infos: must be a mapping such as {{'cruncher_id': 'me'}}, got {infos!r}")
    for key in infos:
        if key in OrchestratorEntry.__annotations__ and key not in Infos.__annotations__:
            raise ValueError(
                f"infos: {key!r} is a key of the entry; crunch.announce(..., {key}=...) changes it"
            )


class NotEntered:
    """What is run in a nursery, and is no block of its own: whoever enters it is told so."""

    if not TYPE_CHECKING:  # type checkers know by themselves that this is wrong

        async def __aenter__(self):
            name = type(self).__name__
            raise RuntimeError(f"a {name} is run in a nursery, by await nursery.start({name}(...).run)")

        async def __aexit__(self, kind, error, traceback):
            raise AssertionError  # Python looks for it before it enters


def make_mode(security: str | None) -> Mode | None:
    """Make what secures a crunch; None is plaintext.

    Raises:
        ConfigError: a package is missing; the text names the extra.
    """
    if security is None:
        return None
    from ..security.keys import require_packages

    require_packages()
    from .security import GatewayMode, SecureMode

    return SecureMode() if security == "secure" else GatewayMode()
