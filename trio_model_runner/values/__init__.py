"""Values, in Python and on the wire, and the results that hold them.

Nothing here may know of networks, of services, or of the classes that implement `Model`.

Read in this order:

- `encoded` is a value as it is on the wire, and `data` makes and reads it: `Arguments`, `encode`,
  `decode_data`. `jsonable` writes JSON. `json_reading` reads it, with `text_reading` for long texts; what it
  may become is bounded in `json_structure`. `frames` does data frames.
- `frames.bounds` bounds the size of a data frame in an answer. (HTTP/2 has frames, too: their size is bounded
  in `rpc.http2`, and the size of a gRPC message in `rpc.messages`.)
- `strict_json` tells any value to people and web services, where `jsonable` refuses what a model would not
  see as it was meant.
- `refusal` says why a value can't be sent, and where inside the value the reason is.
- `effort` says which values are too large to be encoded in the event loop.
- `results` has what comes back from one model, and what a coordinator sees of a model. `prediction_round` has
  what comes back from many.
- `failure_codes` has the reasons for which a model can be reported.
"""
