"""All models of a crunch together.

`membership` says which deployments there should be, and `fleet` has them up. `calling` has the ways to call
them, and `rounds` plays one round. `court` and `verdicts` decide which of them are reported, `changes` and
`snapshot` tell what happens, and `joining` catches a new one up. `cluster` is the context manager around all.
"""
