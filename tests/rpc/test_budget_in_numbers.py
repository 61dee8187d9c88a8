"""The buckets of `rpc.budget` alone, to the unit: what each grants, how long, and where it ends."""

from __future__ import annotations

import pytest

from trio_model_runner.rpc.budget import CAPACITY, FRAME, FRAME_ON_CLOSED_STREAM, MESSAGE, WorkBudget
from trio_model_runner.rpc.frames import ProtocolViolation

MIB = 1 << 20


class Bucket(WorkBudget):
    """A budget whose time stands still unless `now` is set."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(lambda: self.now)

    @property
    def spent(self) -> float:
        """What was paid from the bucket that is not refilled by us."""
        return CAPACITY - self.left


def test_the_last_unit_may_be_spent_and_no_more() -> None:
    budget = Bucket()
    budget.spend(CAPACITY)
    budget.spend(0)
    with pytest.raises(ProtocolViolation):
        budget.spend(1)


def test_each_32_bytes_that_we_send_pay_for_one_reaction() -> None:
    budget = Bucket()
    for number in (1, 2, 3):
        budget.spend_on_reaction(32 * number, FRAME)
        assert budget.spent == (number - 1) * FRAME
        budget.spend_on_reaction(32 * number + 31, FRAME)
        assert budget.spent == number * FRAME


def test_no_peer_saves_up_more_reactions_than_65_536() -> None:
    budget = Bucket()
    for _ in range(65_536):
        budget.spend_on_reaction(1 << 40, FRAME)
    assert budget.spent == 0
    budget.spend_on_reaction(1 << 40, FRAME)
    assert budget.spent == FRAME


@pytest.mark.parametrize(
    ("window", "messages", "granted"),
    [(0, False, 512), (1000, False, 125 + 512), (8 * MIB, False, MIB + 512), (1000, True, 25_600 + 512)],
)
def test_a_stream_that_is_reset_grants_what_may_be_on_its_way(
    window: int, messages: bool, granted: float
) -> None:
    """Its window, and the headers and trailers."""
    assert 2 * MESSAGE == 512
    budget = Bucket()
    budget.expect_in_flight(window, messages=messages)
    budget.spend_on_closed_stream(granted)
    assert budget.spent == 0
    budget.spend_on_closed_stream(FRAME_ON_CLOSED_STREAM)
    assert budget.spent == FRAME_ON_CLOSED_STREAM


def test_what_does_not_fit_into_the_grant_is_paid_from_the_bucket_alone() -> None:
    budget = Bucket()
    budget.expect_in_flight(0, messages=False)
    budget.spend_on_closed_stream(513)
    assert budget.spent == 513
    budget.spend_on_closed_stream(512)
    assert budget.spent == 513


def test_a_grant_holds_for_30_seconds() -> None:
    budget = Bucket()
    budget.spend(CAPACITY)
    budget.expect_in_flight(0, messages=False)
    budget.now = 30.0
    budget.spend(CAPACITY)  # what time has given
    budget.spend_on_closed_stream(128)
    assert budget.left == 0
    budget.now = 30.1
    budget.spend(budget.left + 3276)
    with pytest.raises(ProtocolViolation):
        budget.spend_on_closed_stream(128)


def test_a_grant_that_has_run_out_is_not_added_to_the_next_one() -> None:
    budget = Bucket()
    budget.expect_in_flight(MIB, messages=False)
    budget.now = 31.0
    budget.expect_in_flight(0, messages=False)
    budget.spend_on_closed_stream(512)
    budget.spend_on_closed_stream(128)
    assert budget.spent == 128


def test_grants_add_up_to_4_mib_and_to_no_more() -> None:
    budget = Bucket()
    for _ in range(1000):
        budget.expect_in_flight(MIB, messages=False)
    budget.spend_on_closed_stream(4 * MIB)
    assert budget.spent == 0
    budget.spend_on_closed_stream(128)
    assert budget.spent == 128


def test_a_large_grant_is_not_cut_by_the_next_small_one() -> None:
    budget = Bucket()
    budget.expect_in_flight(MIB, messages=True)
    budget.expect_in_flight(1000, messages=False)
    budget.spend_on_closed_stream(25.6 * MIB)
    assert budget.spent == 0


def test_work_that_is_granted_makes_a_turn_as_long_as_other_work() -> None:
    budget = Bucket()
    budget.expect_in_flight(MIB, messages=False)
    for _ in range(127):
        budget.spend_on_closed_stream(128)
    assert not budget.turn_over
    budget.spend_on_closed_stream(128)
    assert budget.turn_over
    budget.begin_turn()
    assert (budget.turn_over, budget.spent_in_turn) == (False, 0)
    budget.spend_on_closed_stream(128)
    assert not budget.turn_over


def test_work_that_is_free_makes_a_turn_as_long_as_other_work() -> None:
    budget = Bucket()
    for _ in range(255):
        budget.spend(0, work=64)
    assert not budget.turn_over
    budget.spend(0, work=64)
    assert budget.turn_over
    assert budget.spent == 0


def test_what_a_call_brings_never_makes_it_more_than_full() -> None:
    budget = Bucket()
    budget.earn(CAPACITY)
    assert budget.left == CAPACITY
    budget.spend(1000)
    budget.earn(300)
    assert budget.left == CAPACITY - 700
