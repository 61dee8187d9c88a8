"""One model: the life of its deployment on one node, and the calls on it.

Nothing here may know of other models (except that `policy` compares them), or of the cluster. What counts
against a model, for people: `README.md`. Read in this order:

1. `handle` is the `ModelRunner` that a coordinator holds.
2. `lifecycle` is the table of all states and events. `actor` does what the table says: it has the `steps`
   taken; `aftermath` is what follows from their ends. `attempts` says how many attempts to connect are left,
   and how long to wait before the next. `bringing_up` is connecting, proof and Setup; `node_connection` is a
   connection that belongs to this model. `supervisor` is the interface of the object that runs all models
   (`cluster.fleet`). `node_resources` is what the actors of one process share. `fence` holds requests back
   where they may be forbidden at any moment.
3. `round_spec` has what all calls of a round share: what is asked, and what is sent. `call` makes one call,
   and takes its place in the queue; `cluster.rounds` makes many side by side, until their deadline.
   `queueing` keeps the calls on a model in order. `reset` is the request that ends a model's instance.
   `route` is for the calls of generated stubs. `callbacks` runs functions for `arguments=` and `returns=` so
   that Ctrl-C can end them.
4. `policy` decides what events mean. `Call.expire` asks its `facts.outcome_of_cut_off` what a passed
   deadline means, and the table in `outcomes` makes it a TIMEOUT that counts, or one that does not. `conduct`
   tells the judge, with the time. `watch` asks a node whether it is through with a call that was cut off.
"""
