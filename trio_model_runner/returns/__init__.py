"""What `returns=` asks of an answer: that it has the shape of a type, or that a function accepts it.

Nothing here may know of models, calls or encodings: an answer is a Python value that was decoded already.

Read `structurer` first: it makes the function that checks an answer. `structuring` does that for types, by
the rules of `strict`, with `kinds` for what a type says by itself, `keys` for the keys of objects, `mappings`
for what they become, `typed_dicts` for their fields, and `hashes` for what a stranger could do with hashes.
`for_pydantic` bounds what pydantic is given. `misfits` says in words where and why an answer does not fit.
`typing` is for type checkers; it is the only part of this room that `values` imports.
"""

from .structurer import Structurer, structurer

__all__ = ["Structurer", "structurer"]
