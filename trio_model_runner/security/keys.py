"""Keys and certificates from files, with errors that name the file.

A coordinator's keys are made once, copied to a server, and forgotten. Later mistakes would show as errors of
a TLS library, which explain little. So every mistake that can be found when a file is loaded is found then: a
file that is missing or has something else in it, a key of another certificate or of another kind, a
certificate that is no longer valid. Every error is a `ConfigError` that begins with the file's name. None
shows the file's content: it may be a key, even where a certificate was expected. And none shows what could be
a key where a path was expected, not in the exceptions behind it either: `OSError` has the path.

Only regular files are read, and small ones. A FIFO would be waited for without end, and a device could be
anything.

`cryptography` does the reading. It is imported where it is needed, so that a program without credentials
needs neither the package nor the time.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import importlib
import itertools
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError
from ..text import kind_of_secret, shown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
    from cryptography.x509 import Certificate

__all__ = [
    "as_path",
    "check_matches",
    "load_certificate",
    "load_private_key",
    "load_rsa_key",
    "public_key_info",
    "read_file",
    "require_packages",
    "shown_path",
    "warn_of_readers",
]

logger = logging.getLogger("trio_model_runner.security")

_LARGEST_FILE: Final = 1 << 20  # bytes; a chain of certificates has a few thousand bytes
_LONGEST_PATH_SHOWN: Final = 300  # characters
_MOST_LINKS: Final = 40  # Linux's own limit


def require_packages() -> None:
    """Check that the packages for credentials are installed.

    Raises:
        ConfigError: a package is missing.
    """
    for package in ("cryptography", "base58"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigError(
                f"credentials: need the package {package!r}: pip install '.[secure]' in a clone"
            ) from error


def shown_path(path: str | os.PathLike[str]) -> str:
    """Show a path for messages, in quotes and on one line; of what could be a key, only that."""
    return shown(os.fspath(path), _LONGEST_PATH_SHOWN)


def as_path(value: str | os.PathLike[str], argument: str) -> Path:
    """Take a path that a program gives.

    Args:
        value: the path.
        argument: the name of the argument, for messages.

    Raises:
        ConfigError: it is something else, such as bytes; what could be a key is not shown.
    """
    with contextlib.suppress(TypeError):  # bytes are no path here; and a PathLike may give them
        return Path(value)
    kind = kind_of_secret(value) or f"a value of type {type(value).__name__}"
    raise ConfigError(f"{argument}: holds {kind}; a path is wanted")


def read_file(
    path: str | os.PathLike[str], what: str = "a key or a certificate", *, argument: str = ""
) -> bytes:
    """Read a small regular file. Nothing else is waited for.

    Args:
        path: the file.
        what: what should be in it, for messages.
        argument: the name of the argument or setting that has the path, for a message that can't show it.

    Raises:
        ConfigError: the file can't be read, is no regular file, or is larger than 1 MiB.
    """
    content, reason = b"", ""
    try:
        content = _read_regular_file(path)
    except OSError as error:
        reason = error.strerror or str(error)
    except (TypeError, ValueError) as error:
        reason = str(error)
    # Here the exception, which can have the path in it, is no longer the context of what is raised.
    if reason:
        path = os.fspath(path) if isinstance(path, os.PathLike) else path
        kind = kind_of_secret(path)
        if kind is not None:
            raise ConfigError(f"{argument}: holds {kind}; a path is wanted".removeprefix(": "))
        raise ConfigError(f"cannot read {shown(path, _LONGEST_PATH_SHOWN)}: {reason}")
    if len(content) > _LARGEST_FILE:
        raise ConfigError(f"{shown_path(path)}: is too large to hold {what}")
    return content


def _read_regular_file(path: str | os.PathLike[str]) -> bytes:
    """Read a file, and of one that is too large one byte too many."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError("it is no path")
    _check_regular(Path(path).stat().st_mode)  # before it is opened, which a device could notice
    with open(path, "rb", opener=_open_without_waiting) as file:  # Path.open has no opener
        _check_regular(os.fstat(file.fileno()).st_mode)  # it may be another file by now
        content = file.read(_LARGEST_FILE + 1)
    if content is None:  # /proc has regular files that one would wait for
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return content


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def _check_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISFIFO, "FIFO"), (stat.S_ISSOCK, "socket"))
        kind = next((kind for is_kind, kind in kinds if is_kind(mode)), "device")
        raise ValueError(f"it is a {kind}, and no regular file")


