"""A reader process that does what a frame says: so everything can go wrong that pyarrow could do wrong.

It runs in the place of ``trio_model_runner.frame_readers``. The first word of such a frame is the name of one
of the functions here, and the others are what it is called with. Any other frame is read as always.
"""

from __future__ import annotations

import mmap
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trio_model_runner.frame_readers import program
from trio_model_runner.values.frames import reading

read_plain = reading.read_plain


def abort() -> None:
    os.abort()


def leave(code: str) -> None:
    os._exit(int(code))


def be_killed(name: str) -> None:
    os.kill(os.getpid(), signal.Signals[name])
    time.sleep(60)


def spin() -> None:
    while True:
        pass


def allocate(size: str) -> None:
    mmap.mmap(-1, int(size), flags=mmap.MAP_PRIVATE).close()
    raise ValueError("allocated")


def say(text: str) -> None:
    for descriptor in range(3, 10):
        try:
            os.write(descriptor, text.encode() * 100)
        except OSError:
            continue
    time.sleep(60)


def wait(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)
    raise ValueError("waited")


def once(path: str, *words: str) -> None:
    if Path(path).exists():
        raise ValueError("not again")
    Path(path).touch()
    DEEDS[words[0]](*words[1:])


DEEDS: dict[str, Callable[..., None]] = {
    deed.__name__: deed for deed in (abort, leave, be_killed, spin, allocate, say, wait, once)
}


def obey(data: bytes, *arguments: Any) -> Any:
    words = data.decode("latin-1").split() if len(data) < 300 else []
    if words and words[0] in DEEDS:
        DEEDS[words[0]](*words[1:])
    return read_plain(data, *arguments)


reading.read_plain = obey

if __name__ == "__main__":
    program.main()
