"""The fields of nodes' answers, as `proto/*.proto` has them. A test holds them against the generated code."""

from __future__ import annotations

from typing import Final

from ..rpc.message_reader import Field

__all__ = [
    "CALL_RESPONSE",
    "FIRST_INFER_RESPONSE",
    "INFER_RESPONSE",
    "RESET_RESPONSE",
    "SETUP_RESPONSE",
]

_STATUS: Final = (Field(1, "string"), Field(2, "string"))
"""`commons.Status`: a code, and a text."""

_VARIANT: Final = (Field(2, "enum"), Field(3, "bytes"))
"""`commons.Variant`: a type, and a value."""

SETUP_RESPONSE: Final = (Field(1, "message", _STATUS),)
CALL_RESPONSE: Final = (Field(1, "message", _STATUS), Field(2, "message", _VARIANT))
RESET_RESPONSE: Final = (Field(1, "message", _STATUS),)

INFER_RESPONSE: Final = (Field(1, "message", _VARIANT),)
"""That of `train_infer`."""

FIRST_INFER_RESPONSE: Final = (Field(1, "enum"), Field(2, "bytes"))
"""That of `ModelRunner`."""
