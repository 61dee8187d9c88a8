"""Values, in Python and on the wire, and the results that hold them. Nothing here knows of any network.

`data` has `Arguments` and the encodings, and `encoded` what they make. `jsonable` is about JSON, `frames`
about data frames, and `frame_reading` about those of strangers, with `parquet_pages`, `thrift` and
`arrow_messages` to find out how large they are. `effort` knows what takes long. `results` is what comes back
of a call.
"""
