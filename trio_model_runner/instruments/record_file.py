"""A file that lines are appended to, and that never has half a line for long.

Three things leave half a line at the end of a file: a disk that is full, a machine that stops, and a process
that is killed while it writes. After the first, the half is cut off at once; after the others, when the file
is opened again. So whoever reads finds half a line at the end at most, and never in the middle.

When the file has grown too large, it is renamed and compressed: ``rounds.jsonl`` becomes
``rounds.jsonl.1.gz``, and what was that becomes ``.2.gz``. While it is compressed it is
``rounds.jsonl.rotating``: other programs that rotate files take names such as ``.1``. Whoever moves or
removes it from outside is obeyed: the next line goes into a new file. A lock keeps a second process out; it
ends with the process that holds it, whatever children that has. A symbolic link is followed once, when the
file is opened: its target is what is rotated, and the link stays good.

All of this waits for the disk, and runs in a worker thread, which nobody can interrupt. So `close` may come
while it is at work; then it closes the file when it is done. This knows nothing about rounds.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..forks import keep_from_children

__all__ = ["RecordFile"]

_PIECE: Final = 2**16  # bytes in which the end of a line is looked for
_MODE: Final = 0o640


class RecordFile:
    """A file of lines.

    Args:
        path: where; from the root, since another directory may become the current one.
        max_bytes: when it has at least so many bytes, the file is rotated.
        keep: how many rotated files are kept.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._file: int | None = None
        self._busy = threading.Lock()
        self._closing = False
        keep_from_children(self)

    def fileno(self) -> int:
        """The descriptor of the file that is open now, or -1."""
        return -1 if self._file is None else self._file

    def open(self) -> None:
        """Open the file, and cut off half a line at its end. Its links are followed now, and not again.

        Raises:
            BlockingIOError: another one has it open.
            OSError: it can't be opened, or this is closed.
        """
        with self._working():
            self._follow_links()
            self._open()

    def _follow_links(self) -> None:
        target = Path(os.path.realpath(self._path))
        if target.is_file() or not self._path.exists():  # what /dev/stdout shows may have no path
            self._path = target

    def _open(self) -> None:
        while self._file is None:
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
            try:
                _lock(file)
                _cut_half_a_line(file)
                if self._is_at_path(file):  # else it was rotated before it was locked
                    self._file, file = file, -1
            finally:
                if file >= 0:
                    os.close(file)

    def close(self) -> None:
        """Close it for good, which frees the lock. Never waits. Nothing more is begun then."""
        self._closing = True
        if self._busy.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._busy.release()

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        try:
            with self._busy:
                if self._closing:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                yield
        finally:
            if self._closing:
                self.close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # some file systems have no locks
                fcntl.flock(file, fcntl.LOCK_UN)  # also in copies that we don't know of
            os.close(file)

    def write(self, lines: list[bytes]) -> None:
        """Append whole lines, all of them or none.

        Raises:
            OSError: none was written: the disk takes them not, or this is closed.
        """
        with self._working():
            if self._file is not None and not self._is_at_path(self._file):
                self._close()  # it was moved, or removed
            if self._file is None:
                self._open()
            assert self._file is not None
            _write_all(self._file, b"".join(lines))

    def tidy(self) -> None:
        """Compress what a process that was killed has left, and rotate the file, if it has grown too large.

        Raises:
            OSError: that failed. Nothing that was written is lost, and more can be written.
        """
        with self._working():
            self._compress_rotated()  # so that it is not overwritten
            if self._file is None:
                return
            status = os.fstat(self._file)
            is_due = stat.S_ISREG(status.st_mode) and status.st_size >= self._max_bytes
            if is_due and self._is_at_path(self._file):  # another one would not be ours to rotate
                self._follow_links()  # of who has moved the file since, and put a link there
                self._rotate()
                self._compress_rotated()

    def _is_at_path(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except OSError:
            return False

    def _rotated(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}.gz")

    @property
    def _rotating(self) -> Path:
        return self._path.with_name(f"{self._path.name}.rotating")

    def _rotate(self) -> None:
        numbers = range(1, self._keep + 1)
        free = next((number for number in numbers if not self._rotated(number).exists()), self._keep)
        for number in range(free, 0, -1):  # not beyond: nothing is lost when a rotation fails again and again
            older = self._rotated(number)
            with contextlib.suppress(FileNotFoundError):
                if number == self._keep:
                    older.unlink()
                else:
                    older.rename(self._rotated(number + 1))
        if self._keep:
            self._path.rename(self._rotating)
        else:
            self._path.unlink()
        self._close()
        self._open()

    def _compress_rotated(self) -> None:
        plain, packed = self._rotating, self._rotated(1)
        partial = packed.with_name(f"{packed.name}.part")
        if not plain.exists():
            return
        try:
            with plain.open("rb") as source, gzip.open(partial, "wb", compresslevel=6) as target:
                shutil.copyfileobj(source, target, 2**20)
            shutil.copymode(plain, partial)
            partial.replace(packed)
            plain.unlink()
        finally:
            partial.unlink(missing_ok=True)


def _lock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # some file systems have no locks
        pass


def _write_all(file: int, data: bytes) -> None:
    before, written = os.fstat(file), 0
    try:
        while written < len(data):
            count = os.write(file, data[written:] if written else data)
            if not count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += count
    except OSError:
        if written and stat.S_ISREG(before.st_mode):
            os.ftruncate(file, before.st_size)
        raise


def _cut_half_a_line(file: int) -> None:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        return
    end = status.st_size
    while end > 0:
        start = max(0, end - _PIECE)
        piece = os.pread(file, end - start, start)
        position = piece.rfind(b"\n")
        if position >= 0:
            end = start + position + 1
            break
        end = start
    if end < status.st_size:
        os.ftruncate(file, end)
