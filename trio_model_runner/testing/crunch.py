"""A whole crunch inside this process: an orchestrator and its model nodes, run by one block.

A coordinator's own tests need rare events: models that join late, hang, crash in the middle of a call or come
back at another address, and an orchestrator that announces it. `LocalCrunch` runs both. Each of its methods
is one event in the life of a deployed model: the node changes, and the orchestrator announces it.

What is reported is looked up at the orchestrator. Only the failure texts know of clusters; see `reports`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import trio

from ..text import shown_scalar
from ..trio_needed import trio_needed
from ..workers import clock_jumps
from .arguments import check_arguments, check_infos, check_model, make_mode
from .deployment import Deployment
from .node import LocalNode
from .node_services import Service
from .orchestrator import LocalOrchestrator
from .reports import Reported

if TYPE_CHECKING:
    import os
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from ..config import ClusterConfig
    from ..network import MemoryNetwork
    from .entries import OrchestratorEntry

__all__ = ["LocalCrunch"]


class LocalCrunch(Reported):
    """An orchestrator and its model nodes, serving ordinary Python objects; an async context manager.

    ::

        async with LocalCrunch({"model-1": Model(), "model-2": lambda: Model(2)}) as crunch:
            async with Cluster(crunch.config(), DynamicSubclassService("module.Class")) as cluster:
                print(await cluster.call("predict"))

    Leaving the block ends everything at once, whatever clients do. An exception in the block leaves as
    itself.

    Args:
        models: model id to model. A class or a function makes a new instance at every Setup; any other
            object is the instance. Their methods may be plain or async; to be slow, be async and ``await
            trio.sleep``.
        network: a `MemoryNetwork` runs everything in memory, where ``autojump_clock`` may be used; None takes
            sockets on loopback.
        crunch_id: the crunch that the orchestrator knows.
        services: the services of the nodes, beside Health; deployed nodes have only `DYNAMIC_SUBCLASS`.
        threads: run methods that are not async in worker threads, where they may block. Not with
            ``autojump_clock``, which doesn't wait for threads.
        security: how nodes and coordinator prove who they are: "secure" (certificates on both sides, and a
            proof of the participant's wallet), "gateway" (TLS, and a token with every call), or None
            (plaintext). `config` has the credentials, which the crunch makes, as it makes the authority and
            the wallets. It needs the extra ``secure``.
        settle: each event (`add`, `crash` and the like) ends when the coordinator has taken it in; see
            `settle`. In memory only. The fixture `local_crunch` has it so. False leaves it to chance what the
            coordinator knows by then.

    Attributes:
        crunch_id: see above.
        network: see above. `MemoryNetwork.cut` takes nodes and orchestrator off it for a while.
        security: see above.
        orchestrator: the orchestrator; `LocalOrchestrator.stop`, ``start``, ``pause`` and the like are there.

    Raises:
        TypeError: an argument is of another type; the text names it. An argument that is no such value is a
            ValueError.
        RuntimeError: on entering, if this is no Trio program, or `threads` can't be used on its clock. Each
            method but `config` needs the block.
    """

    orchestrator: LocalOrchestrator

    def __init__(
        self,
        models: Mapping[str, Any] | None = None,
        *,
        network: MemoryNetwork | None = None,
        crunch_id: str = "local",
        services: Collection[Service] = (Service.DYNAMIC_SUBCLASS,),
        threads: bool = False,
        security: Literal["secure", "gateway"] | None = None,
        settle: bool = False,
    ) -> None:
        check_arguments(models, network, crunch_id, services, security, threads, settle)
        if settle and network is None:
            raise ValueError("settle: needs a MemoryNetwork; nobody knows what is under way on sockets")
        self.crunch_id = crunch_id
        self.network = network
        self.security = security
        self._mode = make_mode(security)
        self._models = dict(models or {})
        self._services = services
        self._threads = threads
        self._settles = settle
        self._deployments: list[Deployment] = []
        self._deployment_count = 0
        self._entered = False
        self._nursery: trio.Nursery
        self._nursery_manager: AbstractAsyncContextManager[trio.Nursery, bool | None]

    def __getattr__(self, name: str) -> Any:
        if name in ("orchestrator", "_nursery"):
            raise RuntimeError(
                "this LocalCrunch is not open: use it in `async with LocalCrunch(...) as crunch:`"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    async def __aenter__(self) -> Self:
        if (error := trio_needed("a LocalCrunch")) is not None:
            error.add_note(
                "Is it a test? Without the marks of asyncio and anyio, pytest-trio runs it; pytest-asyncio"
                " takes it all the same unless its asyncio_mode is strict."
            )
            raise error
        if self._entered:
            raise RuntimeError("a LocalCrunch can be entered only once")
        if self._threads and clock_jumps():
            raise RuntimeError(
                "threads=True can't be used on a clock that jumps: it doesn't wait for threads"
            )
        self._entered = True
        self._nursery_manager = trio.open_nursery()
        self._nursery = await self._nursery_manager.__aenter__()
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self.__aexit__)
            self.orchestrator = LocalOrchestrator(self.crunch_id, network=self.network)
            await self._nursery.start(self.orchestrator.run)
            for model_id, model in self._models.items():
                await self.add(model_id, model)
            stack.pop_all()
        return self

    async def _end(self, *exception: object) -> None:
        # The nursery is not told of an exception that leaves the block, or it would put it into a group. The
        # nursery is shielded, or a cancellation from outside would replace that exception. Its tasks end at
        # once.
        self._nursery.cancel_scope.shield = True
        self._nursery.cancel_scope.cancel()
        del self._nursery  # it is not open any more; see __getattr__
        await self._nursery_manager.__aexit__(None, None, None)

    __aexit__ = _end

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """The deployments that have a node, oldest first; the later of a model's two is the newer."""
        return tuple(self._deployments)

    def config(self, **settings: Any) -> ClusterConfig:
        """A `ClusterConfig` for this crunch, with its credentials. `settings` are further fields.

        Raises:
            TypeError: `crunch_id` is among them: the crunch has its own.
            ConfigError: see `ClusterConfig`.
        """
        from ..config import ClusterConfig

        if "crunch_id" in settings:
            given = f"crunch_id={shown_scalar(settings['crunch_id'])}"
            raise TypeError(
                f"crunch_id: the crunch has its own, {self.crunch_id!r}; give it where the crunch is made:"
                f" LocalCrunch({{...}}, {given}), or local_crunch({{...}}, {given})"
            )
        if self.network is not None:
            settings.setdefault("network", self.network)
        if self._mode is not None:
            settings.setdefault("credentials", self._mode.credentials)
        settings = {"host": self.orchestrator.host, "port": self.orchestrator.port, **settings}
        return ClusterConfig(self.crunch_id, **settings)

    def write_credentials(self, directory: str | os.PathLike[str]) -> None:
        """Write the coordinator's credentials into a directory, for a coordinator that loads them itself.

        For "secure" these are ``ca.crt``, ``tls.crt`` and ``tls.key``; for "gateway" ``key.pem``, and
        ``gateway-ca.crt`` with the authority that vouches for the gateways.

        Args:
            directory: an existing one, such as pytest's ``tmp_path``.

        Raises:
            RuntimeError: the crunch has no `security`.
            OSError: there is no such directory, or it has such a key already.
        """
        if self._mode is None:
            raise RuntimeError("this crunch has no credentials; LocalCrunch(..., security='secure') has")
        self._mode.write_credentials(Path(directory))

    def node(self, model_id: str) -> LocalNode:
        """The node of a model's newest deployment.

        Raises:
            KeyError: there is none.
        """
        return self._newest(model_id).node

    async def add(
        self,
        model_id: str,
        model: Any,
        *,
        name: str | None = None,
        infos: Mapping[str, Any] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        announce: bool = True,
    ) -> LocalNode:
        """Start a node and announce it as RUNNING.

        Args:
            model_id: the model.
            model: as in `LocalCrunch`.
            name: the model's name; None is its id.
            infos: keys to announce below the entry's ``infos``, or other values for them; see `Infos`.
            host: the host that the node listens on; in memory any name.
            port: the port that the node listens on; 0 takes a free one.
            announce: False does not announce it; see `announce`.

        Raises:
            TypeError: `model_id` is no text, `model` is None, or `infos` no mapping.
            ValueError: the model has a node (see `redeploy`), or with "secure" an id that no certificate can
                have; or `infos` has a key of the entry itself.
        """
        check_model(model_id, model)
        check_infos(infos)
        if any(deployment.model_id == model_id for deployment in self._deployments):
            raise ValueError(f"{model_id!r} is deployed already")
        described = {
            "model_name": model_id if name is None else name,
            "cruncher_id": f"cruncher-of-{model_id}",
            "cruncher_name": f"Author of {model_id}",
            **({} if self._mode is None else self._mode.infos(model_id)),
            **(infos or {}),
        }
        return await self._deploy(model_id, model, described, host, port, announce=announce)

    async def redeploy(
        self,
        model_id: str,
        model: Any,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        announce: bool = True,
    ) -> LocalNode:
        """Start a new deployment of a model on a node of its own and announce it; the old one stays up.

        The arguments are those of `add`. `retire` ends the old deployment.

        Raises:
            KeyError: the model has no node.
        """
        infos = self._open_deployment(model_id).infos
        check_model(model_id, model)
        return await self._deploy(model_id, model, infos, host, port, announce=announce)

    async def _deploy(
        self, model_id: str, model: Any, infos: Mapping[str, Any], host: str, port: int, *, announce: bool
    ) -> LocalNode:
        node = LocalNode(
            model,
            network=self.network,
            host=host,
            port=port,
            services=self._services,
            threads=self._threads,
            guard=None if self._mode is None else self._mode.guard(model_id, host),
        )
        await self._nursery.start(node.run)
        self._deployment_count += 1
        deployment = Deployment(model_id, f"deployment-{self._deployment_count}", infos, node)
        self._deployments.append(deployment)
        if announce:
            self.orchestrator.announce(deployment.entry("RUNNING"))
        await self._settle_if_wanted()
        return node

    def announce(self, model_id: str, state: str = "RUNNING", **changes: Any) -> None:
        """Announce a model's newest deployment, with `changes` to the keys of the entry, and do nothing else.

        Args:
            model_id: the model.
            state: RUNNING, STOPPED or RECOVERING.
            changes: other values for keys of `OrchestratorEntry`.

        Raises:
            KeyError: the model has no node.
            ValueError: no orchestrator would announce that; see `LocalOrchestrator.announce`.
        """
        entry = cast("OrchestratorEntry", {**self._open_deployment(model_id).entry(state), **changes})
        self.orchestrator.announce(entry)

    async def retire(self, model_id: str) -> None:
        """Announce every deployment of a model but the newest as STOPPED, and stop their nodes.

        Raises:
            KeyError: the model has no node.
        """
        newest = self._open_deployment(model_id)
        await self._stop([d for d in self._deployments if d.model_id == model_id and d is not newest])

    async def remove(self, model_id: str) -> None:
        """Announce a model's deployments as STOPPED, and stop their nodes.

        Raises:
            KeyError: the model has no node.
        """
        self._open_deployment(model_id)
        await self._stop([d for d in self._deployments if d.model_id == model_id])

    async def _stop(self, deployments: list[Deployment]) -> None:
        await trio.lowlevel.checkpoint()
        for deployment in deployments:
            self._deployments.remove(deployment)
            self.orchestrator.announce(deployment.entry("STOPPED"))
        async with trio.open_nursery() as nursery:
            for deployment in deployments:
                nursery.start_soon(deployment.node.stop)
        await self._settle_if_wanted()

    async def crash(self, model_id: str, *, announce: bool = True) -> None:
        """Let a model's newest node die at once, and announce it as RECOVERING.

        Raises:
            KeyError: the model has no node.
        """
        deployment = self._open_deployment(model_id)
        deployment.node.kill()
        if announce:
            self.orchestrator.announce(deployment.entry("RECOVERING"))
        await self._settle_if_wanted()

    async def recover(self, model_id: str, model: Any = None, *, announce: bool = True) -> LocalNode:
        """Start a crashed node again under its address, without an instance, and announce it as RUNNING.

        Args:
            model_id: the model.
            model: what to serve from now on; None is what it served before.
            announce: False does not announce it.

        Raises:
            KeyError: the model has no node.
            RuntimeError: its node is running.
        """
        deployment = self._open_deployment(model_id)
        deployment.node.restart(model)
        if announce:
            self.orchestrator.announce(deployment.entry("RUNNING"))
        await self._settle_if_wanted()
        return deployment.node

    async def settle(self) -> None:
        """Wait until all tasks of the program wait for something: whatever was said has been taken in.

        For what is no method here: after `orchestrator.kill()` or `node("a").break_connections()`, what the
        coordinator does at once is done when this returns. Time stands still on a clock that jumps. It does
        not return while some task is never without something to do.

        Raises:
            RuntimeError: the crunch is on sockets, where nobody knows what is under way.
        """
        if self.network is None:
            raise RuntimeError("settle() needs a crunch in memory; nobody knows what is under way on sockets")
        from trio.testing import wait_all_tasks_blocked  # late: it imports pytest where that is installed

        await wait_all_tasks_blocked()

    async def _settle_if_wanted(self) -> None:
        if self._settles:
            await self.settle()
        else:
            await trio.lowlevel.checkpoint()

    def _open_deployment(self, model_id: str) -> Deployment:
        _ = self._nursery  # an event needs the block; see __getattr__
        return self._newest(model_id)

    def _newest(self, model_id: str) -> Deployment:
        for deployment in reversed(self._deployments):
            if deployment.model_id == model_id:
                return deployment
        names = ", ".join(repr(each) for each in dict.fromkeys(d.model_id for d in self._deployments))
        raise KeyError(f"no model {model_id!r} has a node here; these have: {names or 'none'}")
