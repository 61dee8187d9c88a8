"""Strategies for frames that a coordinator may send: of pandas, polars and pyarrow, of every kind there is.

Most of what they make can be sent, and a good part must be refused. Kinds are made of few values each, and of
those that are at a limit, or look like something else.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from .arrow_to_send import arrow_tables
from .frame_values import there
from .pandas_to_send import pandas_frames_to_send
from .polars_to_send import polars_frames

__all__ = ["arrow_tables", "frames_to_send", "pandas_frames_to_send", "polars_frames"]


def frames_to_send() -> st.SearchStrategy[Any]:
    """Frames of all three libraries."""
    made = st.one_of(pandas_frames_to_send(), pandas_frames_to_send(), polars_frames(), arrow_tables())
    return there(made)
