"""How large a frame becomes when it is read, found out before it is read.

`parquet` reads a Parquet file's footer and page headers, which `thrift` decodes; `arrow` reads the headers of
an Arrow stream's messages.
"""
