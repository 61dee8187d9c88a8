"""Data frames as bytes, and back: Parquet files and Arrow streams.

Read in this order. `writing` turns frames into bytes. `bounds` says how large a frame becomes when it is
read, and refuses what is too large. `reading` asks `bounds`, then turns bytes into frames. Nothing here may
know of the other types of values.
"""
