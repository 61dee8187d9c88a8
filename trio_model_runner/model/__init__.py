"""One model: the life of its deployment on one node, and the calls on it.

Nothing here may know of other models (but for counts in `policy.reports`), or of the cluster. Read in this
order:

1. `handle` is the `ModelRunner` that a coordinator holds.
2. `lifecycle` is the table of all states and events. `actor` does what the table says: it has the `steps`
   taken, and does what follows from them. `attempts` counts attempts to connect, with the waits between them.
   `bringing_up` is connecting, proof and Setup; `node_connection` is a connection that belongs to this model.
   `supervisor` says what an actor needs of the object that runs all models.
3. `round_spec` has what all calls of a round share: what is asked, and what is sent. `call` makes one call;
   `cluster.rounds` makes many side by side, until their deadline. `queueing` keeps the calls on a model in
   order. `reset` is the request that ends a model's instance. `route` is for the calls of generated stubs.
   `callbacks` calls the coordinator's functions.
4. `policy` decides what events mean. Its `facts` and `outcomes` say which status a call gets: there a passed
   deadline becomes a TIMEOUT, and `Call.expire` asks them. `conduct` does what follows: it finds out whether
   a model was slow, or its connection was dead, and adds reports.
"""
