"""All models of a crunch together.

To read in this order: `cluster` is what a coordinator uses, and `block` runs it. `membership` says which
deployments there should be, and `fleet` has them up. `caller` plays rounds, and `rounds` is one of them.
`reporting` is where reports wait; `changes` and `snapshot` tell what happens, and `joining` catches a new
model up.
"""
