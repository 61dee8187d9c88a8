"""A whole crunch inside this process: an orchestrator and its model nodes, run by one block.

A coordinator's own tests need rare events: models that join late, hang, crash in the middle of a call or come
back at another address, and an orchestrator that announces it. `LocalCrunch` runs both. Each of its methods
is one event in the life of a deployed model: the node changes, and the orchestrator announces it.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .node import LocalNode
from .node_services import Service
from .orchestrator import LocalOrchestrator

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from ..config import ClusterConfig
    from ..network import MemoryNetwork

__all__ = ["Deployment", "LocalCrunch"]


@attrs.frozen(eq=False)
class Deployment:
    """One deployment of one model.

    Attributes:
        model_id: the model.
        deployment_id: the deployment, new for each.
        infos: what else the orchestrator says about it.
        node: the node that serves it.
    """

    model_id: str
    deployment_id: str
    infos: Mapping[str, Any]
    node: LocalNode

    def entry(self, state: str) -> dict[str, Any]:
        """What the orchestrator announces: with an address if `state` is RUNNING, else without."""
        running = state == "RUNNING"
        return {
            "deployment_id": self.deployment_id,
            "model_id": self.model_id,
            "state": state,
            "ip": self.node.host if running else "",
            "port": self.node.port if running else 0,
            "infos": dict(self.infos),
        }


class LocalCrunch:
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

    Attributes:
        crunch_id: see above.
        network: see above. `MemoryNetwork.cut` takes nodes and orchestrator off it for a while.
        orchestrator: the orchestrator; `LocalOrchestrator.stop`, ``start``, ``pause`` and the like are there.
    """

    def __init__(
        self,
        models: Mapping[str, Any] | None = None,
        *,
        network: MemoryNetwork | None = None,
        crunch_id: str = "local",
        services: Collection[Service] = (Service.DYNAMIC_SUBCLASS,),
        threads: bool = False,
    ) -> None:
        self.crunch_id = crunch_id
        self.network = network
        self.orchestrator: LocalOrchestrator
        self._models = dict(models or {})
        self._services = services
        self._threads = threads
        self._deployments: list[Deployment] = []
        self._deployment_count = 0
        self._nursery: trio.Nursery
        self._nursery_manager: AbstractAsyncContextManager[trio.Nursery, bool | None]

    async def __aenter__(self) -> Self:
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
        await self._nursery_manager.__aexit__(None, None, None)

    __aexit__ = _end

    @property
    def reports(self) -> list[dict[str, Any]]:
        """Every failure that was reported, oldest first, as it was sent."""
        return self.orchestrator.reports

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """The deployments that have a node, oldest first; the later of a model's two is the newer."""
        return tuple(self._deployments)

    def config(self, **settings: Any) -> ClusterConfig:
        """A `ClusterConfig` for this crunch. `settings` are further fields."""
        from ..config import ClusterConfig

        if self.network is not None:
            settings.setdefault("network", self.network)
        settings = {"host": self.orchestrator.host, "port": self.orchestrator.port, **settings}
        return ClusterConfig(self.crunch_id, **settings)

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
            infos: further keys to announce, or other values for them.
            host: the host that the node listens on; in memory any name.
            port: the port that the node listens on; 0 takes a free one.
            announce: False does not announce it; see `announce`.

        Raises:
            ValueError: the model has a node; see `redeploy`.
        """
        if any(deployment.model_id == model_id for deployment in self._deployments):
            raise ValueError(f"{model_id!r} is deployed already")
        described = {
            "model_name": model_id if name is None else name,
            "cruncher_id": f"cruncher-of-{model_id}",
            "cruncher_name": f"Author of {model_id}",
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
        return await self._deploy(
            model_id, model, self._newest(model_id).infos, host, port, announce=announce
        )

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
        )
        await self._nursery.start(node.run)
        self._deployment_count += 1
        deployment = Deployment(model_id, f"deployment-{self._deployment_count}", infos, node)
        self._deployments.append(deployment)
        if announce:
            self.orchestrator.announce(deployment.entry("RUNNING"))
        return node

    def announce(self, model_id: str, state: str = "RUNNING", **changes: Any) -> None:
        """Announce a model's newest deployment, with `changes` to the keys of the entry, and do nothing else.

        Raises:
            KeyError: the model has no node.
        """
        self.orchestrator.announce({**self._newest(model_id).entry(state), **changes})

    async def retire(self, model_id: str) -> None:
        """Announce every deployment of a model but the newest as STOPPED, and stop their nodes.

        Raises:
            KeyError: the model has no node.
        """
        newest = self._newest(model_id)
        await self._stop([d for d in self._deployments if d.model_id == model_id and d is not newest])

    async def remove(self, model_id: str) -> None:
        """Announce a model's deployments as STOPPED, and stop their nodes.

        Raises:
            KeyError: the model has no node.
        """
        self._newest(model_id)
        await self._stop([d for d in self._deployments if d.model_id == model_id])

    async def _stop(self, deployments: list[Deployment]) -> None:
        await trio.lowlevel.checkpoint()
        for deployment in deployments:
            self._deployments.remove(deployment)
            self.orchestrator.announce(deployment.entry("STOPPED"))
        async with trio.open_nursery() as nursery:
            for deployment in deployments:
                nursery.start_soon(deployment.node.stop)

    async def crash(self, model_id: str, *, announce: bool = True) -> None:
        """Let a model's newest node die at once, and announce it as RECOVERING.

        Raises:
            KeyError: the model has no node.
        """
        deployment = self._newest(model_id)
        deployment.node.kill()
        if announce:
            self.orchestrator.announce(deployment.entry("RECOVERING"))
        await trio.lowlevel.checkpoint()

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
        deployment = self._newest(model_id)
        deployment.node.restart(model)
        if announce:
            self.orchestrator.announce(deployment.entry("RUNNING"))
        await trio.lowlevel.checkpoint()
        return deployment.node

    async def wait_for_reports(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until `count` failures, or more, were reported, and return `reports`."""
        await self.orchestrator.wait_for_reports(count)
        return self.reports

    def _newest(self, model_id: str) -> Deployment:
        for deployment in reversed(self._deployments):
            if deployment.model_id == model_id:
                return deployment
        raise KeyError(model_id)
