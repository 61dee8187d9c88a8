"""Instruments hear what happens in a cluster, and whatever they do, they harm nobody."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import numpy
import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Arguments, ChangeKind, Cluster, ClusterConfig, ConfigError, Join
from trio_model_runner.cluster.instrument import Instrument, ObservedCluster, Report, RoundStart
from trio_model_runner.cluster.instrument_checks import check_instruments
from trio_model_runner.values.failure_codes import FailureCode

HOOKS = (
    "round_started",
    "metadata",
    "round_ended",
    "call_ended",
    "model_changed",
    "orchestrator_changed",
    "report_pending",
    "report_held",
    "report_withdrawn",
    "report_sent",
)
AB = {"a": Model, "b": Model}


class Listening(Instrument):
    """Notes all that it hears, and hangs on to it."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[Any, ...]]] = []
        self.cluster: ObservedCluster | None = None
        for hook in HOOKS:
            setattr(self, hook, self._noting(hook))

    def _noting(self, hook: str) -> Callable[..., Any]:
        def note(*arguments: Any) -> Any:
            self.heard.append((hook, arguments))
            return len(self.heard) if hook == "round_started" else None

        return note

    @asynccontextmanager
    async def running(self, cluster: ObservedCluster) -> AsyncIterator[None]:
        self.cluster = cluster
        self.heard.append(("entered", ()))
        yield
        self.heard.append(("left", ()))

    def of(self, *hooks: str) -> list[Any]:
        return [arguments for hook, arguments in self.heard if hook in hooks]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


async def test_what_happens_is_told(autojump_clock: MockClock) -> None:
    listening = Listening()

    async def catch_up(join: Join) -> None:
        await join.model.call("tick", Arguments(1))

    async with coordinating(AB, on_join=catch_up, instruments=[listening]) as (crunch, cluster):
        assert listening.heard[0] == ("entered", ())
        assert [change.kind for (change,) in listening.of("model_changed")].count(ChangeKind.JOINED) == 2
        ticks = listening.of("call_ended")
        assert sorted(model.model_id for (tick,) in ticks for model in tick) == ["a", "b"]
        assert {tick.method for (tick,) in ticks} == {"tick"}
        listening.heard.clear()

        played = await cluster.call("predict", timeout=3.0)
        (start,), (token,), (same, ended) = (
            listening.of(hook)[0] for hook in ("round_started", "metadata", "round_ended")
        )
        assert (start.id, start.method, start.timeout) == (played.id, "predict", 3.0)
        assert start.models == tuple(played)
        assert token == same == 1
        assert ended is played
        assert [hook for hook, _ in listening.heard] == ["round_started", "metadata", "round_ended"]

        await cluster.models["a"].predict()
        assert listening.heard[-1][0] == "call_ended"
        await cluster.models["a"].reset()
        await cluster.report_failure(cluster.models["b"], "LOW_PERFORMANCE", "worse than all")
        await wait_all_tasks_blocked()
        assert listening.of("report_sent") == [
            (Report("b", played_id(cluster, "b"), FailureCode.LOW_PERFORMANCE, "worse than all"),)
        ]
        crunch.orchestrator.kill()
        crunch.orchestrator.start()
        await trio.sleep(10)
        (away, error), back = listening.of("orchestrator_changed")[-2:]
        assert (away, back) == (False, (True, None))
        assert error
    assert listening.heard[-1] == ("left", ())
    assert listening.cluster is not None
    assert listening.cluster.crunch_id == cluster.config.crunch_id
    assert listening.cluster.rpc_method == "dynamic_subclass.DynamicSubclassService/Call"


def played_id(cluster: Cluster, model_id: str) -> str | None:
    return cluster.announced[model_id].deployment_id


