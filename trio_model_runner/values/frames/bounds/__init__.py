"""How large a data frame becomes when it is read, and the bound on that.

A small file can hold an enormous frame: compressed zeros, or one text to which a million rows refer. So
`frames.reading` reads a batch of rows at a time, and asks here whether that was enough. Read in order:

- `limit` has the bound, and refuses what is larger.
- `weighing` adds up how much memory batches take.

While a batch is read, it may take more than the bound. That is for the process that reads to limit.
"""
