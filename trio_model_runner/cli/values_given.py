"""Values that are given on the command line: JSON, ``@FILE``, and ``-`` for standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import click

from .output import clean

__all__ = ["read_keywords", "read_value"]

_LONGEST_SHOWN = 40
_MOST_BYTES = 256 << 20


def read_value(text: str) -> Any:
    """Read one value.

    Raises:
        click.BadParameter: it is no JSON, or its file can't be read, or is too large.
    """
    source = _shown(text)
    if text == "-":
        source = "standard input"
        if sys.stdin is None:
            raise click.BadParameter("standard input is closed")
        text = _read_text(sys.stdin.buffer, source)
    elif text.startswith("@"):
        try:
            with Path(text[1:]).open("rb") as file:
                text = _read_text(file, source)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no path"
            raise click.BadParameter(f"{source} can't be read: {reason}") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = f"; a text has quotes of its own: '{json.dumps(text)}'" if len(text) < _LONGEST_SHOWN else ""
        raise click.BadParameter(f"{source} is no JSON: {clean(str(error))}{clean(hint)}") from error


def _read_text(file: IO[bytes], source: str) -> str:
    data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise click.BadParameter(f"{source} is too large: it has more than {_MOST_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{source} can't be read: it is not UTF-8") from error


def read_keywords(pairs: Iterable[str]) -> dict[str, Any]:
    """Read values with names, ``NAME=JSON``.

    Raises:
        click.BadParameter: one is not so, or is there twice.
    """
    keywords: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{_shown(pair)} is not NAME=JSON")
        if name in keywords:
            raise click.BadParameter(f"{name} is given twice")
        keywords[name] = read_value(text)
    return keywords


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")
