"""Texts made fit to be kept and shown, above all those from outside.

A model's error message, an author's name, a gRPC status: strangers write them, and they end in a
coordinator's log, terminal, dashboard and reports. So they are cut to a length, and some characters are
written out: ESC and the other control characters, which a terminal would obey; marks that change the
direction of writing; invisible characters.

`readable` is for results and reports. It keeps line breaks and tabs, since nobody can read a traceback
without them. `quoted` is for logs and for the texts of errors, where a value stands in the middle of a line.
`cut`, `as_step` and `advice_on_number` are for what the coordinator itself has given.

A coordinator's own settings can hold a secret in the wrong place: the text of a private key where a path is
wanted. Error texts end in logs and chats. So `shown` shows a setting, but says of what could be a secret only
what kind of value it is; `kind_of_secret` gives these words alone.
"""

from __future__ import annotations

import numbers
import re
from itertools import pairwise
from typing import Final

__all__ = [
    "advice_on_number",
    "as_argument",
    "as_step",
    "cut",
    "is_utf8",
    "kind_of_secret",
    "named_error",
    "quoted",
    "readable",
    "readable_error",
    "shown",
    "shown_scalar",
    "with_reason",
]

_PEM: Final = re.compile(r"-----\s*(BEGIN|END)\b|\b(BEGIN|END)[A-Z ]* (KEY|CERTIFICATE)-*")
_LINE_BREAK: Final = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_ESCAPED: Final = re.compile(r"(?<!\\)(\\\\)*\\[nrx]")
"""What a repr makes of line breaks, and of bytes that are no text."""

_USERINFO: Final = re.compile(r"//[^\s'\"]*@|[^\s/:@'\"]+:[^\s/@'\"]+@")
"""A URL's user, or a user with a password: ``wss://token@host``, ``user:password@host``."""

_RUN: Final = re.compile(r"[A-Za-z0-9+/=_%-]{32,}")
"""Letters of base64, of both alphabets, perhaps as a URL has them (``%2B``).

A path without dots is such a run, too.
"""

_MOST_SEARCHED: Final = 10_000  # characters; `shown` shows fewer

_NUMBERS: Final = re.compile(r"(-?\d{1,3},){16}|(0[xX][0-9a-fA-F]{1,2},){16}|([0-9a-fA-F]{2}[:-]){16}")
"""Bytes one by one, as wallets, ``openssl``, Java and C write keys."""

_OPENSSL: Final = re.compile(r"^\[\w+(: \w+)?\] (?=.*_ssl\.c:)| \(_ssl\.c:\d+\)$")
"""What the ssl module puts around the words of OpenSSL."""

_WRITTEN_OUT: Final = re.compile(r"\\(?:x|u00)[0-9a-fA-F]{2}")
_FEWEST_WRITTEN_OUT: Final = 6
"""Of 32 random bytes, a repr writes 20 as ``\\x9e``; a path of Windows may have a directory like that."""

_HEXADECIMAL: Final = re.compile(r"[0-9a-fA-F]{64,}")
_WINDOW: Final = 32  # letters
_FEWEST_CHANGES: Final = 12
"""Between capitals, small letters and digits, in a window that has all three. Random base64 has 20.

A path of words has 5. So one in 2,000 keys of 32 bytes is missed, and hardly any that is longer; one in 600
paths of a whole machine is hidden, most of them names of hexadecimal digits.
"""

_FEWEST_CHANGES_WITHOUT_DIGITS: Final = 14


def readable(text: str, longest: int | None = None) -> str:
    r"""Write out what is not printable, as Python would (``\x1b``), and cut the result.

    Args:
        text: a text from outside.
        longest: how many characters are kept; an ellipsis at the end, which is one of them, says that there
            were more. None keeps all.
    """
    if longest is not None:
        text = text[: longest + 1]
    if not text.isprintable():
        text = "".join(map(_readable_character, text))
    return text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…"


def readable_error(error: BaseException | None, longest: int | None = None) -> str | None:
    """Write an exception's text as `readable` does; its type, if its class can't say it. None for None."""
    if error is None:
        return None
    try:
        return readable(str(error), longest)
    except Exception:  # a class may do anything there
        return f"<{type(error).__name__}>"


