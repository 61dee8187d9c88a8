"""Look-ups of host names, in threads of their own.

Only the system's resolver knows all that names mean here: ``/etc/hosts``, search domains, DNS. It blocks, so
it needs a thread, and nobody can end one that waits for a name server. If no server answers, that takes from
ten seconds to minutes. The hosts of nodes are named by strangers, and Trio's own look-ups share 40 threads
with everything else that the program does in threads. So 40 names that never resolve would stop all of it.

Here no look-up uses a thread of Trio's limiter, and these rules hold:

- An IP address needs neither a thread nor the resolver.
- A name is looked up once at a time, for all who ask.
- Who asks waits for at most five seconds. The look-up goes on and *hangs*. It keeps its thread, and who asks
  for its name again waits for it. Its answer is kept for as long as it took to come.
- Sixteen look-ups run at a time. One without an answer after a quarter of a second no longer counts among
  them: it may hang, and the others must not wait for it.
- All that run take room. For a name that waits, each of them takes four units, and one more for each domain
  that the two names share; it may begin while less than 512 are taken. Names hang because the name servers of
  their domain don't answer. So names in ``example.org`` may wait because others there hang, long before one
  in ``example.com`` does. One domain gets 64 to 103 threads, all together get 128.
- The second half of the room is filled slowly, with two look-ups a second, and the latest that was asked for
  goes first. So where a thousand names of one domain hang, there is room for another new name all the same.
- Names that were resolved in time the last time go first, and have sixteen more threads that no others get.
  So a host that is known is reached again, such as the orchestrator's. Then come new names, then those that
  had no turn the last time, then those that hung: they get the first half of the room only.

That a domain can be full is the price of a bound: its names wait then, until threads end.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import logging
import math
import socket
from collections import Counter
from enum import IntEnum
from functools import partial
from typing import Any, Final, TypeAlias

import attrs
import trio

from ..text import quoted
from .addresses import address_texts, ascii_host

__all__ = ["NUMERIC", "Lookups", "lookups", "resolve"]

logger = logging.getLogger("trio_model_runner.network")

_TIMEOUT: Final = 5.0
"""Seconds. A system's resolver asks the next server after five; half of `Backoff.connect_timeout` is left."""

_PATIENCE: Final = 0.25  # seconds
_AT_ONCE: Final = 16
_AT_ONCE_KNOWN: Final = 16
_ROOM: Final = 512
_UNITS: Final = 4  # of room that a look-up takes for names that share no domain with it
_PACE: Final = 0.5  # seconds between look-ups that take of the second half of the room
_DOMAINS: Final = 4  # of a longer name, those nearest to the root
_KEPT: Final = 1.0  # seconds, if the answer came sooner
_KEPT_AT_MOST: Final = 30.0  # seconds
_REMEMBERED: Final = 10_000
_MANY: Final = 16  # look-ups that hang, to be worth a warning
_QUIET: Final = 3600.0  # seconds until the next warning

NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

Addresses: TypeAlias = tuple[str, ...]
_Found: TypeAlias = Addresses | Exception


class _Rank(IntEnum):
    """What is known of a name. Those with the lower number go first."""

    KNOWN = 0  # it was resolved in time
    NEW = 1
    PUT_OFF = 2  # its look-up did not begin in time
    SLOW = 3  # there was no answer in time


@attrs.frozen
class _Past:
    """How the last look-up of a name went; the answer may be used until then."""

    rank: _Rank
    addresses: Addresses = ()
    until: float = 0.0


@attrs.define(eq=False)
class _Lookup:
    """A look-up that waits for its turn, or runs.

    Attributes:
        name: the name, in ASCII.
        rank: what was known of it.
        domains: the domains that it lies in.
        askers: how many tasks wait for the answer.
        began_at: when its thread began; None before.
        begun, ended: set at these moments.
        found: the answer, or what the resolver raised; None until then.
    """

    name: str
    rank: _Rank
    domains: tuple[str, ...]
    askers: int = 0
    began_at: float | None = None
    begun: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    found: _Found | None = None


