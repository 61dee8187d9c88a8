"""How large a data frame becomes when it is read, and the bound on that.

A small file can hold an enormous frame. So `frames.reading` asks here before it reads one. Read in order:

- `limit` has the bound, and refuses what is larger.
- `parquet` adds up the memory that a Parquet file takes, from its footer and page headers. `thrift` decodes
  the footer and the headers.
- `arrow` adds up the memory that an Arrow stream takes, from the headers of its messages.
- `weighing` weighs a table after it was read, for the cases in which headers don't tell.

Nothing here may decompress anything, or look at values.
"""