async def cancelled(function: Callable[..., Any], *arguments: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(function, *arguments)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_rounds_without_results_end_with_none(autojump_clock: MockClock) -> None:
    listening = Listening()
    async with coordinating(AB, instruments=[listening]) as (_, cluster):
        await cancelled(cluster.models["a"].call, "hang")
        await cancelled(cluster.call, "hang")
        with pytest.raises(TypeError):
            await cluster.call("predict", Arguments(object()))
        with pytest.raises(TypeError):
            await cluster.call("predict", timeout="soon")  # type: ignore[call-overload]
        async with cluster.as_completed("hang", timeout=60):
            pass
        assert [ended for _, ended in listening.of("round_ended")] == [None, None, None]
        async with cluster.as_completed("predict", sit_out=False, timeout=90) as results:
            assert len([result async for result in results]) == 2
        assert listening.of("round_ended")[-1][1].method == "predict"
    assert len(listening.of("round_started")) == len(listening.of("round_ended")) == 4
    assert listening.of("call_ended") == []


def fail(crunch: Any, *model_ids: str) -> None:
    for model_id in model_ids:
        crunch.node(model_id).faults.call_status = ("MODEL_FAILED", "no feathers")


async def test_reports_are_told_at_every_stage(autojump_clock: MockClock) -> None:
    listening = Listening()
    six = dict.fromkeys("abcdef", Model)
    async with coordinating(six, instruments=[listening]) as (crunch, cluster):
        fail(crunch, "a", "b")
        for _ in range(5):
            await cluster.call("predict")
        await wait_all_tasks_blocked()
        (pending,), (other,) = listening.of("report_pending")
        assert {pending.model_id, other.model_id} == {"a", "b"}
        assert (pending.code, pending.method, pending.failures) == (FailureCode.MULTIPLE_FAILED, "predict", 4)
        assert pending.witness in "cdef"
        crunch.node("b").faults.call_status = None
        await cluster.call("predict")
        ((withdrawn, why),) = listening.of("report_withdrawn")
        assert withdrawn.model_id == "b"
        assert why
        await trio.sleep(120)
        ((sent,),) = listening.of("report_sent")
        assert (sent.model_id, sent.code) == ("a", FailureCode.MULTIPLE_FAILED)
        fail(crunch, *"bcd")
        for _ in range(10):
            await cluster.call("predict")
            await trio.sleep(30)
        assert sorted(report.model_id for (report,) in listening.of("report_held")) == ["b", "c", "d"]


UNWELCOME = [
    ValueError("a bug of its own"),
    ConfigError("too late"),
    trio.Cancelled._create(source="unknown"),
    asyncio.CancelledError(),
    GeneratorExit(),
]


@pytest.mark.parametrize("error", UNWELCOME, ids=lambda error: type(error).__name__)
async def test_what_a_hook_raises_is_logged_once_and_harms_nobody(
    error: BaseException, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Raising:
        def __getattr__(self, name: str) -> Any:
            if name not in HOOKS:
                raise AttributeError(name)
            return self._raise

        def _raise(self, *_: Any) -> Any:
            raise error

    listening = Listening()
    async with coordinating(AB, instruments=[Raising(), listening]) as (crunch, cluster):
        for _ in range(3):
            assert len((await cluster.call("predict")).succeeded) == 2
            await cluster.models["a"].predict()
        await crunch.crash("a")
        await cluster.report_failure(cluster.models["b"], "LOW_PERFORMANCE")
        await wait_all_tasks_blocked()
    said = errors(caplog)
    heard = {hook for hook, _ in listening.heard} & set(HOOKS)
    # `round_ended` and `metadata` need a token, and there is none.
    expected = heard - {"round_ended", "metadata"}
    assert sorted(said) == sorted(
        f"instrument Raising: {hook} raised; more of this is not logged" for hook in expected
    )
    assert {"round_started", "call_ended", "model_changed", "report_sent"} <= expected


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("hook", ["round_started", "round_ended", "call_ended", "model_changed"])
async def test_what_ends_the_program_leaves_through_the_block(
    kind: type[BaseException], hook: str, autojump_clock: MockClock
) -> None:
    raised = kind("of a hook")

    class Ending:
        pass

    def end(*_: Any) -> None:
        if cluster is not None:
            raise raised

    cluster: Cluster | None = None
    ending = Ending()
    setattr(ending, hook, end)
    listening = Listening()
    with pytest.raises(kind) as caught:  # noqa: PT012 - that it leaves through the block is the point
        async with coordinating(AB, instruments=[ending, listening]) as (crunch, entered):
            cluster = entered
            await cluster.call("predict")
            await cluster.models["a"].predict()
            await crunch.crash("a")
            await trio.sleep_forever()
    assert caught.value is raised
    assert len(listening.of("round_started")) == len(listening.of("round_ended")) == 1
    assert listening.heard[-1] == ("left", ())


async def test_ctrl_c_ends_a_hook_that_never_ends() -> None:
    class Endless:
        def round_ended(self, token: Any, round: Any) -> None:  # noqa: A002
            signal.raise_signal(signal.SIGINT)
            while True:
                time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - that it leaves through the block is the point
        async with coordinating(AB, instruments=[Endless()]) as (_, cluster):
            await cluster.call("predict")
            await trio.sleep_forever()


async def test_a_slow_hook_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    class Slow:
        def round_ended(self, token: Any, round: Any) -> None:  # noqa: A002
            time.sleep(0.06)

    async with coordinating(AB, instruments=[Slow()]) as (_, cluster):
        for _ in range(2):
            assert len((await cluster.call("predict")).succeeded) == 2
    (said,) = [each.getMessage() for each in caplog.records if "all else waited" in each.getMessage()]
    assert said.startswith("instrument Slow: round_ended took")


async def test_a_hook_may_look_at_the_cluster_and_start_what_calls_it(autojump_clock: MockClock) -> None:
    class Curious(Instrument):
        def __init__(self) -> None:
            self.seen: list[Any] = []
            self.changes: list[Any] = []

        def round_ended(self, token: Any, round: Any) -> None:  # noqa: A002
            self.seen.append(cluster.snapshot().last_round)
            if len(self.seen) < 3:
                nursery.start_soon(cluster.call, "predict")

        def model_changed(self, change: Any) -> None:
            if cluster is not None:
                self.changes.append((change.kind, set(cluster.announced), set(cluster.models)))

    cluster: Any = None
    curious = Curious()
    async with trio.open_nursery() as nursery, coordinating(AB, instruments=[curious]) as (crunch, entered):
        cluster = entered
        await cluster.call("predict")
        await trio.sleep(1)
        await crunch.crash("a")
        await wait_all_tasks_blocked()
        assert [last["id"] for last in curious.seen] == ["1", "2", "3"]
        assert curious.changes[-1] == (ChangeKind.FAILED, {"a", "b"}, {"b"})


async def test_what_was_heard_can_be_kept_and_not_changed(autojump_clock: MockClock) -> None:
    listening = Listening()
    async with coordinating(AB, instruments=[listening]) as (_, cluster):
        played = await cluster.call("predict")
        (start,) = listening.of("round_started")[0]
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            start.method = "other"
        with pytest.raises(TypeError):
            played[start.models[0]] = None  # type: ignore[index]
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            listening.of("model_changed")[0][0].kind = ChangeKind.LEFT
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            Report("a", None, FailureCode.MULTIPLE_FAILED, None).reason = "other"  # type: ignore[misc]
    assert repr(start).count("<2>") == 1


class Unreadable(dict[str, str]):
    def items(self) -> Any:
        raise GeneratorExit


async def test_all_instruments_together_send_what_nodes_take(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Tracing(Instrument):
        def metadata(self, token: object) -> dict[str, str]:
            return {f"a{id(self)}": "x" * 1500}

    async with coordinating(AB, instruments=[Tracing() for _ in range(4)]) as (crunch, cluster):
        await cluster.call("predict")
        sent = crunch.node("a").calls[-1].metadata
        assert len([name for name in sent if str(name).startswith("a")]) == 2
    assert len(errors(caplog)) == 2


async def test_metadata_goes_with_a_rounds_requests_and_no_others(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Tracing(Instrument):
        metadata_of: Any = {"traceparent": "00-ab-cd-01"}  # noqa: RUF012

        def round_started(self, start: RoundStart) -> str:
            return start.method

        def metadata(self, token: str) -> Any:
            assert token in ("predict", "tick")
            return self.metadata_of

    tracing = Tracing()
    async with coordinating(AB, instruments=[tracing]) as (crunch, cluster):
        await cluster.call("predict")
        await cluster.call("tick", lambda model: Arguments(model.model_id))
        await cluster.models["a"].predict()
        sent = [call.metadata.get("traceparent") for call in crunch.node("a").calls]
        assert sent == ["00-ab-cd-01", "00-ab-cd-01", None]
        texts: list[Any] = [
            {"Traceparent": "secret"},
            {"host": "secret"},
            {"a": "secret\n"},
            {"a": "x" * 9000},
        ]
        for bad in (*texts, 7, numpy.array(["a", "b"]), Unreadable()):
            tracing.metadata_of = bad
            assert len((await cluster.call("predict")).succeeded) == 2
    (said,) = errors(caplog)
    assert said.startswith("instrument Tracing: metadata that can't be sent")
    assert "secret" not in said


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), BaseException("of its own")])
async def test_whatever_its_life_raises_ends_an_instrument_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    async def run(cluster: ObservedCluster) -> AsyncIterator[None]:
        async def crash() -> None:
            await trio.sleep(1)
            raise error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash)
            yield

    async with coordinating(AB, instruments=[living(run)]) as (_, cluster):
        await trio.sleep(2)
        assert len((await cluster.call("predict")).succeeded) == 2
    assert errors(caplog) == ["instrument Living has failed, and is told nothing more"]


