"""Which deployment of a model is used, whatever the orchestrator says, in whatever order; without I/O."""

from __future__ import annotations

from collections import Counter

from helpers.book import (
    JOINED,
    RECOVERING,
    REDEPLOYED,
    RESTARTED,
    RUNNING,
    STOPPED,
    Book,
    FakeDeployment,
    entry,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_model_runner.orchestrator.messages import Entry, RunState


def test_what_runs_is_started_once() -> None:
    book = Book()
    book.init(entry("a"), entry("b"))
    book.update(entry("a"), entry("c"))
    assert [(each.model_id, each.reason) for each in book.started] == [(each, JOINED) for each in "abc"]
    assert set(book.current) == {"a", "b", "c"}
    assert len(book) == 3


def test_what_recovers_is_announced_and_waits_to_be_revived() -> None:
    book = Book()
    book.init(entry("m", state=RECOVERING))
    (deployment,) = book.started
    assert book.current == {"m": deployment}
    book.update(entry("m", at="y"))
    assert deployment.told == ["recover", "move to y"]


def test_what_an_init_does_not_list_is_gone() -> None:
    book = Book()
    book.init(entry("a"), entry("b"))
    book.init(entry("b"), entry("c"))
    a, b, c = book.started
    assert a.told == ["stop"]
    assert b.told == ["revive"]
    assert set(book.current.values()) == {b, c}
    book.init()
    assert len(book) == 0
    assert all(each.left for each in book.started)


def test_an_update_leaves_alone_what_it_does_not_name(book: Book) -> None:
    book.update(entry("other"))
    assert book.current["m"] is book.started[0]
    assert book.started[0].told == []


def test_a_running_entry_brings_new_infos_and_new_life(book: Book) -> None:
    book.update(entry("m", model_name="new"))
    (deployment,) = book.started
    assert deployment.infos == {"model_name": "new"}
    assert deployment.told == ["revive"]


def test_the_used_deployment_recovers_and_stops(book: Book) -> None:
    (deployment,) = book.started
    book.update(entry("m", state=RECOVERING))
    assert deployment.told == ["recover"]
    assert set(book.current) == {"m"}
    book.update(entry("m", state=STOPPED))
    assert deployment.told == ["recover", "stop"]
    assert len(book) == 0
    book.update(entry("m"))
    assert book.current["m"] is book.started[1]


def test_the_old_deployment_is_used_until_the_new_one_is_ready(book: Book) -> None:
    book.update(entry("m", "d2", at="y"))
    old, new = book.started
    assert new.reason is REDEPLOYED
    assert book.current["m"] is old
    assert set(book.deployments) == {old, new}
    assert book.make_ready(new) is old
    assert book.current["m"] is new
    assert old.told == ["retire"]
    assert book.make_ready(new) is None


def test_a_replaced_deployment_changes_nothing_any_more(book: Book) -> None:
    book.update(entry("m", "d2", at="y"))
    old, new = book.started
    book.make_ready(new)
    book.update(entry("m"), entry("m", state=RECOVERING), entry("m", state=STOPPED))
    book.init(entry("m"), entry("m", "d2", at="y"))
    book.init(entry("m", "d2", at="y"), entry("m", state=RECOVERING))
    assert len(book.started) == 2
    assert old.told == ["retire"]
    assert book.current["m"] is new
    book.init(entry("m"))
    assert len(book) == 0


def test_the_one_coming_up_recovers_or_stops_without_the_used_one(book: Book) -> None:
    book.update(entry("m", "d2", at="y"))
    old, new = book.started
    book.update(entry("m", "d2", RECOVERING))
    assert (old.told, new.told) == ([], ["recover"])
    book.update(entry("m", "d2", STOPPED))
    assert (old.told, new.told) == ([], ["recover", "stop"])
    assert book.deployments == [old]


def test_when_the_used_one_stops_the_one_coming_up_takes_its_place(book: Book) -> None:
    book.update(entry("m", "d2", at="y"))
    old, new = book.started
    book.update(entry("m", state=STOPPED))
    assert old.told == ["stop"]
    assert book.current["m"] is new
    assert book.make_ready(new) is None
    assert new.told == []


def test_a_third_deployment_takes_the_place_of_the_second_before_that_was_ready(book: Book) -> None:
    book.update(entry("m", "d2", at="y"))
    book.update(entry("m", "d3", at="z"))
    first, second, third = book.started
    assert second.told == ["stop"]
    assert book.make_ready(second) is None
    assert book.deployments == [first, third]
    book.update(entry("m", "d2", at="y"))
    assert len(book.started) == 3


def test_unknown_deployments_that_stop_or_recover_change_nothing(book: Book) -> None:
    book.update(entry("m", "d0", STOPPED), entry("m", "d0", RECOVERING), entry("n", "d9", STOPPED))
    assert book.started[0].told == []
    assert set(book.current) == {"m"}


def test_one_init_lists_both_and_the_later_entry_is_the_newer() -> None:
    book = Book()
    book.init(entry("m"), entry("m", "d2", at="y"))
    old, new = book.started
    assert (old.reason, new.reason) == (JOINED, REDEPLOYED)
    assert book.make_ready(old) is None
    assert book.make_ready(new) is old
    assert old.told == ["retire"]


def test_an_older_deployment_that_we_never_saw_does_not_replace_the_newer() -> None:
    book = Book()
    book.init(entry("m", "d2", at="y"))
    book.init(entry("m", "d1"), entry("m", "d2", at="y"))
    assert [each.deployment_id for each in book.started] == ["d2"]
    book.update(entry("m", "d1", model_name="new"))
    assert [each.deployment_id for each in book.deployments] == ["d2"]


def test_a_recovering_deployment_is_announced_when_an_init_drops_the_one_before_it(book: Book) -> None:
    book.init(entry("m", "d2", RECOVERING))
    old, new = book.started
    assert old.told == ["stop"]
    assert book.current["m"] is new
    assert new.told == ["recover"]


def test_a_ready_deployment_that_moves_is_used_until_it_is_ready_there(book: Book) -> None:
    book.update(entry("m", at="y"))
    here, there = book.started
    assert there.reason is RESTARTED
    book.update(entry("m", at="y", model_name="new"))
    assert there.told == ["revive"]
    assert len(book.started) == 2
    assert book.make_ready(there) is here
    assert book.current["m"] is there
    book.init(entry("m", at="y"))
    assert book.current["m"] is there


def test_a_deployment_that_is_not_ready_just_moves() -> None:
    book = Book()
    book.init(entry("m"))
    book.update(entry("m", at="y"))
    (deployment,) = book.started
    assert deployment.told == ["move to y"]


def test_a_deployment_that_moves_and_comes_back_stays(book: Book) -> None:
    book.update(entry("m", at="y"))
    book.update(entry("m", at="x"))
    here, there = book.started
    assert there.told == ["stop"]
    assert book.deployments == [here]


def test_a_deployment_whose_move_is_overtaken_was_not_replaced(book: Book) -> None:
    book.init(entry("m", at="y"), entry("m", None, at="y"))
    book.init(entry("m", at="y"))
    assert [each.deployment_id for each in book.deployments] == ["d1", "d1"]
    # Private: what is remembered without end shows only in memory.
    assert not book._replaced


def test_a_deployment_that_moves_stops_at_both_places(book: Book) -> None:
    book.update(entry("m", at="y"))
    book.update(entry("m", state=STOPPED))
    assert all(each.told == ["stop"] for each in book.started)
    assert len(book) == 0


def test_without_ids_the_address_is_the_name() -> None:
    book = Book()
    book.init(entry("m", None))
    book.update(entry("m", None, model_name="new"))
    book.update(entry("m", None, at="y"))
    old, new = book.started
    assert (old.told, new.reason) == (["revive"], REDEPLOYED)
    assert book.make_ready(new) is old
    book.update(entry("m", None, at="x"))
    assert book.make_ready(book.started[2]) is new
    book.update(entry("m", None, STOPPED))
    assert len(book) == 0


def test_without_an_address_either_an_entry_names_all() -> None:
    book = Book()
    book.init(entry("m", None))
    book.update(entry("m", None, at="y"))
    book.update(entry("m", None, RECOVERING))
    assert [each.told for each in book.started] == [["recover"], ["recover"]]
    book.update(entry("m", None, STOPPED))
    assert all(each.left for each in book.started)


def test_an_orchestrator_that_learns_ids_redeploys_everything() -> None:
    book = Book()
    book.init(entry("m", None))
    book.make_ready(book.started[0])
    book.init(entry("m", "d1"))
    old, new = book.started
    assert old.told == ["stop"]
    assert book.current["m"] is new


def test_a_deployment_that_nobody_waits_for_replaces_nobody(book: Book) -> None:
    stranger = FakeDeployment(entry("n"), JOINED)
    assert book.make_ready(stranger) is None
    assert book.make_ready(book.started[0]) is None


IDS = st.sampled_from([None, "d1", "d2", "d3", "d4"])
ENTRIES = st.lists(
    st.builds(entry, st.sampled_from("mn"), IDS, st.sampled_from(RunState), at=st.sampled_from("xyz")),
    max_size=5,
)
LISTS = st.lists(
    st.builds(
        entry,
        st.sampled_from("mn"),
        IDS,
        st.sampled_from([RUNNING, RECOVERING]),
        at=st.sampled_from("xyz"),
    ),
    max_size=5,
    unique_by=lambda each: (each.model_id, each.deployment_id),
)


class AnyEvents(RuleBasedStateMachine):
    """Whatever an orchestrator says, and whichever deployments get ready in between."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.replaced: set[tuple[str, str]] = set()

    @rule(entries=ENTRIES)
    def update(self, entries: list[Entry]) -> None:
        self.book.update(*entries)

    @rule(entries=LISTS)
    def init(self, entries: list[Entry]) -> None:
        self.book.init(*entries)
        named = {(each.model_id, each.deployment_id) for each in entries}
        replaced = set(self.book._replaced)  # more than ours: some were replaced before they were ready
        assert set(self.book.current) == {model_id for model_id, _ in named - replaced}
        assert {(each.model_id, each.deployment_id) for each in self.book.deployments} <= named

    @rule(data=st.data())
    def get_ready(self, data: st.DataObject) -> None:
        candidates = [each for each in self.book.started if not each.left]
        if candidates:
            deployment = data.draw(st.sampled_from(candidates))
            replaced = self.book.make_ready(deployment)
            if replaced is not None and replaced.deployment_id not in (None, deployment.deployment_id):
                assert replaced.deployment_id is not None
                self.replaced.add((replaced.model_id, replaced.deployment_id))

    @invariant()
    def who_is_not_in_use_or_coming_up_was_told_to_go(self) -> None:
        held = self.book.deployments
        assert len(held) == len(set(held))
        assert set(held) == {each for each in self.book.started if not each.left}

    @invariant()
    def a_model_has_one_deployment_in_use_and_at_most_one_coming_up(self) -> None:
        counts = Counter(each.model_id for each in self.book.deployments)
        assert set(counts) == set(self.book.current)
        assert set(counts.values()) <= {1, 2}

    @invariant()
    def replaced_deployments_do_not_come_back(self) -> None:
        held = {(each.model_id, each.deployment_id) for each in self.book.deployments}
        assert not held & self.replaced

    @invariant()
    def who_goes_is_told_once(self) -> None:
        for each in self.book.started:
            assert sum(word in ("stop", "retire") for word in each.told) <= 1


AnyEvents.TestCase.settings = settings(max_examples=150, stateful_step_count=15, deadline=None)
TestAnyEvents = AnyEvents.TestCase
