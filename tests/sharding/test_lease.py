"""Leases: a shard falls silent before its models are given away, whatever is late, lost or stopped."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.sharding.lease import GRACE, HeldLease, OwnGaps, WatchedLease, boot_time


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_there_is_no_lease_before_the_first_is_granted() -> None:
    clock = Clock()
    lease = HeldLease(2.0, clock)
    sequence = lease.renew()
    assert not lease.valid()
    lease.grant(sequence)
    assert lease.valid()


def test_a_lease_lasts_from_the_sending_not_from_the_grant() -> None:
    clock = Clock()
    lease = HeldLease(2.0, clock)
    sequence = lease.renew()
    clock.now += 1.5
    lease.grant(sequence)
    clock.now += 0.499
    assert lease.valid()
    clock.now += 0.001
    assert not lease.valid()


def test_a_grant_that_was_never_asked_for_is_none() -> None:
    lease = HeldLease(2.0, Clock())
    lease.renew()
    for made_up in (0, 2, -1, 10**9):
        lease.grant(made_up)
    assert not lease.valid()


def test_a_late_grant_does_not_shorten_the_lease() -> None:
    clock = Clock()
    lease = HeldLease(2.0, clock)
    first = lease.renew()
    clock.now += 1.0
    second = lease.renew()
    lease.grant(second)
    lease.grant(first)
    clock.now += 1.999
    assert lease.valid()


def test_how_long_it_is_lost_is_counted_from_its_end() -> None:
    clock = Clock()
    lease = HeldLease(2.0, clock)
    clock.now += 5.0
    assert lease.lost_for == 5.0
    lease.grant(lease.renew())
    assert lease.lost_for == 0.0
    clock.now += 2.5
    assert lease.lost_for == 0.5


@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.floats(0, 2), st.floats(0, 2)),  # waits; ways to the driver and back
        max_size=12,
    ),
    st.floats(-1000, 1000),
)
def test_the_shard_is_silent_before_the_driver_gives_its_models_away(
    renewals: list[tuple[float, float, float]], offset: float
) -> None:
    """However late messages are, and however far apart the clocks."""
    clock = Clock()
    held, watched = HeldLease(2.0, clock), WatchedLease(2.0, clock.now + offset)
    held_until, watched_until = -math.inf, watched.expires_at - offset
    arrivals: list[tuple[float, int, float]] = []
    for wait, there, back in renewals:
        clock.now += wait
        arrivals.append((clock.now + there, held.renew(), clock.now + there + back))
    for arrived, sequence, granted in sorted(arrivals):
        if arrived >= watched_until:
            break  # too late: the driver has given the models away, and grants nothing
        watched.note_renewal(arrived + offset)
        watched_until = watched.expires_at - offset
        clock.now = granted
        held.grant(sequence)
        held_until = max(held_until, clock.now + _left(held, clock))
    assert held_until < watched_until - GRACE / 2 or not arrivals or held_until == -math.inf


def _left(lease: HeldLease, clock: Clock) -> float:
    """How long a lease lasts from now; negative if it has ended."""
    start, low, high = clock.now, -10.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        clock.now = start + middle
        low, high = (middle, high) if lease.valid() else (low, middle)
    clock.now = start
    return low


def test_the_driver_notices_that_it_was_away_itself() -> None:
    gaps = OwnGaps(10.0)
    gaps.expect(10.2)
    assert not gaps.was_away(10.6)
    assert gaps.was_away(10.8)
    gaps.expect(11.0)
    assert not gaps.was_away(11.0)


def test_the_boot_clock_goes_on() -> None:
    first = boot_time()
    assert boot_time() >= first
