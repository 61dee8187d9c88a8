"""The models of one crunch on several processes: one driver, and shards that an engine launches.

The driver is the coordinator's process. It alone has the orchestrator's feed, decides which deployments are
in use, runs `on_join`, judges and reports. A shard has connections to a part of the models, and makes calls
on them. The driver is an ordinary `cluster.fleet.Fleet` whose actors are elsewhere, and a shard runs ordinary
actors without an orchestrator; between them are small messages. Nothing here may know gRPC.

Read in this order: `messages` has all that driver and shards say to each other, and `wire` the bytes of it:
`wire_fields` has its small fields, `wire_columns` what is large or many, and `wire_json` is strict JSON.
`wire_values` makes plain values of services, settings and arguments, for these messages.
`engine` is what launches shards. `lease` says until when a shard may call its models.

`shard` is the whole of a shard. `shard_supervisor` has its models, and `shard_rounds` plays the rounds that
the driver asks for. `shard_results` makes columns of what came, `shard_judge` passes on what counts, and
`shard_outbox` sends all that is said.
"""