async def in_vain(*_: Any) -> None: ...


async def yielding_in_vain(*_: Any) -> AsyncIterator[None]:
    yield


def generating(*_: Any) -> Any:
    yield


class AsyncCallable:
    async def __call__(self, *_: Any) -> None: ...


def made(**attributes: Any) -> Any:
    return type("Odd", (), attributes)()


PLAIN = r"Odd\.round_ended must be a plain function, got "
LIFE = r"Odd\.running must return an async context manager, got "


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ([made(round_ended=in_vain)], PLAIN + "an async function"),
        ([made(round_ended=yielding_in_vain)], PLAIN + "an async generator"),
        ([made(round_ended=generating)], PLAIN + "a generator"),
        ([made(round_ended=AsyncCallable())], PLAIN + "an async function"),
        ([made(round_ended=functools.partial(AsyncCallable(), 1))], PLAIN + "an async function"),
        ([made(running=in_vain)], LIFE + "an async function: .*@contextlib.asynccontextmanager"),
        ([made(running=yielding_in_vain)], LIFE + "an async generator"),
        ([made(running=True)], LIFE + "True"),
        ([made(running=None)], "Odd has none of the hooks"),
        (Listening, "must be several instruments"),
        ([Listening], "the class Listening"),
        ([object()], "has none of the hooks: round_started"),
        (["rounds.jsonl"], "str has none of the hooks"),
        (7, "must be several instruments"),
        (
            [type("Async", (), {"round_ended": test_ctrl_c_ends_a_hook_that_never_ends})()],
            "Async.round_ended",
        ),
        ([type("Text", (), {"round_ended": "text"})()], "must be a plain function"),
    ],
)
def test_what_is_no_instrument_is_refused(wrong: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        check_instruments(wrong)
    with pytest.raises(TypeError, match=text):
        Cluster(ClusterConfig("c"), SERVICE, instruments=wrong)


def test_an_instrument_is_given_once() -> None:
    one = Listening()
    with pytest.raises(ValueError, match="instruments: the same Listening is given twice"):
        Cluster(ClusterConfig("c"), SERVICE, instruments=[one, Listening(), one])


def living(run: Callable[[ObservedCluster], Any]) -> Any:
    return type(
        "Living", (Listening,), {"running": lambda self, cluster: asynccontextmanager(run)(cluster)}
    )()


async def test_what_fails_in_its_life_ends_an_instrument_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fall_over = trio.Event()

    async def run(cluster: ObservedCluster) -> AsyncIterator[None]:
        async def crash() -> None:
            await fall_over.wait()
            raise RuntimeError("of its own")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash)
            try:
                yield
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                    tidied.append(True)

    tidied: list[bool] = []
    failing, listening = living(run), Listening()
    async with coordinating(AB, instruments=[failing, listening]) as (_, cluster):
        await cluster.call("predict")
        fall_over.set()
        await trio.sleep(2)
        assert tidied
        await cluster.call("predict")
        assert len(failing.of("round_ended")) == 1
        assert len(listening.of("round_ended")) == 2
    assert errors(caplog) == ["instrument Living has failed, and is told nothing more"]