class Lookups:
    """All look-ups of one run of Trio.

    Attributes:
        running: how many threads look a name up.
    """

    def __init__(self) -> None:
        self.running = 0
        self._lookups: dict[str, _Lookup] = {}
        self._waiting: dict[_Rank, dict[tuple[str, ...], dict[str, _Lookup]]] = {each: {} for each in _Rank}
        self._young: set[_Lookup] = set()
        self._hanging: set[_Lookup] = set()
        self._running_known = 0
        self._running_in: Counter[str] = Counter()
        self._past: dict[str, _Past] = {}
        self._paced_until = -math.inf
        self._quiet_until = -math.inf

    @property
    def hanging(self) -> int:
        """How many of these were not answered in time."""
        return len(self._hanging)

    async def resolve(self, name: str) -> Addresses:
        """Look a name up.

        Raises:
            OSError: there is no such name, or no answer in time (`socket.gaierror`).
        """
        past = self._past.get(name)
        if past is not None and trio.current_time() < past.until:
            await trio.lowlevel.checkpoint()
            return past.addresses
        lookup = self._join(name)
        try:
            with trio.move_on_after(_TIMEOUT):
                await self._wait(lookup)
            if lookup.found is None:
                raise self._too_late(lookup)
        finally:
            self._leave(lookup)
        if isinstance(lookup.found, Exception):
            raise copy.copy(lookup.found)  # the others who asked raise it, too
        return lookup.found

    def _join(self, name: str) -> _Lookup:
        lookup = self._lookups.get(name)
        if lookup is None:
            past = self._past.get(name)
            rank = _Rank.NEW if past is None else past.rank
            lookup = self._lookups[name] = _Lookup(name, rank, _domains(name))
            self._waiting[rank].setdefault(lookup.domains, {})[name] = lookup
        lookup.askers += 1
        self._begin_next_with(lookup)
        return lookup

    async def _wait(self, lookup: _Lookup) -> None:
        while not lookup.begun.is_set():
            with trio.move_on_after(_PACE):
                await lookup.begun.wait()
            self._begin_next_with(lookup)
        with trio.move_on_after(_PATIENCE):
            await lookup.ended.wait()
        self._make_way(lookup)
        await lookup.ended.wait()

    def _leave(self, lookup: _Lookup) -> None:
        lookup.askers -= 1
        if lookup.askers or lookup.found is not None:
            return
        if lookup.began_at is not None:
            self._make_way(lookup)
        else:
            self._take_out(lookup)
            del self._lookups[lookup.name]

    def _too_late(self, lookup: _Lookup) -> OSError:
        shown = quoted(lookup.name)
        if lookup.began_at is None:
            self._remember(lookup.name, _Past(_Rank.PUT_OFF))
            reason = f"not looked up within {_TIMEOUT:g} s, since {self.running} others have no answer"
            return socket.gaierror(socket.EAI_AGAIN, f"{shown}: {reason}")
        self._remember(lookup.name, _Past(_Rank.SLOW))
        self._hanging.add(lookup)
        if self.hanging >= _MANY and trio.current_time() >= self._quiet_until:
            self._quiet_until = trio.current_time() + _QUIET
            logger.warning(
                "%d look-ups of host names have had no answer for %g s, that of %s among them; each keeps a"
                " thread until the system's resolver gives up",
                self.hanging,
                _TIMEOUT,
                shown,
            )
        return _unanswered(lookup.name)

    def _make_way(self, lookup: _Lookup) -> None:
        """Let others begin beside a look-up that takes long."""
        if lookup in self._young:
            self._young.discard(lookup)
            self._begin_next()

    def _begin_next_with(self, lookup: _Lookup) -> None:
        """If this look-up may begin, begin the one that goes first. Many ask, so this must cost little."""
        if not lookup.begun.is_set() and self._may_begin(lookup.rank, self._taken(lookup.domains)):
            self._begin_next()

    def _begin_next(self) -> None:
        while (lookup := self._next()) is not None:
            self._take_out(lookup)
            self._begin(lookup)

    def _next(self) -> _Lookup | None:
        """The look-up that may begin now: of the best rank, in the emptiest domains, the latest one."""
        for rank, groups in self._waiting.items():
            if len(self._young) >= _AT_ONCE and rank is not _Rank.KNOWN:
                break
            least: int | None = None
            group: dict[str, _Lookup] = {}
            for domains, lookups in groups.items():
                taken = self._taken(domains)
                if (least is None or taken <= least) and self._may_begin(rank, taken):
                    least, group = taken, lookups
            if least is not None:
                if rank is not _Rank.KNOWN and least >= _ROOM // 2:
                    self._paced_until = trio.current_time() + _PACE
                return next(reversed(group.values()))
        return None

    def _taken(self, domains: tuple[str, ...]) -> int:
        """How much room is taken, as a name in these domains sees it."""
        return _UNITS * self.running + sum(self._running_in[each] for each in domains)

    def _may_begin(self, rank: _Rank, taken: int) -> bool:
        if rank is _Rank.KNOWN and self._running_known < _AT_ONCE_KNOWN:
            return True
        if len(self._young) >= _AT_ONCE or taken >= _ROOM:
            return False
        return taken < _ROOM // 2 or (rank is not _Rank.SLOW and trio.current_time() >= self._paced_until)

    def _take_out(self, lookup: _Lookup) -> None:
        groups = self._waiting[lookup.rank]
        del groups[lookup.domains][lookup.name]
        if not groups[lookup.domains]:
            del groups[lookup.domains]

    def _begin(self, lookup: _Lookup) -> None:
        lookup.began_at = trio.current_time()
        lookup.begun.set()
        self._young.add(lookup)
        self._count(lookup, 1)
        token = trio.lowlevel.current_trio_token()

        def deliver(found: Any) -> None:  # it comes wrapped, as Trio wraps what a thread returns or raises
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(self._end, lookup, found.unwrap())

        try:
            trio.lowlevel.start_thread_soon(
                partial(_ask_system, lookup.name), deliver, f"look-up of {lookup.name}"
            )
        except RuntimeError as error:  # the system has no thread left
            self._note(lookup, OSError(errno.EAGAIN, f"{quoted(lookup.name)} was not looked up: {error}"))

    def _end(self, lookup: _Lookup, found: _Found) -> None:
        self._note(lookup, found)
        self._begin_next()

    def _note(self, lookup: _Lookup, found: _Found) -> None:
        assert lookup.began_at is not None
        self._young.discard(lookup)
        self._count(lookup, -1)
        del self._lookups[lookup.name]
        self._hanging.discard(lookup)
        now = trio.current_time()
        took = now - lookup.began_at
        rank = _Rank.SLOW if took > _TIMEOUT else _Rank.NEW if isinstance(found, Exception) else _Rank.KNOWN
        if isinstance(found, Exception):
            self._remember(lookup.name, _Past(rank))
        else:
            kept = min(max(took, _KEPT), _KEPT_AT_MOST)
            self._remember(lookup.name, _Past(rank, found, now + kept))
        lookup.found = found
        lookup.ended.set()

    def _count(self, lookup: _Lookup, change: int) -> None:
        self.running += change
        if lookup.rank is _Rank.KNOWN:
            self._running_known += change
        for domain in lookup.domains:
            self._running_in[domain] += change
            if not self._running_in[domain]:
                del self._running_in[domain]

    def _remember(self, name: str, past: _Past) -> None:
        self._past.pop(name, None)
        self._past[name] = past
        if len(self._past) > _REMEMBERED:
            del self._past[next(iter(self._past))]


