"""Listens at a path on this machine, for this user alone.

A process that was killed leaves its socket behind, and nothing can listen there again until it is removed. A
living process's socket looks the same, and must stay. Only an attempt to connect tells them apart; a lock on
the directory keeps two processes from making it, and removing what they find, at the same time. What is no
socket is never removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio

from ..errors import ConfigError

__all__ = ["LONGEST_PATH", "listening"]

LONGEST_PATH: Final = 107  # bytes; ``sockaddr_un.sun_path`` has 108, and ends in a zero (unix(7))
_BACKLOG: Final = 16
_MODE: Final = 0o600
_TRIES: Final = 20
_PAUSE: Final = 0.005  # seconds; a lock of ours is held for less


@contextlib.contextmanager
def listening(path: Path) -> Iterator[trio.SocketListener]:
    """Listen at a path while the block lasts. The socket is removed at its end, if it is still ours.

    Raises:
        ConfigError: somebody listens there, or nobody can.
    """
    try:
        listener, ours = _listen(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"path: can't listen at {str(path)!r}: {reason}") from error
    try:
        yield trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(path.lstat(), ours):
                path.unlink()
        listener.close()


def _listen(path: Path) -> tuple[socket.socket, os.stat_result]:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(directory)
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listener.fileno(), _MODE)  # Linux makes the file with it, so it is never open to others
            listener.bind(str(path))
            path.chmod(_MODE)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener, path.lstat()
    finally:
        os.close(directory)  # which frees the lock


def _lock(directory: int) -> None:
    """Keep others of us from the directory for a moment. Locks of other programs are waited for a little."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        except OSError:  # some file systems have no locks
            return
        else:
            return


def _remove_stale(path: Path) -> None:
    """Remove the socket of a process that is gone.

    Raises:
        ConfigError: it is no socket, or its process lives.
        OSError: it can't be removed.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"path: {str(path)!r} is there already, and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(str(path))
    if code not in (errno.ECONNREFUSED, errno.ENOENT):
        raise ConfigError(f"path: another process listens at {str(path)!r}")
    path.unlink(missing_ok=True)
