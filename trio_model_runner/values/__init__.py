"""Values, in Python and on the wire, and the results that hold them.

Nothing here knows of any network, of services, or of what a model really is.

Read in this order:

- `encoded` is a value as it is on the wire, and `data` makes and reads it: `Arguments`, `encode`,
  `decode_data`. `jsonable` does JSON, `frames` does data frames.
- `frames.bounds` is where the size of a frame in an answer is bounded.
- `refusal` says why a value can't be sent, and where in it the reason is.
- `effort` says which values are too large to be encoded in the event loop.
- `results` has what comes back from one model, and what a coordinator sees of a model. `prediction_round` has
  what comes back from many.
- `failure_codes` has the reasons for which a model can be reported.
"""
