import trio, pytest
from helpers.coordinating import Model, SERVICE
from trio_model_runner import Arguments, Status
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.sharding.sharded_cluster import ShardedCluster
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.shard_engine import InProcessEngine


async def test_it(autojump_clock):
    net = MemoryNetwork()
    async with LocalCrunch(dict.fromkeys("abcdef", Model), network=net) as crunch:
        engine = InProcessEngine(network=net)
        async with ShardedCluster(crunch.config(), SERVICE, shards=2, engine=engine) as cluster:
            print(cluster, trio.current_time())
            got = await cluster.call("predict", Arguments(1))
            print(got, {m.model_id: r.value for m, r in got.items()})
            assert len(got.succeeded) == 6
            print(cluster.snapshot().to_dict())
            t = trio.current_time()
            got = await cluster.call("hang", timeout=2)
            print(got, trio.current_time() - t, [r.detail for r in got.values()])
            async with cluster.as_completed(
                "predict", lambda m: Arguments(m.model_id), returns=str, timeout=1
            ) as r:
                async for x in r:
                    print(x, x.value, x.error)
            print(r.round)
            engine.shards[0].kill()
            await trio.sleep(1)
            print(cluster, cluster.snapshot().to_dict()["shards"])
            got = await cluster.call("tick", Arguments(1), timeout=2)
            print(got)


async def test_local():
    async with LocalCrunch(dict.fromkeys("abcdef", Model)) as crunch:
        async with ShardedCluster(crunch.config(), SERVICE, shards=2) as cluster:
            print(cluster)
            got = await cluster.call("predict", Arguments(1))
            print(got, {m.model_id: r.value for m, r in got.items()})
            assert len(got.succeeded) == 6
            await trio.sleep(0.6)
            print(cluster.snapshot().to_dict()["shards"])
