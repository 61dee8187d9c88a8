"""Real nodes, called by an asyncio program through the door that has the asyncio client's names."""

from __future__ import annotations

import asyncio

import pandas
from helpers.from_asyncio import in_asyncio

from trio_model_runner.compat import (
    Argument,
    DynamicSubclassModelConcurrentRunner,
    KwArgument,
    ModelPredictResult,
    Variant,
    VariantType,
    encode_data,
)

from .clusters import announced
from .node_process import NodePool


def argument(position: int, kind: VariantType, value: object) -> Argument:
    return Argument(position=position, data=Variant(type=kind, value=encode_data(kind, value)))


async def test_real_nodes_answer_an_asyncio_program(shared_pool: NodePool) -> None:
    async def program(port: int) -> None:
        runner = DynamicSubclassModelConcurrentRunner(
            30,
            "local",
            "127.0.0.1",
            port,
            "tracker.Tracker",
            instance_args=[argument(2, VariantType.INT, 2), argument(1, VariantType.STRING, "first")],
            instance_kwargs=[KwArgument("start", Variant(VariantType.INT, encode_data(VariantType.INT, 3)))],
        )
        await runner.init()
        syncing = asyncio.create_task(runner.sync())
        (made,) = (await runner.call("constructor")).values()
        assert made.result == {"args": ["first", 2], "start": 3, "scale": 1.0}
        told = {"b": [1, None], "a": 2.5}
        results = await asyncio.gather(
            runner.call("echo", ([argument(1, VariantType.JSON, told)], [])),
            runner.call("echo", lambda model: ([argument(1, VariantType.STRING, model.model_id)], [])),
            runner.call("answer", ([argument(1, VariantType.STRING, "frame")], [])),
            runner.call("no such method"),
        )
        echoed, own, frame, missing = (next(iter(each.values())) for each in results)
        assert echoed.result == told
        assert own.result == own.model_runner.model_id == node.model_id
        assert isinstance(frame.result, pandas.DataFrame)  # as there
        assert list(frame.result.columns) == ["price", "size", "name"]
        assert missing.status is ModelPredictResult.Status.FAILED
        await runner.close()
        await syncing

    (node,) = shared_pool.start("steady")
    async with announced([node]) as crunch:
        await in_asyncio(program, crunch.orchestrator.port)
