"""gRPC over HTTP/2 on Trio: a client that knows nothing of models.

From the ground up: `frames`, `headers`, `streams`, `sender`, `events` and `http2` are HTTP/2 without I/O;
`connection` runs one on a byte stream, with its `writer` and `reader`; `connecting` makes one; `protocol` is
what gRPC puts on HTTP/2; `unary` is a call with one message each way, by the shortest path; `codec` turns
messages into bytes and back.
"""
