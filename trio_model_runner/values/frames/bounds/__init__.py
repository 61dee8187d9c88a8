"""How large a data frame becomes when it is read, and the bound on that.

A small file can hold an enormous frame. `frames.reading` reads none before it has asked here:

- `limit` has the bound, and the refusal of what is larger.
- `parquet` adds up what a Parquet file takes, from its footer and page headers, which `thrift` decodes.
- `arrow` adds up what an Arrow stream takes, from the heads of its messages.
- `weighing` weighs a table that was read, where headers could not tell.

Nothing here decompresses anything, or knows what the values are.
"""
