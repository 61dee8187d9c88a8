"""All models of a crunch together.

The room knows models as `model` has them, and the orchestrator's feed. It must not know gRPC, or what an
outcome of a call means: `model.policy` decides that. Read in this order:

1. `cluster` is what a coordinator uses. `block` starts everything and ends it.
2. `membership` decides which deployment of each model is in use. Its `promote` swaps the deployments of a
   model at a redeployment. `fleet` has the actors of all models, and joins the other parts.
3. `caller` makes rounds, and `rounds` is one round. `joining` lets the coordinator catch a new model up.
4. `reporting` keeps reports back until `model.policy.reports` releases them, and gives them to the feed.
5. `changes` and `snapshot` tell a coordinator what happens, and how things are.

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