def warn_of_readers(path: str | os.PathLike[str]) -> None:
    """Log a warning if others than its owner may read a private key's file, or put another one in its place.

    They may do the latter if a directory on the way is theirs, or is open to them: each from ``/`` on, and
    those of all links, since a directory can be moved away and made anew. (OpenSSH has the same rule for the
    keys that it takes.) In a directory with the sticky bit, such as ``/tmp``, nobody can replace what is
    another's. Root can do anything, and so can this process's own user: neither is worth a word.
    """
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # it may be gone again
        mode = stat.S_IMODE(Path(path).stat().st_mode)
        if mode & 0o077:
            logger.warning(
                "the private key in %s is open to other users of this machine (mode %03o):"
                " chmod 600 closes it",
                shown_path(path),
                mode,
            )
        danger = next(filter(None, itertools.starmap(_danger_of, _steps_to(Path(path)))), None)
        if danger is not None:
            logger.warning("the private key in %s can be replaced: %s", shown_path(path), danger)


def _steps_to(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Where the kernel goes on the way to a file, with the status of each: directories, and in the end it.

    A link is among them if it is in a directory with the sticky bit: there, its owner alone can replace it.
    """
    path = Path.cwd() / path
    directory, links = Path(path.anchor), 0
    ahead = list(reversed(path.parts))
    while ahead:
        step = directory / ahead.pop()
        if step.name == "..":
            directory = directory.parent  # no part of it is a link
            continue
        status = step.lstat()
        if not stat.S_ISLNK(status.st_mode):
            yield step, status
            directory = step
            continue
        if directory.lstat().st_mode & stat.S_ISVTX:
            yield step, status
        links += 1
        if links > _MOST_LINKS:
            return
        ahead.extend(reversed(step.readlink().parts))  # an absolute one begins with "/" again


def _danger_of(path: Path, status: os.stat_result) -> str | None:
    """How others could replace this step on the way to a file, or what is behind it; None if they can't."""
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (0, os.geteuid()):
        return f"{shown_path(path)} belongs to another user of this machine (uid {status.st_uid})"
    if stat.S_ISDIR(status.st_mode) and mode & 0o022 and not mode & stat.S_ISVTX:
        return (
            f"the directory {shown_path(path)} is open to other users of this machine (mode {mode:03o}):"
            " chmod go-w closes it"
        )
    return None


def load_certificate(pem: bytes, source: str) -> Certificate:
    """Read a certificate, the first if there is a chain, and check that it is valid today.

    Args:
        pem: one or more certificates.
        source: where they come from, for messages.

    Raises:
        ConfigError: there is no certificate, or it is not valid yet or any more.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import load_pem_x509_certificates

    try:
        certificate = load_pem_x509_certificates(pem)[0]
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{source}: holds no certificate in PEM format") from None
    now = datetime.datetime.now(datetime.UTC)
    if now > last:
        raise ConfigError(f"{source}: the certificate has expired on {last:%Y-%m-%d}")
    if now < first:
        raise ConfigError(f"{source}: the certificate is not valid before {first:%Y-%m-%d %H:%M} UTC")
    return certificate


def load_private_key(pem: bytes, source: str) -> PrivateKeyTypes:
    """Read a private key that has no passphrase.

    Args:
        pem: the key.
        source: where it comes from, for messages.

    Raises:
        ConfigError: there is no key, or it has a passphrase.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConfigError(f"{source}: the private key has a passphrase, which nobody could enter") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{source}: holds no private key in PEM format") from None


def load_rsa_key(pem: bytes, source: str) -> RSAPrivateKey:
    """Read a private key, which must be an RSA key; see `load_private_key`."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    key = load_private_key(pem, source)
    if not isinstance(key, RSAPrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey")
        raise ConfigError(f"{source}: must be an RSA key, got one of kind {kind}")
    return key


def public_key_info(key: PublicKeyTypes) -> bytes:
    """A public key as DER SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_matches(key: PrivateKeyTypes, key_source: str, certificate: Certificate, source: str) -> None:
    """Check that a key and a certificate belong together.

    Raises:
        ConfigError: the certificate is for another key.
    """
    if public_key_info(key.public_key()) != public_key_info(certificate.public_key()):
        raise ConfigError(f"{key_source}: is not the key of the certificate in {source}")