async def test_one_that_hangs_on_entering_or_leaving_is_cut_off(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def enter(cluster: ObservedCluster) -> AsyncIterator[None]:
        await trio.sleep_forever()
        yield

    async def leave(cluster: ObservedCluster) -> AsyncIterator[None]:
        yield
        await trio.sleep_forever()

    began = trio.current_time()
    async with coordinating(AB, instruments=[living(enter), living(leave)]) as (_, cluster):
        assert trio.current_time() - began < 6
        await cluster.call("predict")
        began = trio.current_time()
    assert trio.current_time() - began <= 2.5  # shutdown_grace, and the crunch's own end
    assert errors(caplog) == [
        "instrument Living took too long to enter, and was cut off",
        "instrument Living took too long to leave, and was cut off",
    ]


async def test_one_that_is_set_up_wrongly_is_found_on_entering(autojump_clock: MockClock) -> None:
    async def enter(cluster: ObservedCluster) -> AsyncIterator[None]:
        raise ConfigError("path: no such directory")
        yield

    listening = Listening()
    with pytest.raises(ConfigError, match="no such directory"):
        async with coordinating(AB, instruments=[listening, living(enter)]):
            raise AssertionError
    assert [hook for hook, _ in listening.heard] == ["entered", "left"]


async def test_one_that_can_not_begin_is_told_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def enter(cluster: ObservedCluster) -> AsyncIterator[None]:
        raise OSError("no such collector")
        yield

    failing = living(enter)
    async with coordinating(AB, instruments=[failing]) as (_, cluster):
        await cluster.call("predict")
    assert failing.heard == []
    assert errors(caplog) == ["instrument Living has failed, and is told nothing more"]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_the_body_leaves_as_if_there_were_none(autojump_clock: MockClock, cancelled: bool) -> None:
    class Group(ExceptionGroup[Exception]):
        pass

    listening = Listening()
    error = Group("of the body", [ValueError(), KeyError()])
    if cancelled:
        with trio.CancelScope() as scope:
            async with (
                coordinating(AB, instruments=[listening]) as (_, cluster),
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(cluster.call, "hang")
                await wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
        assert listening.of("round_ended")[0][1] is None
        assert listening.heard[-1] == ("left", ())
    else:
        with pytest.raises(Group) as caught:
            async with coordinating(AB, instruments=[listening]):
                raise error
        assert caught.value is error
        assert listening.heard[-1] == ("left", ())
