"""One model: its deployment's life on one node, and the calls on it. Nothing here knows of other models.

To read in this order: `handle` is the `ModelRunner` that a coordinator holds. `lifecycle` is the table of a
life, and `actor` takes its steps, with `bringing_up` for each new connection, which `node_connection` makes
this model's. `queueing` keeps calls in order; `round_spec` is what the calls of a round have in common: what
is asked, and what is sent; `call` makes one call, and `reset` the one that is no call of a method.
`timeout_checks` asks whether a model was slow or its connection dead. `policy` decides what all that happens
means. `supervisor` is what a model needs of whoever runs all of them.
"""
