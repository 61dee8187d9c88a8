"""Values, in Python and on the wire, and the results that hold them. Nothing here knows of any network.

`data` has `Arguments`, `Encoded` and the encodings; `frames` those of data frames and `jsonable` that of
JSON; `results` what comes back of a call.
"""
