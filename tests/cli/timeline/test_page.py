"""The page: it says what there is to say, obeys nothing that a stranger wrote, and stays small."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from html.parser import HTMLParser

import pytest
from helpers.records import BEGIN, HOSTILE, line
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner.cli.timeline import page
from trio_model_runner.cli.timeline.measuring import Measures
from trio_model_runner.cli.timeline.page import Surroundings, draw
from trio_model_runner.cli.timeline.record import Round


def drawn(*lines: str, surroundings: Surroundings | None = None) -> str:
    measures = Measures("")
    for each in lines:
        fields = json.loads(each)
        measures.add(Round(**{name: fields.get(name) for name in Round.__annotations__}))
        measures.method = fields["method"]
    measures.close()
    return draw(measures, surroundings or Surroundings(["bird-game"]))


class Reader(HTMLParser):
    """What a browser would make of a page: elements with their attributes, and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for each, attributes in self.elements if each == tag]


ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "ul", "li", "small", "div",
    "br", "svg", "path", "rect", "text", "img", "details", "summary",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "aria-hidden", "aria-label", "role", "width",
    "height", "viewbox", "preserveaspectratio", "d", "x", "y", "text-anchor", "title", "alt", "src",
}  # fmt: skip


def check_harmless(text: str) -> Reader:
    """Nothing but our own elements and attributes, and no character that can't be seen."""
    read = Reader(text)
    assert {tag for tag, _ in read.elements} <= ELEMENTS
    assert {name for _, attributes in read.elements for name in attributes} <= ATTRIBUTES
    assert text.replace("\n", "").isprintable()
    assert all((each["src"] or "").startswith("data:image/png;base64,") for each in read.of("img"))
    text.encode()
    return read


@settings(max_examples=25)
@given(st.text(max_size=60) | st.sampled_from(HOSTILE), st.text(max_size=60) | st.sampled_from(HOSTILE))
def test_no_text_of_a_stranger_is_obeyed(one: str, other: str) -> None:
    lines = [
        line(
            id=one, started=BEGIN + number, crunch_id=other, method=one, model_ids=["a" + one, "b" + other],
            deployment_ids=[one, other], statuses=statuses, details={"a" + one: other, "b" + other: one},
        )
        for number, statuses in enumerate(["SS", "SS", "SF", "TF", "TF", "TF", "TF"])
    ]  # fmt: skip
    said = Surroundings([other], [(one, 3)], [other])
    read = check_harmless(drawn(*lines, surroundings=said))
    assert len(read.of("svg")) > 5


def test_the_policy_allows_the_page_its_style_and_nothing_else() -> None:
    text = drawn(line(statuses="ST"))
    read = check_harmless(text)
    (policy,) = (each["content"] for each in read.of("meta") if each.get("http-equiv"))
    (style,) = re.findall(r"<style>(.*)</style>", text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{allowed}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"https?:|//|url\(|@import", re.sub(r'src="data:[^"]*"', "", text))


def test_the_headline_names_the_worst_round() -> None:
    read = Reader(
        drawn(line(id=1, statuses="SSSS"), line(id=1450, statuses="STFA"), line(id=3, statuses="SSSS"))
    )
    assert (
        "predict: 4 models, 3 rounds, 75.0% in time. Worst: round 1,450, 75% without an answer." in read.texts
    )


def test_a_record_without_troubles_says_so() -> None:
    read = Reader(drawn(line(statuses="S")))
    assert "predict: 1 model, 1 round, 100% in time. Every model answered in every round." in read.texts
    heads = ["Stopped answering: 0", "Always late: 0", "Got slower: 0", "Fails: 0"]
    assert [text for text in read.texts if text.endswith(": 0")] == heads


def test_what_is_not_quite_all_is_not_all() -> None:
    lines = [line(id=number, statuses="S" * 999 + "ST"[number == 7]) for number in range(20)]
    assert "20 rounds, 99.9% in time" in drawn(*lines)


@pytest.mark.parametrize(
    ("statuses", "timeout", "said"),
    [
        ("S" * 19 + "T", 2.0, "half of the results within 0.250 s, 95% within 0.250 s, the deadline is 2 s."),
        ("S" * 18 + "TT", 2.0, "half of the results within 0.250 s, not even 95% by the deadline, 2 s."),
        ("S" * 9 + "F" * 11, 2.0, "not even half of the results by the deadline, 2 s."),
        ("S", None, "half of the results within 0.250 s, 95% within 0.250 s."),
        ("SA", None, "half of the results within 0.250 s, not even 95%."),
    ],
)
def test_what_is_said_of_95_percent_fits_what_came_in_time(
    statuses: str, timeout: float | None, said: str
) -> None:
    assert said in drawn(line(statuses=statuses, timeout=timeout))


