"""Values, in Python and on the wire, and the results that hold them. Nothing here knows of any network.

`data` has `Arguments` and the encodings, `encoded` the `Encoded` value; `jsonable` is for JSON. `frames`
writes data frames and `frame_reading` reads them, after `parquet_pages`, `thrift` and `arrow_messages` have
said how large they become. `effort` says what is too large for the event loop, `refusal` why something can't
be sent, and `results` has what comes back of a call.
"""
