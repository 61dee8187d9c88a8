"""A list that only corrects: what it changes, what it leaves alone, whatever came before."""

from __future__ import annotations

from typing import Any

from helpers.book import JOINED, RECOVERING, REDEPLOYED, RESTARTED, STOPPED, Book, entry
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner.cluster.membership import Membership
from trio_model_runner.orchestrator.messages import Entry, Init, RunState, Update


def correct(book: Book, *entries: Entry) -> None:
    book.apply(Init(entries, corrects=True))


def test_what_is_known_is_told_nothing(book: Book) -> None:
    correct(book, entry("m"))
    assert book.started[0].told == []
    book.init(entry("m"))
    assert book.started[0].told == ["revive"]


def test_new_infos_are_news(book: Book) -> None:
    correct(book, entry("m", model_name="new"))
    (deployment,) = book.started
    assert deployment.infos == {"model_name": "new"}
    assert deployment.told == ["revive"]
    correct(book, entry("m", model_name="new"))
    assert deployment.told == ["revive"]


def test_what_is_missing_is_added_and_what_is_not_listed_is_dropped(book: Book) -> None:
    correct(book, entry("n"))
    m, n = book.started
    assert m.told == ["stop"]
    assert n.reason is JOINED
    assert set(book.current) == {"n"}
    correct(book, entry("n", state=STOPPED))
    assert n.told == ["stop"]
    assert len(book) == 0


def test_a_crash_that_was_missed_is_news_and_one_that_is_known_is_none(book: Book) -> None:
    correct(book, entry("m", state=RECOVERING))
    (deployment,) = book.started
    assert deployment.told == ["recover"]
    correct(book, entry("m", state=RECOVERING))
    assert deployment.told == ["recover"]
    correct(book, entry("m"))
    assert deployment.told == ["recover", "revive"]
    correct(book, entry("m"))
    assert deployment.told == ["recover", "revive"]


def test_one_that_recovers_where_another_was_dropped_is_known(book: Book) -> None:
    correct(book, entry("m", "d2", RECOVERING))
    m, d2 = book.started
    assert (m.told, d2.told) == (["stop"], ["recover"])
    correct(book, entry("m", "d2", RECOVERING))
    assert d2.told == ["recover"]


def test_one_that_recovers_need_not_be_listed_once(book: Book) -> None:
    book.update(entry("m", state=RECOVERING))
    correct(book)
    assert set(book.current) == {"m"}
    book.update(entry("m"))
    assert book.started[0].told == ["recover", "revive"]
    book.update(entry("m", state=RECOVERING))
    correct(book)
    assert set(book.current) == {"m"}
    correct(book)
    assert len(book) == 0
    assert book.started[0].told == ["recover", "revive", "recover", "stop"]


def test_an_init_of_a_new_connection_drops_what_recovers_at_once(book: Book) -> None:
    book.update(entry("m", state=RECOVERING))
    book.init()
    assert len(book) == 0


def test_one_that_recovers_keeps_its_room() -> None:
    started: list[Entry] = []
    book = Book()
    membership: Membership[Any] = Membership(
        lambda entry, reason: (started.append(entry), book._make(entry, reason))[1], max_models=1
    )
    membership.apply(Init((entry("m"),)))
    membership.apply(Update((entry("m", state=RECOVERING),)))
    membership.apply(Init((entry("n"),), corrects=True))
    assert set(membership.current) == {"m"}
    assert membership.left_out == 1
    membership.apply(Init((entry("n"),), corrects=True))
    assert set(membership.current) == {"n"}


def test_a_redeployment_that_was_missed_is_one(book: Book) -> None:
    correct(book, entry("m"), entry("m", "d2", at="y"))
    old, new = book.started
    assert new.reason is REDEPLOYED
    correct(book, entry("m"), entry("m", "d2", at="y"))
    assert (old.told, new.told) == ([], [])
    assert len(book.started) == 2
    book.make_ready(new)
    correct(book, entry("m"), entry("m", "d2", at="y"))
    assert new.told == []
    assert book.current["m"] is new
    assert len(book.started) == 2


def test_a_move_that_was_missed_is_one(book: Book) -> None:
    correct(book, entry("m", at="y"))
    here, there = book.started
    assert there.reason is RESTARTED
    correct(book, entry("m", at="y"))
    assert (here.told, there.told) == ([], [])
    assert book.deployments == [here, there]
    correct(book, entry("m"))  # it is back
    assert there.told == ["stop"]
    assert book.deployments == [here]


def test_where_deployments_have_no_ids_the_address_is_the_name() -> None:
    book = Book()
    book.init(entry("m", None))
    book.make_ready(book.started[0])
    correct(book, entry("m", None))
    assert book.started[0].told == []
    book.update(entry("m", None, RECOVERING))
    correct(book, entry("m", None))
    assert book.started[0].told == ["recover", "revive"]


def test_what_an_update_says_is_always_an_announcement(book: Book) -> None:
    book.update(entry("m"))
    book.update(entry("m"))
    assert book.started[0].told == ["revive", "revive"]


words = st.builds(
    lambda model_id, deployment_id, state, at: entry(model_id, deployment_id, state, at),
    st.sampled_from("mn"),
    st.sampled_from(["d1", "d2"]),
    st.sampled_from(list(RunState)),
    st.sampled_from("xy"),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(words, max_size=8))
def test_a_list_that_says_what_is_known_changes_nothing(updates: list[Entry]) -> None:
    book = Book()
    truth: dict[tuple[str, str | None], Entry] = {}
    for each in updates:
        book.update(each)
        truth.pop((each.model_id, each.deployment_id), None)
        if each.state is not STOPPED:
            truth[each.model_id, each.deployment_id] = each
        for deployment in book.deployments:
            if not deployment.left and len(updates) % 2:
                book.make_ready(deployment)
    before = [(each, list(each.told)) for each in book.deployments]
    listed = [each for each in truth.values() if is_known(book, each)]
    correct(book, *listed)
    correct(book, *listed)
    assert [(each, each.told) for each in book.deployments] == before


def is_known(book: Book, listed: Entry) -> bool:
    return any(
        (each.model_id, each.deployment_id) == (listed.model_id, listed.deployment_id)
        for each in book.deployments
    )
