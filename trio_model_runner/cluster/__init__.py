"""All models of a crunch together.

The room knows models as `model` has them, and the orchestrator's feed. It must not know gRPC, or what an
outcome of a call means: `model.policy` decides that. Read in this order:

1. `cluster` is what a coordinator uses. `block` starts everything and ends it.
2. `membership` decides which deployment of each model is in use. Its `promote` swaps the deployments of a
   model at a redeployment. `fleet` has the actors of all models, and joins the other parts.
3. `caller` makes rounds, and `rounds` is one round. `joining` lets the coordinator catch a new model up.
4. `reporting` keeps reports back until `model.policy.reports` releases them, and gives them to the feed.
5. `changes` and `snapshot` tell a coordinator what happens, and how things are.
"""
