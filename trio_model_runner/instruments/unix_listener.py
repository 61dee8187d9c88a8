"""Listens at a path on this machine, for this user alone.

A process that was killed leaves its socket behind, and nothing can listen there again until it is removed. A
living process's socket looks the same, and must stay. An attempt to connect tells them apart, but not while
its process is about to listen, and not if another one removes and replaces it meanwhile. So a path has one
owner: who holds the lock on the file beside it, ``status.sock.lock``, from before it looks until its socket
is gone. Nobody waits for that lock: another owner is an error at once. It ends with the process, however that
ends, and children that were forked have neither lock nor socket.

The owner removes the lock file, too, when it leaves. Who has opened it just before that would then hold a
lock that nobody else sees, so it looks whether the file is still there, and else takes the new one. What is
no socket, and a lock file that has anything in it, belong to others, and are never removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio

from ..errors import ConfigError
from ..forks import keep_from_children

__all__ = ["LONGEST_PATH", "listening"]

LONGEST_PATH: Final = 107  # bytes; ``sockaddr_un.sun_path`` has 108, and ends in a zero (unix(7))
_BACKLOG: Final = 16
_MODE: Final = 0o600


@contextlib.contextmanager
def listening(path: Path) -> Iterator[trio.SocketListener]:
    """Listen at a path while the block lasts. The socket is removed at its end, if it is still ours.

    A relative path is taken from the directory that is current now. When another one becomes current, the
    socket stays where it is.

    Raises:
        ConfigError: somebody listens there, or nobody can.
    """
    with contextlib.ExitStack() as stack:
        try:
            place = path.absolute()  # `bind` gets the path as it is: one from the root may be too long
            stack.enter_context(_owning(place, path))
            _remove_stale(path)
            listener = stack.enter_context(_bound(path, place))
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"path: can't listen at {str(path)!r}: {reason}") from error
        yield listener


@contextlib.contextmanager
def _owning(place: Path, path: Path) -> Iterator[None]:
    """Own a path, which no other process or task does meanwhile.

    Raises:
        ConfigError: another one owns it, or it can't be told.
        OSError: nothing can be made in that directory.
    """
    file = Path(f"{place}.lock")
    with open(_locked(file, path), "rb", buffering=0) as lock:
        keep_from_children(lock)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if _is_at(file, os.fstat(lock.fileno())):
                    file.unlink()  # before it is free


def _locked(file: Path, path: Path) -> int:
    while True:
        lock = _opened(file)
        try:
            status = os.fstat(lock)
            if not stat.S_ISREG(status.st_mode) or status.st_size:
                raise ConfigError(f"path: {str(file)!r} is there already, and no lock file of ours")
            _lock(lock, path)
            if _is_at(file, status):
                lock, held = -1, lock
                return held
        finally:
            if lock >= 0:
                os.close(lock)


def _opened(file: Path) -> int:
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, _MODE)
    except OSError as error:
        if os.path.lexists(file):  # else it is about the directory
            raise ConfigError(f"path: can't lock {str(file)!r}: {error.strerror}") from error
        raise


def _lock(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"path: another process listens at {str(path)!r}") from None
    except OSError as error:  # said at the first start, and not when a socket is left after a crash
        raise ConfigError(
            f"path: the file system of {str(path)!r} has no locks ({error.strerror}); use one of this machine"
        ) from error


@contextlib.contextmanager
def _bound(path: Path, place: Path) -> Iterator[trio.SocketListener]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        keep_from_children(listener)
        os.fchmod(listener.fileno(), _MODE)  # Linux makes the file with it, so it is never open to others
        listener.bind(str(path))
        ours = place.lstat()
        try:
            place.chmod(_MODE)
            listener.listen(_BACKLOG)
            yield trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        finally:
            with contextlib.suppress(OSError):
                if _is_at(place, ours):
                    place.unlink()


def _is_at(place: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(place.lstat(), status)
    except FileNotFoundError:
        return False


def _remove_stale(path: Path) -> None:
    """Remove the socket of a process that is gone. Others than its owner may not do this.

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
