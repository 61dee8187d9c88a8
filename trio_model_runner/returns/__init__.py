"""What `returns=` asks of an answer: that it has the shape of a type, or that a function takes it.

`structurer` makes what checks an answer. `structuring` does so for types, strictly, with the rules of
`strict`. `misfits` says in words where and why an answer does not fit, and `typing` is for type checkers.
"""

from .structurer import Structurer, structurer

__all__ = ["Structurer", "structurer"]
