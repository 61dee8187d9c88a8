"""All models of a cluster at one moment: whether one of them is alone with its trouble.

When our network fails, or a coordinator sends a value that no model can take, every model times out or fails
at the same time. Reports would stop a whole competition, and each of them, by itself, looks right. And nodes
do not die together by chance.
"""

from __future__ import annotations

import bisect
import ipaddress
from collections.abc import Collection, Hashable, Iterator
from typing import TYPE_CHECKING, Final

from .record import NEVER, SETUP

if TYPE_CHECKING:
    from ...config import Health
    from .record import Record, Standing

__all__ = ["Crowd", "Crowds"]

_AT_ONE_PLACE: Final = 3
"""So many models lost at one host, or in one network, are lost with that host."""

_MOST_TO_DIE_BY_CHANCE: Final = 10


class Crowd:
    """All models at one moment: whether one of them is alone with its trouble.

    Args:
        records: the records of all deployments.
        members: how many models there are.
        health: the numbers.
        gateway: all nodes are reached through one gateway, so that their hosts say nothing.
        size: how many models have these records, if they are only a part of all: those of one process, which
            has its own way to the nodes. None if they are all.
    """

    def __init__(
        self,
        records: Collection[Record],
        members: int,
        health: Health,
        *,
        gateway: bool = False,
        size: int | None = None,
    ) -> None:
        self._records = records
        self._members = members
        self._health = health
        self._size = size
        self._shares: dict[tuple[str, float], tuple[int, int]] = {}
        self._most_have: dict[str, bool] = {}
        self._losses = _Losses()
        self._losses_at: dict[str, _Losses] = {}
        for record in records:
            if record.lost_at > NEVER:
                self._losses.add(record)
                if not gateway and record.stood >= health.mass_window:  # else it says nothing of the place
                    for place in _places(record.host):
                        self._losses_at.setdefault(place, _Losses()).add(record)

    def has(self, record: Record) -> bool:
        """Whether a model belongs to it."""
        return record in self._records

    @property
    def lost_by_chance(self) -> float:
        """So many models lost together are not lost by chance: a tenth, but 3 to 10, or all there are."""
        if self._size is not None:  # a part may be so small that all of it is lost by chance
            return min(max(3, self._size / 10), _MOST_TO_DIE_BY_CHANCE)
        return min(max(3, self._members / 10), _MOST_TO_DIE_BY_CHANCE, self._members)

    def shares_trouble(self, method: str, since: float) -> bool:
        """Whether too many of the models that were asked a method since then have not succeeded since.

        A crunch of one is no crowd; there, `Health.require_witness` says whether anything counts.
        """
        if self._members <= 1:
            return self._health.require_witness
        asked, succeeded = self._share(method, since)
        failed = asked - succeeded
        return failed >= self._health.mass_fraction * asked and failed >= min(
            self._health.mass_minimum, self._members
        )

    def most_have(self, method: str) -> bool:
        """Whether more models have a method, or the class of a Setup, than lack it (rule b)."""
        most = self._most_have.get(method)
        if most is None:
            have = lack = 0
            for record in self._records:
                standing = record.standings.get(method)
                if standing is not None:
                    lack += standing.lacks
                    has = record.created if method == SETUP else standing.succeeded_at > NEVER
                    have += has and not standing.lacks
            most = self._most_have[method] = have > lack
        return most

    def most_others_succeeded(self, method: str, since: float) -> bool:
        """Whether more than half of the other models that were called with a method since then succeeded.

        Those that could not be reached were called, too. (The model itself was, and has not succeeded.)
        """
        called = succeeded = 0
        for standing in self._standings(method):
            called += standing.called_since(since)
            succeeded += standing.succeeded_at >= since
        return succeeded * 2 > called - 1

    def _share(self, method: str, since: float) -> tuple[int, int]:
        """How many models were asked a method since then, and how many of them have succeeded since.

        A model that has failed with it ever since, or for longer, has not succeeded since: a success of
        another round that went on at the same time says nothing.
        """
        share = self._shares.get((method, since))
        if share is None:
            asked = succeeded = 0
            for standing in self._standings(method):
                if standing.asked_since(since):
                    asked += 1
                    fails = standing.first_at is not None and standing.first_at <= since
                    succeeded += standing.succeeded_at >= since and not fails
            share = self._shares[method, since] = asked, succeeded
        return share

    def _standings(self, method: str) -> Iterator[Standing]:
        for record in self._records:
            standing = record.standings.get(method)
            if standing is not None:
                yield standing

    def lost_with_others(self, record: Record) -> bool:
        """Whether too many models were lost at about the time when this one was, or are lost since."""
        if self._members <= 1:
            return self._health.require_witness
        window = self._health.mass_window
        if self._losses.count(record, window) >= self.lost_by_chance:
            return True
        at_places = (self._losses_at.get(place) for place in _places(record.host))
        return any(
            losses is not None and losses.count(record, window) >= _AT_ONE_PLACE for losses in at_places
        )


class _Losses:
    """When connections were lost, of models that are connected again, and of those that are not."""

    def __init__(self) -> None:
        self._over: list[float] = []
        self._lasting: list[float] = []

    def add(self, record: Record) -> None:
        """Note when the connection of a model was lost last."""
        bisect.insort(self._over if record.connected else self._lasting, record.lost_at)

    def count(self, record: Record, window: float) -> int:
        """How many were lost with a model, itself included.

        That are those which are still lost, and were lost a window before it at the earliest; and those which
        are back, and were lost within a window around its loss, or around the last time when it was held:
        who stays away when all others are back is alone in the end.
        """
        lasting = len(self._lasting) - bisect.bisect_left(self._lasting, record.lost_at - window)
        time = max(record.lost_at, record.held_at)
        first = bisect.bisect_left(self._over, time - window)
        return lasting + bisect.bisect_right(self._over, time + window) - first


def _places(host: str) -> list[str]:
    """The places that a host is at: itself, and its network of 256 addresses if it is an IPv4 address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return [host]
    if address.version == 4:
        return [host, str(ipaddress.ip_network(f"{address}/24", strict=False))]
    return [host]


class Crowds:
    """All models at one moment, and those of each process by itself.

    Where several processes have the models, each has a way of its own to the nodes, and trouble of its own.
    So a model is alone with its trouble only if it is alone in both views.

    Args:
        records: the records of all deployments.
        members: how many models there are.
        health: the numbers.
        gateway: see `Crowd`.

    Attributes:
        all: the crowd of all models.
    """

    def __init__(
        self, records: Collection[Record], members: int, health: Health, *, gateway: bool = False
    ) -> None:
        self.all = Crowd(records, members, health, gateway=gateway)
        self._records = records
        self._members = members
        self._health = health
        self._gateway = gateway
        self._of_group: dict[Hashable, Crowd] = {}

    def around(self, record: Record) -> list[Crowd]:
        """The crowds that a model is in."""
        group = record.group
        if group is None:
            return [self.all]
        crowd = self._of_group.get(group)
        if crowd is None:
            records = [each for each in self._records if each.group == group]
            crowd = self._of_group[group] = Crowd(
                records, self._members, self._health, gateway=self._gateway, size=len(records)
            )
        return [self.all, crowd]
