"""A coordinator that runs with the asyncio client, or through our door: `python both_clients.py PORT CLIENT`.

Only its imports differ. It prints what it got as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

if sys.argv[2] == "reference":
    from model_runner_client.grpc.generated.commons_pb2 import Argument, KwArgument, Variant, VariantType
    from model_runner_client.model_concurrent_runners import DynamicSubclassModelConcurrentRunner
    from model_runner_client.utils.datatype_transformer import encode_data
else:
    from trio_model_runner.compat import (
        Argument,
        DynamicSubclassModelConcurrentRunner,
        KwArgument,
        Variant,
        VariantType,
        encode_data,
    )


def variant(kind: Any, value: Any) -> Variant:
    return Variant(type=kind, value=encode_data(kind, value))


VALUES = [
    (VariantType.JSON, {"deep": [1, None, {"x": 1.5}], 7: "seven"}),
    (VariantType.DOUBLE, 2.5),
    (VariantType.INT, -7),
    (VariantType.STRING, "grün"),
]


async def main() -> None:
    runner = DynamicSubclassModelConcurrentRunner(
        timeout=20,
        crunch_id="local",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        base_classname="crunch.Model",
        report_failure=False,
    )
    rounds = []

    async def play(*arguments: Any, **options: Any) -> None:
        results = await runner.call(*arguments, **options)
        assert all(model is each.model_runner and each.exec_time_us > 0 for model, each in results.items())
        rounds.append(
            {model.model_id: [each.status.name, each.result] for model, each in sorted_by_id(results)}
        )

    def sorted_by_id(results: Any) -> Any:
        return sorted(results.items(), key=lambda item: str(item[0].model_id))

    await runner.init()
    syncing = asyncio.create_task(runner.sync())
    for kind, value in VALUES:
        await play("predict", ([Argument(position=1, data=variant(kind, value))], []))
    pair = [Argument(position=9, data=variant(*VALUES[1])), Argument(position=3, data=variant(*VALUES[2]))]
    await play(method_name="pair", arguments=(pair, [KwArgument(keyword="third", data=variant(*VALUES[3]))]))
    await play("pair", args=pair, kwargs=[])
    models = runner.model_cluster.models_run
    await play("predict", model_runs=[models["a"]])
    await play(
        "predict",
        lambda model: ([Argument(position=1, data=variant(VariantType.STRING, model.model_name))], []),
        model_runs=[models[each] for each in "ab"],
    )
    await play("nothing")
    await play("fail")
    told = [
        [model.model_id, model.model_name, model.deployment_id, model.ip, model.port, model.infos]
        for _, model in sorted(models.items())
    ]
    sys.stdout.write(json.dumps({"rounds": rounds, "models": told}))
    sys.stdout.flush()
    assert not syncing.done()
    os._exit(0)  # the asyncio client can't close


asyncio.run(main())
