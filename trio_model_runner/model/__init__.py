"""One model: its deployment's life on one node, and the calls on it. Nothing here knows of other models.

`policy` has the rules of who is blamed for what, and `states` the states of a life, both as tables without
any I/O. `life` goes through these states, `call` makes one call, `queueing` keeps calls in order, and
`runner` is the `ModelRunner` that a coordinator holds.
"""
