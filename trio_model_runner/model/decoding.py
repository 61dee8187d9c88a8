"""An answer's value is made of its bytes without stopping the event loop.

A small value is decoded at once, by the `RoundSpec`. What takes long goes to a worker thread. Data frames,
which strangers wrote, go to processes of their own, unless `isolate_frames` is false. This module knows
nothing of the call that the value belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InvalidAnswer, ReadersUnavailable
from ..values.effort import FRAMES, LARGEST_AMONG_OTHERS
from ..workers import run_in_worker
from .round_spec import RoundSpec, Value

if TYPE_CHECKING:
    from ..frame_readers.readers import FrameReaders
    from ..values.encoded import Encoded

__all__ = ["value_of_slow"]


async def value_of_slow(
    spec: RoundSpec, encoded: Encoded, readers: FrameReaders | None, sender: str
) -> Value:
    """Decode a value that takes long, and make of it what was asked for. Never raises but `trio.Cancelled`.

    Args:
        spec: what was asked.
        encoded: the value as it came.
        readers: read data frames; None reads them in a thread.
        sender: the id of the model that sent it.
    """
    apart = len(encoded.data) > LARGEST_AMONG_OTHERS
    if readers is not None and encoded.data_type in FRAMES:
        decoded = await _read_by(readers, encoded, spec, sender)
    else:
        decoded = await run_in_worker(spec.decoded, encoded, apart=apart)
    if spec.structures_in_any_thread:
        return await run_in_worker(spec.structured, decoded, apart=apart)
    return spec.structured(decoded)


async def _read_by(readers: FrameReaders, encoded: Encoded, spec: RoundSpec, sender: str) -> Value:
    try:
        return Value(await readers.read(encoded, spec.frames, sender))
    except ValueError as error:
        return Value(error=InvalidAnswer(str(error), encoded), detail=str(error))
    except (ImportError, MemoryError, ReadersUnavailable) as error:
        return Value(error=error, detail=str(error))
