"""Data frames as bytes, and back: Parquet files and Arrow streams.

`writing` makes bytes of frames. `bounds` says how large a frame becomes when it is read, and refuses what is
too large. `reading` makes frames of bytes after that. Read them in this order. Nothing here knows of the
other types of values.
"""
