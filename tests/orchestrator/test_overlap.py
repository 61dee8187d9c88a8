"""What counts while two connections are open: nothing is lost, doubled or taken back, in any order."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trio_model_runner.orchestrator import Entry, Init, RunState, Update
from trio_model_runner.orchestrator import overlap as overlap_module
from trio_model_runner.orchestrator.overlap import Overlap

RUNNING, STOPPED, RECOVERING = RunState.RUNNING, RunState.STOPPED, RunState.RECOVERING


def word(model_id: str, version: int = 0, state: RunState = RUNNING, deployment_id: str = "d") -> Entry:
    return Entry(model_id, deployment_id, state, "x", 1, {"version": version})


def update(*entries: Entry) -> Update:
    return Update(entries)


def test_until_the_list_comes_the_old_one_counts_and_then_the_new_one() -> None:
    overlap = Overlap()
    assert overlap.hear_old(update(word("a", 1))) == update(word("a", 1))
    assert overlap.hear_list(Init((word("a", 1), word("b")))) == Init(
        (word("a", 1), word("b")), corrects=True
    )
    assert overlap.hear_old(update(word("c"))) is None
    assert overlap.hear_new(update(word("c"))) == update(word("c"))
    assert not overlap.missed


def test_what_the_list_does_not_have_yet_is_not_taken_back() -> None:
    overlap = Overlap()
    overlap.hear_old(update(word("new"), word("changed", 2), word("gone", 1, STOPPED)))
    init = overlap.hear_list(Init((word("changed", 1), word("gone"), word("other"))))
    assert init == Init(
        (word("changed", 2), word("gone", 1, STOPPED), word("other"), word("new")), corrects=True
    )
    assert overlap.missed  # unless the new one says it, too
    assert overlap.hear_new(update(word("new"), word("changed", 2), word("gone", 1, STOPPED))) is None
    assert not overlap.missed


def test_each_word_is_heard_once() -> None:
    overlap = Overlap()
    overlap.hear_old(update(word("a", 1, RECOVERING)))
    overlap.hear_old(update(word("a", 2)))
    overlap.hear_list(Init(()))
    assert overlap.hear_new(update(word("a", 1, RECOVERING))) is None
    assert overlap.missed
    assert overlap.hear_new(update(word("a", 2), word("b"))) == update(word("b"))
    assert not overlap.missed
    assert overlap.hear_new(update(word("a", 2))) == update(word("a", 2))  # it is said again


def test_what_comes_after_a_newer_word_is_no_repetition() -> None:
    overlap = Overlap()
    overlap.hear_old(update(word("a", 1, RECOVERING)))
    overlap.hear_list(Init(()))
    assert overlap.hear_new(update(word("a", 2))) == update(word("a", 2))
    assert overlap.hear_new(update(word("a", 1, RECOVERING))) == update(word("a", 1, RECOVERING))


def test_what_the_old_one_says_and_the_new_one_contradicts_was_missed() -> None:
    overlap = Overlap()
    overlap.hear_list(Init((word("a"),)))
    overlap.hear_old(update(word("a"), word("b", 1, RECOVERING), word("c", 1, STOPPED)))
    assert not overlap.missed  # the list has it, or has what follows from it
    overlap.hear_old(update(word("a", 2)))
    assert overlap.missed
    overlap.hear_new(update(word("a", 2)))
    assert not overlap.missed
    overlap.hear_old(update(word("a", 3, STOPPED)))
    assert overlap.missed


def test_what_counted_and_was_older_than_the_list_is_missed() -> None:
    overlap = Overlap()
    overlap.hear_old(update(word("a", 1)))
    assert overlap.hear_list(Init(())) == Init((word("a", 1),), corrects=True)
    overlap.hear_old(update(word("a", 2, STOPPED)))  # which the list has had, so it does not come again
    assert overlap.missed


def test_a_newer_word_ends_the_doubt() -> None:
    overlap = Overlap()
    overlap.hear_old(update(word("a", 1)))
    overlap.hear_list(Init(()))
    assert overlap.hear_new(update(word("a", 2))) == update(word("a", 2))
    overlap.hear_old(update(word("a", 2)))
    assert not overlap.missed


def test_an_empty_update_is_passed_on() -> None:
    overlap = Overlap()
    overlap.hear_list(Init(()))
    assert overlap.hear_new(update()) == update()


@pytest.mark.parametrize("new_one_says_it", [False, True])
def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch, new_one_says_it: bool) -> None:
    monkeypatch.setattr(overlap_module, "_MOST_WORDS", 3)
    overlap = Overlap()
    if new_one_says_it:
        overlap.hear_list(Init(()))
    hear = overlap.hear_new if new_one_says_it else overlap.hear_old
    assert hear(update(*map(word, "abc"))) is not None
    overlap.hear_list(Init(tuple(map(word, "abc"))))
    assert not overlap.missed
    overlap.hear_old(update(word("a", 1)))
    overlap.hear_new(update(word("a", 1)))
    assert not overlap.missed
    assert hear(update(word("d"))) == (update(word("d")) if new_one_says_it else None)
    assert overlap.missed


def test_how_much_may_be_said_twice_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap_module, "_MOST_WORDS", 3)
    overlap = Overlap()
    for version in range(1, 5):
        overlap.hear_old(update(word("a", version)))
    overlap.hear_list(Init((word("a"),)))
    assert overlap.hear_new(update(word("a", 3))) is None
    assert overlap.hear_new(update(word("a", 4))) == update(word("a", 4))


@attrs.frozen
class Story:
    """What an orchestrator says, and which of it comes where.

    Attributes:
        words: all of it, in order.
        heard: how many of them the old connection has brought before the new one is begun.
        listed: how many of them the list has.
        lost_by_old: which of the others the old connection never brings.
        lost_by_new: which of those after the list the new connection never brings.
        order: from which connection the next thing is read, True for the new one.
    """

    words: list[Entry]
    heard: int
    listed: int
    lost_by_old: set[int]
    lost_by_new: set[int]
    order: list[bool]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    states = st.sampled_from([RUNNING, RUNNING, RUNNING, RECOVERING, STOPPED])
    told = draw(st.lists(st.tuples(st.sampled_from("ab"), states), max_size=10))
    words = [word(model_id, version, state) for version, (model_id, state) in enumerate(told)]
    heard = draw(st.integers(0, len(words)))
    listed = draw(st.integers(heard, len(words)))
    numbers = st.sets(st.integers(0, len(words)), max_size=3)
    lost_by_old, lost_by_new = draw(st.just(set()) | numbers), draw(st.just(set()) | numbers)
    return Story(words, heard, listed, lost_by_old, lost_by_new, draw(st.lists(st.booleans(), max_size=20)))


class Listener:
    """Believes what counts, and writes it down."""

    def __init__(self, words: list[Entry]) -> None:
        self.view = {each.model_id: each for each in words}
        self.views = [dict(self.view)]
        self.heard: list[Entry] = []

    def take(self, event: Init | Update | None) -> None:
        if event is None:
            return
        if isinstance(event, Init):
            assert event.corrects
            self.view = {}
        else:
            self.heard += event.entries
        self.view |= {each.model_id: each for each in event.entries}
        self.views.append(dict(self.view))

    def where(self, model_id: str) -> Entry | None:
        """What is believed to run."""
        known = self.view.get(model_id)
        return known if known is not None and known.state is RUNNING else None


def play(story: Story) -> tuple[Listener, Overlap]:
    overlap, listener = Overlap(), Listener(story.words[: story.heard])
    book = {each.model_id: each for each in story.words[: story.listed]}
    init = Init(tuple(each for each in book.values() if each.state is RUNNING))
    old = [w for n, w in enumerate(story.words) if n >= story.heard and n not in story.lost_by_old]
    new = [w for n, w in enumerate(story.words) if n >= story.listed and n not in story.lost_by_new]
    brought_by_new: list[Init | Entry] = [init, *new]
    order = iter(story.order)
    while old or brought_by_new:
        if brought_by_new and (next(order, True) or not old):
            said = brought_by_new.pop(0)
            heard = overlap.hear_list(said) if isinstance(said, Init) else overlap.hear_new(update(said))
        else:
            heard = overlap.hear_old(update(old.pop(0)))
        listener.take(heard)
    return listener, overlap


@settings(max_examples=300, deadline=None)
@given(stories())
@example(Story([word("a", 0), word("a", 1, STOPPED)], 0, 2, set(), set(), [False, True]))
def test_at_the_end_the_right_thing_is_believed_or_it_is_known_that_something_was_missed(
    story: Story,
) -> None:
    listener, overlap = play(story)
    if not story.lost_by_old:  # or a word that only the new one brings can be older than what was heard
        assert max(Counter(each.infos["version"] for each in listener.heard).values(), default=0) <= 1
    numbers = range(story.listed, len(story.words))
    lost = {n for n in numbers if n in story.lost_by_old and n in story.lost_by_new}
    for model_id in "ab":
        words = [w for n, w in enumerate(story.words) if w.model_id == model_id and n not in lost]
        truth = words[-1] if words and words[-1].state is RUNNING else None
        assert overlap.missed or listener.where(model_id) == truth


@settings(max_examples=300, deadline=None)
@given(stories())
def test_where_nothing_is_lost_nothing_is_taken_back(story: Story) -> None:
    story = attrs.evolve(story, lost_by_old=set(), lost_by_new=set())
    listener, _ = play(story)
    for model_id in "ab":
        versions = [each.infos["version"] for each in listener.heard if each.model_id == model_id]
        assert versions == sorted(versions)
        believed = [view[model_id].infos["version"] for view in listener.views if model_id in view]
        assert believed == sorted(believed)
        if all(each.state is RUNNING for each in story.words if each.model_id == model_id):
            there = [model_id in view for view in listener.views]
            assert there == sorted(there)
