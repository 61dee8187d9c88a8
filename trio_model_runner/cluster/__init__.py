"""All models of a crunch together.

The room knows models as `model` has them, and the orchestrator's feed. It must not know gRPC, or what an
outcome of a call means: `model.policy` decides that. Read in this order:

1. `cluster` is what a coordinator uses. `block` starts everything and ends it.
2. `membership` decides which deployment of each model is in use. Its `promote` swaps the deployments of a
   model at a redeployment. `fleet` has the actors of all models, and connects the other parts. `actors`
   makes them, and says what a cluster needs of them; `feed` says what it needs of the orchestrator's feed.
3. `caller` makes rounds, and `rounds` is one round. `as_completed` gives its results as they come.
   `joining` calls the coordinator's `on_join`, which brings a new model up to date.
4. `reporting` has the pending reports. `model.policy.reports` decides which are sent, and which are held: a
   held report is never sent.
5. `changes` tells listeners what happens. `losses` writes lost connections to the log. `snapshot` is the
   present state.
6. `instrument` says which hooks those have that listen from the floor above, `instrument_checks` what these
   must be, and `hooks` calls them, so that none of them can do harm.

A call's way: `Cluster.call` (`cluster`) goes to `caller`, which turns the request into a `RoundSpec` and
`Requests` (`model.round_spec`); the service writes the request (`services.dynamic_subclass`, `values.data`).
A `Round` (`rounds`) makes a `Call` (`model.call`) for each `ModelActor` (`model.actor`), with a place in its
queue (`model.queueing`). A call begins when `model.node_connection` creates a `UnaryCall` (`rpc.call`) for it
on the model's `rpc.connection`. `rpc.http2` opens a stream for it; when `rpc.writer` fetches what is to be
sent, `rpc.streams` and `rpc.headers` make frames of it, and the kernel gets them. Back: `rpc.reader` reads,
`rpc.http2` turns the bytes into events, and the connection passes them to the `UnaryCall`, which wakes the
round (`signal`). In the round's task the `NodeConnection` verifies the answer, the service reads it
(`rpc.message_reader`) as an `Encoded` (`values.encoded`), and `values.data` decodes that. The actor counts
the outcome, unless that changes nothing, and the results are a `values.prediction_round`. These are all the
files; `tests/house/test_way.py` counts them.
"""

from .as_completed import ResultsAsCompleted
from .changes import ChangeListener

__all__ = ["ChangeListener", "ResultsAsCompleted"]