def _domains(name: str) -> tuple[str, ...]:
    """The domains that a name lies in: "example.org" and "org" for "node.example.org"."""
    labels = name.lower().removesuffix(".").split(".")
    return tuple(".".join(labels[start:]) for start in range(max(1, len(labels) - _DOMAINS), len(labels)))


def _ask_system(name: str) -> _Found:
    """Look a name up in this thread; what that raises is returned."""
    try:
        return address_texts(socket.getaddrinfo(name.encode("ascii"), 0, type=socket.SOCK_STREAM))
    except Exception as error:  # whatever it is, it is for those who asked
        return error


_lookups = trio.lowlevel.RunVar[Lookups]("_lookups")


def lookups() -> Lookups:
    """The look-ups of this run of Trio."""
    try:
        return _lookups.get()
    except LookupError:
        new = Lookups()
        _lookups.set(new)
        return new


async def resolve(host: str, port: int) -> Addresses:
    """Find the IP addresses of a host, as texts; there is at least one.

    A resolver that the program has set for all of Trio is asked instead of the system's, in the same time.

    Args:
        host: a name or an IP address.
        port: a port, which such a resolver may want to know.

    Raises:
        OSError: there is no such name, or no answer in time (`socket.gaierror`); see also `ascii_host`.
    """
    name = ascii_host(host)
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=NUMERIC)
    except socket.gaierror as error:
        if error.errno != socket.EAI_NONAME:
            raise
    else:
        await trio.lowlevel.checkpoint()
        return address_texts(found)
    if not _has_own_resolver():
        return await lookups().resolve(name)
    with trio.move_on_after(_TIMEOUT):
        return address_texts(await trio.socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
    raise _unanswered(name)


def _has_own_resolver() -> bool:
    """Whether the program has set a resolver for all of Trio. Trio tells it only to who sets another."""
    resolver = trio.socket.set_custom_hostname_resolver(None)
    trio.socket.set_custom_hostname_resolver(resolver)
    return resolver is not None


def _unanswered(name: str) -> OSError:
    return socket.gaierror(
        socket.EAI_AGAIN, f"{quoted(name)}: the name was not resolved within {_TIMEOUT:g} s"
    )
