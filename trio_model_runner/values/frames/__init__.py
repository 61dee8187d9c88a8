"""Data frames: `writing` makes bytes of them; `reading` makes frames of bytes, after `bounds` has looked."""