def test_without_answers_nothing_is_said_of_their_times() -> None:
    assert "of the results" not in drawn(line(statuses="AA", timeout=None))


def test_a_share_is_rounded_down() -> None:
    """Else 94.96% would be "95.0% in time", and "not even 95%"."""
    text = drawn(*(line(id=number, statuses="S" * 1187 + "T" * 63) for number in range(2)))
    assert "94.9% in time" in text
    assert "not even 95%" in text


@pytest.mark.parametrize("statuses", ["", "A", "K", "T", "F", "S", "SSTFKA"])
@pytest.mark.parametrize("timeout", [None, 0.0, 1e-6, 2.0, 86_400.0])
def test_every_single_round_can_be_drawn(statuses: str, timeout: float | None) -> None:
    check_harmless(drawn(line(statuses=statuses, timeout=timeout, seconds=0)))


def test_ten_of_a_category_have_rows_and_the_others_are_named() -> None:
    ids = [f"m{number:04}" for number in range(80)]
    ways = ["S" * 80] * 9 + ["T" * 23 + "S" * 57] * 30
    lines = [line(id=number, model_ids=ids, statuses=statuses) for number, statuses in enumerate(ways)]
    read = check_harmless(drawn(*lines))
    assert "Stopped answering: 23 (first 10)" in read.texts
    assert "13 more" in read.texts
    assert (
        "m0010, m0011, m0012, m0013, m0014, m0015, m0016, m0017, m0018, m0019, m0020, m0021, m0022"
        in read.texts
    )
    rows = [each for each in read.of("svg") if each.get("class") == "row"]
    assert len(rows) == 10
    assert len(read.of("details")) == 1


def test_a_row_marks_where_its_model_was_deployed_anew() -> None:
    lines = [
        line(
            id=number,
            statuses="SS"[: 1 + (number < 9)] + "T" * (number >= 9),
            deployment_ids=["1", "12"[number > 3]],
        )
        for number in range(20)
    ]
    read = Reader(drawn(*lines))
    marks = [each["d"] for each in read.of("path") if each.get("class") == "redeployed"]
    assert marks == ["M3 0v12", "M4 0v1"]  # the legend's, and the row's


def test_long_names_keep_their_ends() -> None:
    read = Reader(drawn(*(line(id=n, model_ids=[f"{'m' * 200}-17"], statuses="T") for n in range(4))))
    names = [each["title"] for each in read.of("div") if each.get("class") == "name" and "title" in each]
    assert names[0] == f"{'m' * 200}-17"
    assert read.texts.count("mmmmmmmmmmmmmmmmm…mmm-17") == 2


def test_a_page_is_small_whatever_the_record() -> None:
    """Ten thousand models with long names, in cells that no compression helps with."""
    rng = random.Random(1)
    ids = [f"{number:05}" + "<&\u202e" * 65 for number in range(10_000)]
    elapsed = [[rng.random() * 2 for _ in ids] for _ in range(3)]
    statuses = ["".join(rng.choices("SSSSTF", k=len(ids))) for _ in range(16)]
    lines = [
        line(
            id="&" * 99, started=BEGIN + number, model_ids=ids, deployment_ids=[None] * len(ids),
            statuses=statuses[number % 16], elapsed=elapsed[number % 3],
            details=dict.fromkeys(ids[:100], "'<\x1b" * 60),
        )
        for number in range(6)
    ]  # fmt: skip
    hostile = "'&<" * 100
    said = Surroundings([hostile] * 16, [(hostile, 7)] * 16, [hostile] * 50)
    text = drawn(*lines, surroundings=said)
    check_harmless(text)
    # 6 cells; a picture of 240 random ones would take no more than four bits each
    most = len(text) + page.MOST_ROWS * (240 - 6) / 2 * 4 / 3 + 40 * (240 - 6) * len("M239 0h1v1h-1z")
    assert most < 2_000_000
    (height,) = (each["height"] for each in Reader(text).of("img"))
    assert height == "2000"
    assert "All 10,000 models" in text
    assert "5 share a row of pixels" in text
