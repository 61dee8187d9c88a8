"""The page in a browser: Chromium shows it and loads nothing, and no text is cut off or over another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.browser import Browser, open_browser
from helpers.records import HOSTILE, Crunch

from trio_model_runner.cli import commands
from trio_model_runner.cli.timeline.page import DARK, LIGHT

MEASURE = """(() => {
  for (const each of document.querySelectorAll('details')) each.open = true;
  const texts = 'h1,h2,p,li,.name,.why,.detail,summary,svg text';
  const shown = [...document.querySelectorAll(texts)]
    .filter(each => each.textContent.trim() && each.getClientRects().length);
  const boxes = shown.map(each => {
    const range = document.createRange();
    range.selectNodeContents(each);
    const {left, right, top, bottom} = each.ownerSVGElement
      ? each.getBoundingClientRect() : range.getBoundingClientRect();
    return {text: each.textContent, left, right, top, bottom};
  });
  const over = [];
  for (const [at, one] of boxes.entries()) for (const other of boxes.slice(at + 1))
    if (Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1
        && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 3)
      over.push([one.text, other.text]);
  const picture = document.querySelector('img.all');
  const canvas = document.createElement('canvas');
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0);
  const first = context.getImageData(0, 0, 1, canvas.height).data;
  return {
    title: document.title,
    background: getComputedStyle(document.body).backgroundColor,
    over, texts: boxes.length,
    outside: boxes.filter(box => box.left < 0 || box.right > innerWidth).map(box => box.text),
    wide: document.documentElement.scrollWidth - innerWidth,
    heads: [...document.querySelectorAll('h2')].map(each => each.firstChild.textContent.trim()),
    reasons: [...document.querySelectorAll('.row')].map(row => {
      const cell = row.parentElement;
      return [cell.previousElementSibling.textContent, cell.nextElementSibling.textContent];
    }),
    plots: [...new Set([...document.querySelectorAll('svg.chart,svg.row,img.all')]
      .map(each => Math.round(each.getBoundingClientRect().width)))],
    narrowest: Math.min(...[...document.querySelectorAll('svg.row')].map(each => each.clientWidth)),
    fills: [...new Set([...document.querySelectorAll('.row path')]
      .map(each => getComputedStyle(each).fill))],
    pixels: [picture.naturalWidth, picture.naturalHeight],
    red: [...Array(canvas.height).keys()]
      .filter(row => first[4 * row] > 200 && first[4 * row + 1] < 60).length,
    drawn: picture.getBoundingClientRect().height,
  };
})()"""

CRUNCHES = {
    "ten": Crunch(60, 10, each=1),
    "hundred": Crunch(120, 100, names=HOSTILE),
    "thousand": Crunch(30, 1000, each=20, mass=0.5),
}


@pytest.fixture
def pages(tmp_path: Path) -> dict[str, Path]:
    """A page of each crunch, as the command makes it."""
    made = {}
    for name, crunch in CRUNCHES.items():
        record = tmp_path / f"{name}.jsonl"
        record.write_text("".join(f"{each}\n" for each in crunch.lines()))
        ended = CliRunner().invoke(commands.commands, ["timeline", str(record)])
        assert ended.exit_code == 0, ended.output
        made[name] = record.with_suffix(".html")
    return made


@pytest.mark.parametrize(("variable", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
async def test_without_a_browser_it_is_said_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("REQUIRE_FOREIGN_SERVERS", variable)
    with pytest.raises(outcome, match="no chromium here"):
        async with open_browser(tmp_path):
            raise AssertionError("there is one")


async def test_pages_are_shown_well(pages: dict[str, Path], tmp_path: Path) -> None:
    """At every size, in narrow and wide windows, light and dark; in one browser, which is slow to start."""
    async with open_browser(tmp_path / "profile") as browser:
        for name, page in pages.items():
            for width, dark in ((1280, False), (800, True)):
                await browser.show(page, width=width, dark=dark)
                seen = await browser.evaluate(MEASURE)
                check_layout(seen, width, dark=dark)
                check_elements(seen, CRUNCHES[name])
                assert (await browser.screenshot()).startswith(b"\x89PNG")
        check_quiet(browser)


def check_layout(seen: dict[str, Any], width: int, *, dark: bool) -> None:
    assert seen["over"] == []
    assert seen["outside"] == []
    assert seen["wide"] <= 0
    assert seen["texts"] > 30
    (plot,) = seen["plots"]  # a round is at the same place in all of them
    assert plot > width / 3
    page = (DARK if dark else LIGHT)["page"]
    assert seen["background"] == "rgb({}, {}, {})".format(*(int(page[at : at + 2], 16) for at in (1, 3, 5)))
    assert len(seen["fills"]) >= 4
    assert "rgb(0, 0, 0)" not in seen["fills"]  # the style sheet applies


def check_elements(seen: dict[str, Any], crunch: Crunch) -> None:
    assert seen["title"] == "predict: bird-game"
    heads = [head.split(":")[0] for head in seen["heads"]]
    assert heads == [
        "Stopped answering", "Always late", "Got slower", "Fails", f"All {crunch.models:,} models",
    ]  # fmt: skip
    reasons = dict(seen["reasons"])
    tempers = dict(zip(crunch.ids(), crunch.tempers(), strict=True))
    wanted = {"stops": "since round", "never": "never answered", "late": "late", "fails": "failed"}
    for name, reason in reasons.items():
        assert wanted.get(tempers.get(name, ""), "") in reason
    assert {tempers[name] for name in reasons} >= {"stops", "late", "slows"}
    assert seen["pixels"] == [crunch.rounds if crunch.rounds <= 240 else 125, crunch.models]
    assert seen["drawn"] >= crunch.models
    assert seen["red"] >= crunch.each  # of the models that never answer


def check_quiet(browser: Browser) -> None:
    assert [url[:60] for url in browser.requested if not url.startswith(("file:", "data:image/png;"))] == []
    assert len([url for url in browser.requested if url.startswith("file:")]) == 2 * len(CRUNCHES)
    assert browser.complaints == []
