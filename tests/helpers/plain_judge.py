"""A plain model of who must be reported, to compare the judge with. It is slow on purpose.

It is written from the rules in DESIGN.md, section 3, items 7 and 8, and not from the judge's code. The whole
history is a list of plain facts. Each question is answered by going through all of them from the beginning.
The letters in the comments are those of the rules. Where the rules leave something open, it does what the
judge's docstrings say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, TypeAlias

import attrs

from helpers.plain_facts import (
    Admitted,
    AttemptFailed,
    BegunAnew,
    Closed,
    Dismissed,
    Ended,
    Fact,
    GaveUp,
    LaterCall,
    Lost,
    MembersAsked,
    Reported,
    SeenBusy,
    SetUp,
    Through,
    WayKnown,
)
from trio_model_runner.config import Health
from trio_model_runner.model.policy import RULES, SETUP, Counts, Limits, Outcome
from trio_model_runner.values.failure_codes import FailureCode

__all__ = ["Look", "PlainJudge", "Title"]

Title: TypeAlias = "tuple[str, FailureCode, str]"  # a report: the model, the code, and what it is about
_NUMBER_AT_ONE_PLACE: Final = 3
_LONGEST_WINDOW: Final = 300.0
_ABOUT_CONNECTION: Final = ""

_WERE_ASKED = (
    Outcome.SITTING_OUT,
    Outcome.CONNECTION_LOST,
    Outcome.UNAVAILABLE,
    Outcome.INSTANCE_LOST,
    Outcome.BUSY,
)


@attrs.frozen
class _FellBack(Fact):
    """Counts of a method went back to the limit."""

    method: str
    timeouts: bool


@attrs.frozen
class _Held(Fact):
    """The report that a model can't be reached was held."""


@attrs.frozen
class _Counted:
    """A failure or a timeout that counts since the fact with the number `since`."""

    since: int
    began: float
    at: float | None = None  # when it happened, if that is not when it began to count


@attrs.define
class _Waiting:
    """A report that is not sent yet."""

    at: float
    stage: str  # unproved, new, pending, confirming, held
    must_confirm: bool = False
    unserved: bool = False
    number: int = 0  # of the fact with which it began to be confirmed


@attrs.define
class Look:
    """What must be decided at a time."""

    released: set[Title] = attrs.field(factory=set)
    held: set[Title] = attrs.field(factory=set)
    pending: set[Title] = attrs.field(factory=set)
    to_confirm: set[Title] = attrs.field(factory=set)


