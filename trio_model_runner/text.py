"""Texts from outside, made fit to be kept and shown.

A model's error message, an author's name, a gRPC status: strangers write them, and they end in a
coordinator's log, terminal, dashboard and reports. So they are cut to a length, and what a terminal would
obey, or would turn against its reader, is written out: ESC and the other control characters, marks that
change the direction of writing, characters that are invisible. Line breaks and tabs stay, for a traceback
without them is no help to anybody; whoever needs one line, as a log does, quotes the text.
"""

from __future__ import annotations

__all__ = ["readable"]


def readable(text: str, longest: int) -> str:
    r"""Write out what is not printable, as Python would (``\x1b``), and cut the result.

    Args:
        text: a text from outside.
        longest: how many characters are kept; an ellipsis at the end, which is one of them, says that there
            were more.
    """
    text = text[: longest + 1]
    if not text.isprintable():
        text = "".join(map(_readable_character, text))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _readable_character(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode("ascii")
