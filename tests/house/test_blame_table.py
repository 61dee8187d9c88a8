"""`model/README.md` tells participants what counts against a model. What it says is what the policy does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import trio_model_runner
from trio_model_runner.config import ClusterConfig, Health
from trio_model_runner.model.policy import RULES, Counts, Outcome
from trio_model_runner.model.policy.overrun import LONGEST_WINDOW
from trio_model_runner.values.failure_codes import FailureCode
from trio_model_runner.values.results import Status

TEXT = (Path(trio_model_runner.__file__).parent / "model" / "README.md").read_text()
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in TEXT.splitlines()
    if re.match(r"\| `[A-Z_]+` \|", line)
    and len(cells := [each.strip() for each in line[1:-1].split("|")]) == 5
}

WORDS = {
    Counts.NOTHING: ("nothing", ""),
    Counts.FAILURE: ("failure",),
    Counts.TIMEOUT: ("timeout",),
    Counts.LACKS: ("the model lacks it",),
    Counts.HINDERED: ("hindered",),
    Counts.CLEARS: ("clears the method's counts",),
}

CODES = {
    Counts.FAILURE: FailureCode.MULTIPLE_FAILED,
    Counts.TIMEOUT: FailureCode.MULTIPLE_TIMEOUT,
    Counts.LACKS: FailureCode.BAD_IMPLEMENTATION,
}


def test_every_outcome_has_its_row() -> None:
    assert list(ROWS) == [outcome.name for outcome in Outcome]


@pytest.mark.parametrize("outcome", Outcome)
def test_a_row_says_what_the_rule_says(outcome: Outcome) -> None:
    _, status, counts, reported = ROWS[outcome.name]
    rule = RULES[outcome]
    assert status == rule.status.value
    assert counts.removesuffix(" of Setup") in WORDS[rule.counts]
    code = rule.report or CODES.get(rule.counts)
    assert [found for found in FailureCode if f"`{found}`" in reported] == ([code] if code else [])


def test_every_status_is_explained() -> None:
    assert all(f"| `{status}` |" in TEXT for status in Status)


def test_numbers_are_the_defaults() -> None:
    config, health = ClusterConfig("x"), Health()
    assert config.max_consecutive_failures == config.max_consecutive_timeouts == 3
    assert "`max_consecutive_timeouts` (3)" in TEXT
    assert f"`health.mass_window` ({health.mass_window:g} s)" in TEXT
    assert f"`health.unserved` ({health.unserved:g} s)" in TEXT
    assert (health.mass_fraction, "`health.mass_fraction` (half)" in TEXT) == (0.5, True)
    assert f"`health.mass_minimum` ({health.mass_minimum}, or all)" in TEXT
    assert f"at most {LONGEST_WINDOW:g} s" in TEXT
