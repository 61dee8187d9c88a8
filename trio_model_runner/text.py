"""Texts made fit to be kept and shown, above all those from outside.

A model's error message, an author's name, a gRPC status: strangers write them, and they end in a
coordinator's log, terminal, dashboard and reports. So they are cut to a length, and some characters are
written out: ESC and the other control characters, which a terminal would obey; marks that change the
direction of writing; invisible characters.

`readable` is for results and reports. It keeps line breaks and tabs, since nobody can read a traceback
without them. `quoted` is for logs and for the texts of errors, where a value stands in the middle of a line.
`cut` and `as_step` are for what the coordinator itself has given.
"""

from __future__ import annotations

__all__ = ["as_step", "cut", "is_utf8", "quoted", "readable"]


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


def _readable_character(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode("ascii")