class PlainJudge:
    """Knows the whole history, and says what must be reported.

    Args:
        limits: how many failures and timeouts are allowed.
        health: the other numbers.
        gateway: all nodes are reached through one gateway.
    """

    def __init__(self, limits: Limits, health: Health, *, gateway: bool = False) -> None:
        self.limits = limits
        self.health = health
        self.gateway = gateway
        self.history: list[Fact] = []
        self.model_ids: dict[str, str] = {}  # those of deployments that are gone, too
        self.waiting: dict[Title, _Waiting] = {}
        self.looked_until = 0

    # Who is there, and what was asked.

    def members(self) -> dict[str, Admitted]:
        """All members by name."""
        there: dict[str, Admitted] = {}
        for fact in self.history:
            if isinstance(fact, Admitted):
                there[fact.name] = fact
            elif isinstance(fact, Dismissed):
                del there[fact.name]
        return there

    def facts_about(self, name: str) -> Iterator[tuple[int, Fact]]:
        """All facts about a model since it began anew last, with their numbers."""
        about = [(number, fact) for number, fact in enumerate(self.history) if fact.name == name]
        starts = [number for number, fact in about if isinstance(fact, Admitted | BegunAnew)]
        return ((number, fact) for number, fact in about if number > starts[-1])

    def successes(self, name: str, method: str) -> list[tuple[int, float]]:
        """When a model succeeded with a method: the number of each fact, and the time."""
        return [(n, f.at) for n, f in enumerate(self.history) if f.name == name and _is_success(f, method)]

    def asked_since(self, name: str, method: str, since: float) -> bool:
        """Whether a model was asked a method: it was called, or would have been but for an earlier call."""
        at_it = ""
        for fact in self.history:
            if fact.name != name:
                continue
            if isinstance(fact, Ended):
                if RULES[fact.outcome].counts is Counts.TIMEOUT:
                    at_it = fact.method
                asked = fact.method == at_it or RULES[fact.outcome].answered
                asked = asked or fact.outcome in _WERE_ASKED
            else:
                asked = isinstance(fact, SetUp)
                at_it = "" if isinstance(fact, Through) else at_it
            if asked and fact.at >= since and (_is_success(fact, method) or _is_call(fact, method)):
                return True
        return False

    # Rules a, b and c: what counts.

    def witnessed(self, number: int, incident: Ended) -> float:
        """The number of the fact with which an incident has its witness; infinity without one (b)."""
        if not self.health.require_witness:
            return number
        me = self.model_ids[incident.name]
        answered_by_others = 0
        for later, fact in enumerate(self.history):
            other = fact.name != "" and self.model_ids[fact.name] != me
            if incident.method == SETUP:
                if other and isinstance(fact, SetUp) and fact.created:
                    return max(later, number)
            elif isinstance(fact, Ended) and fact.round == incident.round and other:
                if fact.outcome is Outcome.SUCCEEDED:
                    return max(later, number)
                answered_by_others += RULES[fact.outcome].answered
            elif isinstance(fact, Closed) and fact.round == incident.round:
                helped = not answered_by_others and self.last_other_succeeded(later, incident, me)
                return later if helped else math.inf
        return math.inf

    def last_other_succeeded(self, end: int, incident: Ended, me: str) -> bool:
        """Whether the last other model that was asked with arguments of the same shape succeeded (b)."""
        for fact in reversed(self.history[:end]):
            if not isinstance(fact, Ended) or (fact.method, fact.shape) != (incident.method, incident.shape):
                continue
            if self.model_ids[fact.name] != me and RULES[fact.outcome].answered:
                return fact.outcome is Outcome.SUCCEEDED
        return False

    def way_proved(self, incident: Ended) -> float:
        """The number of the fact with which the way is known to be good; infinity if it is not (c)."""
        for number, fact in self.facts_about(incident.name):
            if isinstance(fact, WayKnown) and fact.call == incident.call:
                return number if fact.good else math.inf
            if isinstance(fact, Lost) and fact.at >= incident.at:
                return math.inf
        return math.inf

    def counted(self, name: str, method: str, *, timeouts: bool) -> list[_Counted]:
        """Every failure, or every timeout, that has ever counted, in the order in which they did."""
        kind = Counts.TIMEOUT if timeouts else Counts.FAILURE
        found: list[_Counted] = []
        for number, fact in self.facts_about(name):
            if not isinstance(fact, Ended) or fact.method != method or RULES[fact.outcome].counts is not kind:
                continue
            certain = max(self.witnessed(number, fact), self.way_proved(fact) if timeouts else number)
            cleared = any(number < success <= certain for success, _ in self.successes(name, method))
            if certain < math.inf and not cleared:
                closed = isinstance(self.history[int(certain)], Closed)
                found.append(_Counted(int(certain), fact.began, fact.at if closed else None))
            found += self.counted_windows(fact) if timeouts else []
        return sorted(found, key=lambda each: each.since)

    def counted_windows(self, overrun: Ended) -> Iterator[_Counted]:
        """The windows in which a model was at a call, from end to end, after the call was cut off (8)."""
        ends: list[float] = []
        free_from = overrun.at
        shortest = min(overrun.at - overrun.began, _LONGEST_WINDOW)
        for number, fact in self.facts_about(overrun.name):
            if isinstance(fact, LaterCall) and fact.call == overrun.call and fact.at >= free_from:
                free_from = max(fact.deadline, fact.at + shortest)
                ends.append(free_from)
            elif isinstance(fact, SeenBusy) and fact.call == overrun.call:
                over = [end for end in ends if end <= fact.at]
                ends = [end for end in ends if end > fact.at]
                if self.has_witness_since(overrun, number):
                    yield from (_Counted(number, overrun.began) for _ in over)

    def has_witness_since(self, overrun: Ended, end: int) -> bool:
        """Whether another model has succeeded with the method since the overrunning call began (8)."""
        if not self.health.require_witness:
            return True
        me, members = self.model_ids[overrun.name], self.members()
        return any(
            fact.at >= overrun.began
            and fact.name in members
            and self.model_ids[fact.name] != me
            and (fact.created if isinstance(fact, SetUp) else True)
            for fact in self.history[:end]
            if _is_success(fact, overrun.method)
        )

    def standing(self, name: str, method: str, *, timeouts: bool) -> list[_Counted]:
        """What counts now: since the last success of the method, and after the counts fell back (a, d)."""
        start = max((number for number, _ in self.successes(name, method)), default=-1)
        events: list[_Counted] = []
        counted = [each for each in self.counted(name, method, timeouts=timeouts) if each.since > start]
        for number, fact in self.facts_about(name):
            if isinstance(fact, _FellBack) and (fact.method, fact.timeouts) == (method, timeouts):
                before = [each for each in counted if each.since < number]
                counted = counted[len(before) :]
                events = [*events, *before][: self.limit(method, timeouts=timeouts)]
        return events + counted

    def limit(self, method: str, *, timeouts: bool) -> int | None:
        """How many are allowed. One failed Setup is enough."""
        if timeouts:
            return self.limits.timeouts
        return 0 if method == SETUP else self.limits.failures

    # Rule d: whether it is alone.

    def first_counted(self, name: str, method: str) -> float:
        """When the first call began that counts now, or that showed that the model lacks the method (d)."""
        start = max((number for number, _ in self.successes(name, method)), default=-1)
        both = [*self.counted(name, method, timeouts=False), *self.counted(name, method, timeouts=True)]
        counted = [each for each in both if each.since > start]
        if counted:
            return min(counted, key=lambda each: each.since).began
        return min(f.began for _, f in self.facts_about(name) if _lacks(f, method) and isinstance(f, Ended))

    def shares_trouble(self, name: str, method: str) -> bool:
        """Whether too many of the models that were asked have not succeeded since (d)."""
        since = self.first_counted(name, method)
        asked = [other for other in self.members() if self.asked_since(other, method, since)]
        bad = [o for o in asked if not any(at >= since for _, at in self.successes(o, method))]
        least = min(self.health.mass_minimum, len(self.members()))
        many = len(bad) >= self.health.mass_fraction * len(asked) and len(bad) >= least
        return many and len(self.members()) > 1

    def most_have(self, method: str) -> bool:
        """Whether more models have a method than lack it. Only a Setup that creates shows a class (b)."""
        if not self.health.require_witness:
            return True
        lack = [
            name
            for name in self.members()
            if any(
                _lacks(fact, method) and not any(s > number for s, _ in self.successes(name, method))
                for number, fact in self.facts_about(name)
            )
        ]
        shown = [fact for fact in self.history if not (isinstance(fact, SetUp) and not fact.created)]
        have = {fact.name for fact in shown if _is_success(fact, method)} & set(self.members()) - set(lack)
        return len(have) > len(lack)

    def lost(self, name: str) -> tuple[float, float]:
        """When a connection was lost last, or could not be made, and how long it had stood."""
        at, stood, noted = -math.inf, 0.0, False
        for fact in self.history:
            if fact.name != name:
                continue
            if isinstance(fact, Lost):
                stood, noted = fact.stood, not fact.peaceful
                at = at if fact.peaceful else fact.at
            elif isinstance(fact, AttemptFailed) or _ends_connection(fact):
                at, stood = (at, stood) if noted else (fact.at, 0.0)
                noted = True
            elif isinstance(fact, SetUp | BegunAnew):
                noted = False
        return at, stood

    def number_of_chance(self, members: int) -> float:
        """So many models together are no chance (d)."""
        return min(max(3, members / 10), 10, members)

    def lost_with_others(self, name: str, members: int) -> bool:
        """Whether a model's connection was lost together with too many others, or before them (d)."""
        window, lost_at = self.health.mass_window, self.lost(name)[0]
        around = max(lost_at, self.held_at(name))
        hosts = {other: each.host for other, each in self.members().items()}
        together = [
            other
            for other in hosts
            if (
                abs(self.lost(other)[0] - around) <= window
                if self.is_connected(other)
                else self.lost(other)[0] >= lost_at - window
            )
        ]
        if len(together) >= self.number_of_chance(members):
            return True
        stood = [other for other in together if self.lost(other)[1] >= window]
        near = [other for other in stood if _places(hosts[other]) & _places(hosts[name])]
        return not self.gateway and len(near) >= _NUMBER_AT_ONE_PLACE

    def is_connected(self, name: str) -> bool:
        """Whether a model is set up on a connection."""
        about = [fact for fact in self.history if fact.name == name]
        ends = [fact for fact in about if isinstance(fact, SetUp | Lost | AttemptFailed)]
        return bool(ends) and isinstance(ends[-1], SetUp)

    def held_at(self, name: str) -> float:
        """When a report about a model was held last, since it was connected."""
        at = -math.inf
        for _, fact in self.facts_about(name):
            if isinstance(fact, _Held):
                at = fact.at
            elif isinstance(fact, SetUp):
                at = -math.inf
        return at

    # Rule e: nobody escapes.

    def hindered(self, name: str, method: str) -> list[float]:
        """When the calls began that came to nothing on the model's side, since it answered last."""
        calls: list[float] = []
        for _, fact in self.facts_about(name):
            if _is_success(fact, method):
                calls = []
            elif isinstance(fact, Ended) and fact.method == method:
                rule = RULES[fact.outcome]
                if rule.counts is Counts.HINDERED or self.way_failed(fact):
                    calls.append(fact.began)
                elif rule.answered and rule.counts is not Counts.TIMEOUT:
                    calls = []
        return calls

    def way_failed(self, overrun: Ended) -> bool:
        """Whether the way was bad after a call was cut off, or the connection ended under the call."""
        if RULES[overrun.outcome].counts is not Counts.TIMEOUT:
            return False
        for _, fact in self.facts_about(overrun.name):
            if fact.at < overrun.at:
                continue
            if isinstance(fact, WayKnown) and fact.call == overrun.call and not fact.good:
                return True
            if isinstance(fact, Lost | Through):
                return isinstance(fact, Lost)
        return False

    def escapes(self, name: str, method: str, now: float) -> bool:
        """Whether all calls of a method have come to nothing for too long, and too often (e)."""
        calls = self.hindered(name, method)
        limit = self.limits.timeouts if self.limits.timeouts is not None else self.limits.failures
        return limit is not None and len(calls) > limit and now - calls[0] >= self.health.unserved

    def most_others_succeed(self, name: str, method: str) -> bool:
        """Whether more than half of the other models that were asked meanwhile succeeded (e)."""
        if not self.health.require_witness:
            return True
        since = self.hindered(name, method)[0]
        others = [other for other in self.members() if other != name]
        good = [o for o in others if any(at >= since for _, at in self.successes(o, method))]
        ended = [(f.name, f.at) for f in self.history if isinstance(f, Ended) and f.method == method]
        asked = {other for other, at in ended if other in others and at >= since}
        return len(good) > len(asked) / 2

    # The reports.

    def tell(self, fact: Fact) -> None:
        """Something has happened."""
        if isinstance(fact, Admitted):
            self.model_ids[fact.name] = fact.model_id
        if isinstance(fact, Lost | Reported):
            self.find_due()
        before = self.numbers_hindered(fact.name)
        self.history.append(fact)
        for title, report in list(self.waiting.items()):
            if title[0] == fact.name and self.is_over(title, report, fact):
                del self.waiting[title]
        if isinstance(fact, GaveUp | Ended):
            self.find_due_at_once(fact)
        for method, number in self.numbers_hindered(fact.name).items():
            if number > before.get(method, 0) and self.escapes(fact.name, method, fact.at):
                new = _Waiting(fact.at, "new", unserved=True)
                self.become_due((fact.name, FailureCode.CONNECTION_FAILED, method), new)

    def numbers_hindered(self, name: str) -> dict[str, int]:
        """How many calls of each method came to nothing."""
        return {method: len(self.hindered(name, method)) for other, method in self.pairs() if other == name}

    def find_due_at_once(self, fact: GaveUp | Ended) -> None:
        """See whether an outcome makes a report due, whatever the counts are."""
        rule = RULES[fact.outcome]
        if rule.report is not None:
            new = _Waiting(fact.at, "new", must_confirm=rule.may_pass)
            self.become_due((fact.name, rule.report, _ABOUT_CONNECTION), new)
        elif isinstance(fact, Ended) and rule.counts is Counts.LACKS:
            new = _Waiting(fact.at, "unproved" if self.health.require_witness else "new")
            self.become_due((fact.name, FailureCode.BAD_IMPLEMENTATION, fact.method), new)

    def pairs(self) -> set[tuple[str, str]]:
        """The members with the methods that they were asked."""
        members = self.members()
        return {(f.name, f.method) for f in self.history if isinstance(f, Ended) and f.name in members}

    def become_due(self, title: Title, new: _Waiting) -> None:
        """A report has become due. One that waits already goes on waiting; one that is held begins anew."""
        if any(isinstance(fact, Reported) for _, fact in self.facts_about(title[0])):
            return
        if title not in self.waiting or self.waiting[title].stage == "held":
            self.waiting[title] = new

    def is_over(self, title: Title, report: _Waiting, fact: Fact) -> bool:
        """Whether a fact about a model ends a report about it (a, c, e, 8)."""
        name, code, method = title
        if isinstance(fact, Lost) and not fact.peaceful and code is FailureCode.MULTIPLE_TIMEOUT:
            self.history.append(_FellBack(fact.at, name, method, timeouts=True))
            return True
        if report.unserved and isinstance(fact, Ended) and fact.method == method:
            rule = RULES[fact.outcome]
            return rule.answered and rule.counts is not Counts.TIMEOUT
        connected = isinstance(fact, SetUp) and method == _ABOUT_CONNECTION
        return connected or _is_success(fact, method) or isinstance(fact, BegunAnew | Dismissed | Reported)

    def find_due(self) -> None:
        """Find the counts that have passed a limit since the last time (a)."""
        for name, method in self.pairs():
            for code, timeouts in (
                (FailureCode.MULTIPLE_FAILED, False),
                (FailureCode.MULTIPLE_TIMEOUT, True),
            ):
                limit = self.limit(method, timeouts=timeouts)
                if limit is None:
                    continue
                for event in self.standing(name, method, timeouts=timeouts)[limit:]:
                    if event.since >= self.looked_until:
                        fact = self.history[event.since]
                        self.become_due((name, code, method), _Waiting(event.at or fact.at, "new"))
        self.looked_until = len(self.history)

    def look(self, now: float, members: int) -> Look:
        """Say what must be decided now (c, d, e)."""
        self.find_due()
        seen = Look()
        for title, report in list(self.waiting.items()):
            if title[1] is FailureCode.BAD_IMPLEMENTATION and report.stage != "held":
                self.look_at_proof(title, report, now)
            waited = report.stage == "pending" and now >= report.at + self.health.mass_window
            if report.unserved and report.stage == "new" and not self.most_others_succeed(title[0], title[2]):
                del self.waiting[title]
            elif report.stage == "new" or waited or self.is_confirmed(title, report):
                self.look_at(title, report, now, members, seen)
        return seen

    def look_at_proof(self, title: Title, report: _Waiting, now: float) -> None:
        """See whether more models have a method than lack it. If only now, it begins to wait now (b)."""
        if not self.most_have(title[2]):
            report.stage = "unproved"
        elif report.stage == "unproved":
            report.at, report.stage = now, "new"

    def look_at(self, title: Title, report: _Waiting, now: float, members: int, seen: Look) -> None:
        """Let a report go its next step, unless it is held (c, d)."""
        if self.is_held(title, report, now, members):
            self.hold(title, report, now, seen)
        elif report.stage == "new":
            report.stage = "pending"
            seen.pending.add(title)
        elif report.stage == "pending" and report.must_confirm:
            report.at, report.stage, report.number = now, "confirming", len(self.history)
            seen.to_confirm.add(title)
        else:
            del self.waiting[title]
            seen.released.add(title)

    def is_confirmed(self, title: Title, report: _Waiting) -> bool:
        """Whether the model's own attempt has failed once more, and all members were asked (c)."""
        later = [
            f for n, f in self.facts_about(title[0]) if report.stage == "confirming" and n >= report.number
        ]
        failed = any(isinstance(f, AttemptFailed) and f.began >= report.at for f in later)
        return failed and any(isinstance(f, MembersAsked) for f in later)

    def is_held(self, title: Title, report: _Waiting, now: float, members: int) -> bool:
        """Whether a report must not be sent, since the model is not alone with its trouble (d, e)."""
        name, _, method = title
        if report.unserved:
            together = {other for other, of in self.pairs() if self.escapes(other, of, now)}
            return len(together) > self.number_of_chance(members)
        if method == _ABOUT_CONNECTION:
            return self.lost_with_others(name, members)
        return self.shares_trouble(name, method)

    def hold(self, title: Title, report: _Waiting, now: float, seen: Look) -> None:
        """Hold a report: back to the limit, so that a new counted event is needed (d)."""
        report.stage = "held"
        seen.held.add(title)
        if title[2] == _ABOUT_CONNECTION:
            self.history.append(_Held(now, title[0]))
        if title[1] in (FailureCode.MULTIPLE_FAILED, FailureCode.MULTIPLE_TIMEOUT):
            timeouts = title[1] is FailureCode.MULTIPLE_TIMEOUT
            self.history.append(_FellBack(now, title[0], title[2], timeouts=timeouts))


def _is_success(fact: Fact, method: str) -> bool:
    """Whether a fact is a success of a method. Of a Setup, each instance is one."""
    if isinstance(fact, SetUp):
        return method == SETUP
    return isinstance(fact, Ended) and fact.method == method and fact.outcome is Outcome.SUCCEEDED


def _is_call(fact: Fact, method: str) -> bool:
    """Whether a fact is the end of a call of a method."""
    return isinstance(fact, Ended) and fact.method == method


def _lacks(fact: Fact, method: str) -> bool:
    """Whether a model has said that it lacks a method."""
    missing = (Outcome.BAD_IMPLEMENTATION, Outcome.OPTIONAL_MISSING)
    return isinstance(fact, Ended) and fact.method == method and fact.outcome in missing


def _ends_connection(fact: Fact) -> bool:
    """Whether a fact is one of those that are reported at once."""
    return isinstance(fact, GaveUp | Ended) and RULES[fact.outcome].report is not None


def _places(host: str) -> set[str]:
    """A host, and its network of 256 addresses if it is an IPv4 address."""
    parts = host.split(".")
    numbers = len(parts) == 4 and all(part.isdigit() for part in parts)
    return {host, ".".join(parts[:3]) + ".0/24"} if numbers else {host}
