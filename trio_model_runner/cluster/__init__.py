"""All models of a crunch together.

To read in this order: `cluster` is what a coordinator uses, and `block` runs it. `membership` says which
deployments there should be, and `fleet` has them up. `caller` plays rounds, and `rounds` is one of them.
`reporting` is where reports wait; `changes` and `snapshot` tell what happens, and `joining` catches a new
model up.

A call's way: `Cluster.call` (`cluster`) goes to `caller`, which makes what is asked a `RoundSpec` and
`Requests` (`model.round_spec`); the service writes the request (`services.dynamic_subclass`, `values.data`).
A `Round` (`rounds`) makes a `Call` (`model.call`) for each `ModelActor` (`model.actor`), with a place in its
queue (`model.queueing`). A call begins when `model.node_connection` makes it a `UnaryCall` (`rpc.call`) on
the model's `rpc.connection`. `rpc.http2` opens a stream for it; when `rpc.writer` fetches what is to be sent,
`rpc.streams` and `rpc.headers` make frames of it, and the kernel gets them. Back: `rpc.reader` reads, and the
connection gives what `rpc.http2` makes of it to the `UnaryCall`, which wakes the round (`signal`). In the
round's task the `NodeConnection` verifies the answer, the service reads it (`rpc.message_reader`) as an
`Encoded` (`values.encoded`), and `values.data` decodes that. The actor notes the outcome if it is news, and
the results are a `values.prediction_round`. These are all the files; `tests/house/test_way.py` counts them.
"""
