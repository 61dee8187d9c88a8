"""Host names and ports, as people write them and as they are sent.

A name with letters beyond ASCII is sent in another spelling, ``xn--...``. Python's own codec "idna" makes it
by the rules of 2003, browsers and Trio by the rules of 2008 (RFC 5891, with the mapping of UTS 46). The two
can mean different hosts. Here the rules of 2008 apply everywhere: for the resolver, for HTTP's ``Host`` and
``:authority``, and in TLS.

Many texts look like a name but have no such spelling: a snowman, an emoji, a label of more than 63 letters.
Python's and Trio's resolvers raise UnicodeError for them. A program that connects expects an OSError if a
host can't be reached. So it is an OSError here.

Two parts of a name are for this machine alone, and must not be sent to the other end:

- The final dot of ``node.example.`` tells the resolver not to try search domains. No certificate has it, and
  SNI must not (RFC 6066, section 3).
- The zone of ``fe80::1%eth0`` says through which interface that address is reached from here. Zones are
  local to a machine (RFC 4007, section 6), so a client takes them out of what it sends (RFC 6874, section 4).

The resolver gets the name with both: `ascii_host`. The other end is told the name without: `authority_host`.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

import idna

from ..text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["address_text", "address_texts", "ascii_host", "authority_host"]

_LONGEST_NAME: Final = 254  # with a final dot (RFC 1035, section 2.3.4)
_LONGEST_LABEL: Final = 63
_FORBIDDEN: Final = frozenset(" /?#@[]\\")
"""They end a host's name in an authority (RFC 3986, section 3.2), or stand around it."""


def address_text(host: str, port: int) -> str:
    """Write a host and a port as people do, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_texts(found: Iterable[tuple[Any, ...]]) -> tuple[str, ...]:
    """The addresses that `socket.getaddrinfo` has found, as texts, each once.

    Raises:
        OSError: there is none, which a resolver that is not the system's may say (`socket.gaierror`).
    """
    texts = tuple(dict.fromkeys(_text_of(address) for *_, address in found))
    if not texts:
        raise socket.gaierror(socket.EAI_NONAME, "the resolver knows no address of that name")
    return texts


def ascii_host(host: str) -> str:
    """A host name as resolvers take it, in ASCII. A name in ASCII stays as it is, and so does an IP address.

    Raises:
        OSError: no resolver can resolve such a name (`socket.gaierror`, EAI_NONAME); the text says why.
    """
    if len(host) > _LONGEST_NAME:
        raise _unresolvable(host, f"it is longer than {_LONGEST_NAME - 1} characters")
    try:
        text = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except UnicodeError as error:
        raise _unresolvable(host, str(error)) from error
    if not _FORBIDDEN.isdisjoint(text):
        raise _unresolvable(host, "a name has no blanks, brackets, slashes, '?', '#' and '@'")
    if not text.isprintable() or not all(map(_is_label, text.removesuffix(".").split("."))):
        raise _unresolvable(host, f"between its dots must be 1 to {_LONGEST_LABEL} printable characters")
    return text


def authority_host(host: str) -> str:
    """A host name as the other end is told it: in ``:authority`` and ``Host``, in SNI and certificates.

    It is in ASCII, and has neither a final dot nor an IPv6 zone; an IPv6 address has no brackets yet, which
    `address_text` adds.

    Raises:
        OSError: see `ascii_host`.
    """
    name = ascii_host(host)
    return name.partition("%")[0] if ":" in name else name.removesuffix(".")


def _text_of(address: tuple[Any, ...]) -> str:
    """The text of an address, with its zone, which `socket.getaddrinfo` has as a number."""
    host, _, *more = address
    zone = more[1] if len(more) == 2 else 0  # IPv6: the flow label and the zone
    return f"{host}%{zone}" if zone and "%" not in host else str(host)


def _is_label(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_LABEL


def _unresolvable(host: str, reason: str) -> OSError:
    return socket.gaierror(socket.EAI_NONAME, f"{quoted(host)} can't be a host's name: {reason}")
