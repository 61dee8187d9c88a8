"""One model: its deployment's life on one node, and the calls on it. Nothing here knows of other models.

`policy` has the rules of who is blamed for what, and `states` the states of a life, both as tables without
any I/O. `life` goes through these states, with `bringing_up` for each new connection, which `node_connection`
makes this model's. `call` makes one call and `performing` those of a round; `call_spec` and `requests` have
what they have in common, `queueing` keeps them in order. `runner` is the `ModelRunner` that a coordinator
holds, and `host` what a model needs of whoever runs it.
"""