def named_error(error: BaseException) -> str:
    """Say of what type an exception is, and what its text says, if it has one: ``KeyError: 'x'``."""
    text = readable_error(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def with_reason(what: str, error: BaseException) -> str:
    """Say what happened, and why: the text of an error, or of its nearest cause that has one.

    Trio's errors about streams mostly have no text. Without any, nothing follows: not even a colon.
    """
    cause: BaseException | None = error
    while cause is not None:
        if text := _OPENSSL.sub("", str(cause)):
            return f"{what}: {text}"
        cause = cause.__cause__
    return what


def quoted(value: object, longest: int = 120, *, ascii_only: bool = False) -> str:
    """Show a value from outside on one line, short: text in quotes, a dict or a list by its kind alone.

    Args:
        value: what came, as JSON gives it.
        longest: how many characters of a text are shown; three dots at its end say that there were more.
        ascii_only: write out all letters beyond ASCII, since different letters can look the same.
    """
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    write = ascii if ascii_only else repr
    if isinstance(value, str) and len(value) > longest:
        return write(f"{value[:longest]}...")
    text = write(value)
    return text if len(text) <= 4 * longest else cut(text, longest)


def shown(value: object, longest: int = 100) -> str:
    """Show the value of a setting, on one line and short; of what could be a secret, only its kind.

    Args:
        value: the value; any object.
        longest: how many characters are shown; three dots behind them say that there were more.
    """
    kind = kind_of_secret(value)
    return cut(_repr(value), longest) if kind is None else f"{kind} (not shown)"


def shown_scalar(value: object) -> str:
    """Show a value as `shown` does if it is a scalar of Python's own; of all else, only its type.

    It is for arguments: a value in a wrong place may be a payload, or hold one.
    """
    if value is None or type(value) in (bool, int, float, str):
        return shown(value)
    return f"the class {value.__name__} itself" if isinstance(value, type) else type(value).__name__


def kind_of_secret(value: object) -> str | None:
    """Say in words what a value is, if it could be a secret; None if it can be shown.

    These could be: a URL with a user or a password; PEM text, with or without its first and last line; all
    other text of several lines; bytes; long base64, base58 or hexadecimal digits; many small numbers; bytes
    as a repr writes them; whatever has one of these inside.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    if isinstance(value, str):
        return _kind_of_text(value)
    text = _repr(value)
    kind = _kind_of_text(text)
    if kind is None and _ESCAPED.search(text):
        kind = "bytes or text of several lines"
    return kind and f"{type(value).__name__} with {kind}"


def _kind_of_text(text: str) -> str | None:
    if _PEM.search(text):
        return "PEM text"
    if _USERINFO.search(text[:_MOST_SEARCHED]):
        return "text with a user or a password"
    if _LINE_BREAK.search(text):
        return "text of several lines"
    together = "".join(text[:_MOST_SEARCHED].split())
    if _NUMBERS.search(together) or any(map(_could_be_a_key, _RUN.findall(together))):
        return "text that could be a key"
    if len(_WRITTEN_OUT.findall(together)) >= _FEWEST_WRITTEN_OUT:
        return "bytes that are written out"
    return None


def _could_be_a_key(run: str) -> bool:
    if _HEXADECIMAL.search(run):
        return True
    kinds = [_kind_of_letter(letter) for letter in run if letter.isalnum()]
    starts = range(len(kinds) - _WINDOW + 1)
    return any(_is_mixed(kinds[start : start + _WINDOW]) for start in starts)


def _is_mixed(kinds: list[int]) -> bool:
    changes = sum(one != other for one, other in pairwise(kinds))
    fewest = _FEWEST_CHANGES if 0 in kinds else _FEWEST_CHANGES_WITHOUT_DIGITS
    return changes >= fewest and 1 in kinds and 2 in kinds


def _kind_of_letter(letter: str) -> int:
    return 0 if letter.isdigit() else 1 if letter.isupper() else 2


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # a class may do anything there, and Python refuses numbers of thousands of digits
        return f"<{type(value).__name__}>"


def is_utf8(text: str) -> bool:
    """Whether a text can be sent. One with a lone surrogate can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def cut(text: str, longest: int) -> str:
    """Cut a text; three dots behind the `longest` characters that are kept say that there were more."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def advice_on_number(value: object) -> str:
    """Say how to make a number of Python's own of what is nearly one; empty for all else.

    Args:
        value: what stands where an int or a float is wanted.
    """
    if hasattr(value, "total_seconds"):
        return "give its .total_seconds()"
    if isinstance(value, int | float) or not isinstance(value, numbers.Number):
        return ""
    if type(value).__name__ == "timedelta64":  # numpy calls it a whole number
        return "divide it by numpy.timedelta64(1, 's')"
    if isinstance(value, numbers.Integral):
        return "give int(...) of it"
    return "give float(...) of it" if hasattr(value, "__float__") else ""


def as_step(key: str | int, longest: int = 40) -> str:
    """Write one step of the way into a value: ``.name``, ``['another key']``, ``[3]``.

    Args:
        key: a key, or a position.
        longest: how many characters of a key are shown; three dots behind them say that there were more.
    """
    if not isinstance(key, str):
        return f"[{key}]"
    if len(key) > longest:
        return f"[{key[:longest]!r}...]"
    return f".{key}" if key.isidentifier() else f"[{key!r}]"


def as_argument(name: str, longest: int = 40) -> str:
    """Write the keyword of an argument: as it is, if it is a name; else in quotes, short and printable."""
    return name if name.isidentifier() and len(name) <= longest else quoted(name, longest, ascii_only=True)


def _readable_character(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode("ascii")
