"""A `RoundSpec` is made once, frozen and small: who keeps one, or a result, keeps nothing that was sent."""

from __future__ import annotations

import functools
import gc
import inspect
import types
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from helpers.coordinating import SERVICE, Model, coordinating
from trio.testing import MockClock

from trio_model_runner import Arguments, ClusterConfig, Encoded, PredictResult, Status
from trio_model_runner.model.call import Call
from trio_model_runner.model.round_spec import CallOptions, Requests, RoundSpec
from trio_model_runner.services.base import Request, ServiceAnswer

SENT = frozenset({Arguments, Request, Encoded, Requests, Call, ServiceAnswer, bytes, bytearray, memoryview})
"""What a round is made of while it lasts, and what it sends and receives."""

CONFIG = ClusterConfig("crunch", host="127.0.0.1")


def make(**options: Any) -> RoundSpec:
    return RoundSpec.make(CONFIG, "predict", SERVICE.read_call, 100.0, **options)


def test_it_is_made_of_what_was_asked_for_and_of_the_settings() -> None:
    spec = make(timeout=5, optional=True, decode=False)
    assert (spec.method, spec.timeout, spec.deadline) == ("predict", 5.0, 105.0)
    assert (spec.optional, spec.decode, spec.returns) == (True, False, None)
    assert make().timeout == CONFIG.timeout
    assert (spec.frames, spec.max_frame_bytes) == (CONFIG.frames, CONFIG.limits.max_frame_bytes)
    assert set(inspect.signature(RoundSpec.make).parameters) >= CallOptions.__optional_keys__


def test_it_can_not_be_changed() -> None:
    spec: Any = make(returns=float)
    for field in attrs.fields(RoundSpec):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(spec, field.name, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(spec, field.name)
    with pytest.raises(AttributeError):
        spec.another = None


class Specs(list[RoundSpec]):
    """The specs of all calls, kept."""


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch) -> Specs:
    kept = Specs()
    begin = Call.__init__

    def begin_and_keep(call: Call, actor: Any, spec: RoundSpec, *args: Any, **more: Any) -> None:
        kept.append(spec)
        begin(call, actor, spec, *args, **more)

    monkeypatch.setattr(Call, "__init__", begin_and_keep)
    return kept


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Numbers:
    """A function of a coordinator's own, as an object that could hold anything."""

    def __call__(self, answer: Any) -> float:
        return float(answer)


ROUNDS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], Status]] = {
    "small": ("tick", (1,), {}, Status.SUCCESS),
    "large": ("predict", ([1.5] * 5_000,), {}, Status.SUCCESS),
    "text": ("predict", ("x" * 100_000,), {"decode": False}, Status.SUCCESS),
    "typed": ("predict", (2.5,), {"returns": float}, Status.SUCCESS),
    "converted": ("predict", (2.5,), {"returns": Numbers()}, Status.SUCCESS),
    "misfit": ("predict", ("x",), {"returns": dict[str, float]}, Status.FAILED),
    "raises": ("fail", (), {}, Status.FAILED),
    "late": ("hang", (), {"timeout": 1}, Status.TIMEOUT),
    "a bit late": ("sleep", (1.5,), {"timeout": 1}, Status.TIMEOUT),
}


@pytest.mark.parametrize("name", ROUNDS)
async def test_all_calls_of_a_round_have_one_spec_which_refers_to_nothing_that_was_sent(
    autojump_clock: MockClock, specs: Specs, name: str
) -> None:
    method, values, options, status = ROUNDS[name]
    async with coordinating({"a": Model, "b": Model}) as (_, cluster):
        results = await cluster.call(method, Arguments(*values), **options)
        assert {result.status for result in results.values()} == {status}
    assert len(specs) == 2
    assert specs[0] is specs[1]
    # `read` is a method of the service, which is the cluster's, and has the arguments of the setup.
    assert [each for each in reachable(specs[0]) if type(each) in SENT] == []


def reachable(start: object) -> Iterator[object]:
    """What is reached by attributes, containers, methods and closures; not by modules, types and services."""
    seen, new = {id(SERVICE)}, [start]
    while new:
        each = new.pop()
        if id(each) in seen or isinstance(each, type | types.ModuleType | types.CodeType):
            continue
        seen.add(id(each))
        yield each
        new += parts_of(each)


def parts_of(each: object) -> list[object]:
    match each:
        case types.FunctionType():
            return [cell.cell_contents for cell in each.__closure__ or ()] + [*(each.__defaults__ or ())]
        case types.MethodType():
            return [each.__self__, each.__func__]
        case functools.partial():
            return [each.func, *each.args, *each.keywords.values()]
        case Mapping():
            return [*each.keys(), *each.values()]
        case list() | tuple() | set() | frozenset():
            return [*each]
    slots = [name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ())]
    return [*getattr(each, "__dict__", {}).values(), *(getattr(each, slot, None) for slot in slots)]


def test_a_reference_to_what_was_sent_is_found() -> None:
    encoded = Encoded.__new__(Encoded)

    def closing_over() -> Any:
        return encoded

    for held in ([encoded], {"x": (encoded,)}, closing_over, functools.partial(print, encoded)):
        assert encoded in [each for each in reachable(attrs.evolve(make(), read=held)) if type(each) in SENT]


@pytest.mark.parametrize("name", ROUNDS)
async def test_who_keeps_a_spec_and_results_keeps_nothing_that_was_sent(
    autojump_clock: MockClock, specs: Specs, no_collector: None, name: str
) -> None:
    method, values, options, status = ROUNDS[name]
    async with coordinating({"a": Model, "b": Model}) as (_, cluster):
        before = count_sent()
        kept, reference = await play_and_keep(cluster, method, values, options)
        assert [result.status for result in kept] == [status] * 2
        assert specs
        assert reference() is None
        if not options.get("decode", True):
            before[Encoded] = before.get(Encoded, 0) + len(kept)  # the values themselves
        assert count_sent() == before


async def play_and_keep(
    cluster: Any, method: str, values: tuple[Any, ...], options: dict[str, Any]
) -> tuple[list[PredictResult[Any]], weakref.ref[Arguments]]:
    arguments = Arguments(*values)
    results = await cluster.call(method, arguments, **options)
    return [*results.values()], weakref.ref(arguments)


def count_sent() -> dict[type, int]:
    """How many objects there are of the kinds that the collector knows of.

    Not counted are the empty Setups by which nodes are asked whether they are through with a call.
    """
    kinds = SENT - {bytes, bytearray, memoryview}
    empty = SERVICE.empty_setup_request()
    assert empty is not None
    counts: dict[type, int] = {}
    for each in gc.get_objects():
        if type(each) in kinds and not (isinstance(each, Request) and each == empty):
            counts[type(each)] = counts.get(type(each), 0) + 1
    return counts
