"""`model/policy` alone decides what an outcome is and what it means: the source is read, and says so.

Outside that room nobody names a member of `Outcome`, looks at one to choose by it, or reads more of `RULES`
than a call's status. gRPC's statuses, which are what most decisions are made of, are named only where they
are made and passed on. Failures name the place: file:line.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

import trio_model_runner

Looking = Callable[[ast.Module], Iterator[str]]

PACKAGE = Path(trio_model_runner.__file__).parent

TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}

POLICY = "model/policy/"

GRPC_STATUSES = {
    "rpc/": "makes them of what the other side sends",
    "channel/": "passes them on to programs with stubs, which decide for themselves",
    POLICY: "decides",
    "sharding/told_errors": "passes them on from a shard's process to the driver's",
    "testing/": "is the other side, and sends them",
    "proto/": "is generated; its servers answer UNIMPLEMENTED",
}
"""Who may name a gRPC status, and why."""

MEMBERS = ("Outcome", "Counts", "FailureCode")
"""What only the policy chooses among. (A `Fact`, or a `Progress`, is what the others tell it.)"""


def test_nobody_else_names_what_only_the_policy_chooses_among() -> None:
    expect_none(found(named_members))


def test_nobody_else_chooses_by_an_outcome() -> None:
    expect_none(found(choices))


def test_nobody_else_reads_more_of_a_rule_than_the_status() -> None:
    expect_none(found(rules_read))


def test_nobody_else_names_a_grpc_status() -> None:
    expect_none(found(grpc_statuses, allowed=GRPC_STATUSES))


@pytest.mark.parametrize("room", GRPC_STATUSES)
def test_whoever_may_name_a_grpc_status_does(room: str) -> None:
    assert any(place.startswith(room) for place in found(grpc_statuses, allowed=()))


def test_the_policy_is_where_it_is_looked_for() -> None:
    for looking in (named_members, choices, rules_read):
        assert any(place.startswith(POLICY) for place in found(looking, allowed=()))


def found(looking: Looking, allowed: Iterable[str] = (POLICY,)) -> list[str]:
    """Where something is found in the package, outside the rooms where it is allowed."""
    return [
        f"{file}:{place}"
        for file, tree in TREES.items()
        if not file.startswith(tuple(allowed))
        for place in looking(tree)
    ]


def named_members(tree: ast.Module) -> Iterator[str]:
    """Where ``Outcome.X`` is named, or ``Outcome["X"]``, under whatever name it was imported."""
    names = {alias for each in MEMBERS for alias in aliases(tree, each)} | {*MEMBERS}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=value) | ast.Subscript(value=value) if last_name(value) in names:
                yield shown(node)


def choices(tree: ast.Module) -> Iterator[str]:
    """Where an outcome is compared, matched, looked up, or tested for being true."""
    for node in ast.walk(tree):
        operands: list[ast.expr] = []
        match node:
            case ast.Compare(left=left, comparators=comparators):
                operands = [left, *comparators]
                if is_none_test(node):
                    continue
            case ast.Match(subject=subject):
                operands = [subject]
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.Assert(test=test):
                operands = [test]
            case ast.BoolOp(values=values):
                operands = values
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                operands = [operand]
            case ast.Subscript(value=value, slice=index) if last_name(value) != "RULES":
                operands = [index]
        if any(is_outcome(operand) for operand in operands):
            yield shown(node)


def rules_read(tree: ast.Module) -> Iterator[str]:
    """Where ``RULES`` is used for anything but ``RULES[...].status``."""
    names = {"RULES", *aliases(tree, "RULES")}
    fine = {
        id(rules)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "status"
        and isinstance(node.value, ast.Subscript)
        and last_name(rules := node.value.value) in names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and last_name(node) in names and id(node) not in fine:
            yield shown(node)


def grpc_statuses(tree: ast.Module) -> Iterator[str]:
    """Where a member of grpclib's ``Status`` is named."""
    names = aliases(tree, "Status", of="grpclib.const")
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name)) | ast.Subscript(value=ast.Name(id=name)) if (
                name in names
            ):
                yield shown(node)
            case ast.Attribute(value=ast.Attribute(value=module, attr="Status")) if ast.unparse(
                module
            ).endswith("const"):
                yield shown(node)


def aliases(tree: ast.Module, name: str, of: str = "") -> set[str]:
    """The names under which a module imports something, from anywhere or from one module alone."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (not of or node.module == of)
        for alias in node.names
        if alias.name == name
    }


def last_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def is_outcome(node: ast.expr) -> bool:
    """Whether something is an outcome, by its name, or just made by the policy."""
    if isinstance(node, ast.Call):
        return last_name(node.func).startswith("outcome_of")
    return last_name(node).lstrip("_").endswith("outcome")


def is_none_test(node: ast.Compare) -> bool:
    """Whether something is asked for being None, which no outcome is."""
    return all(isinstance(each, ast.Constant) and each.value is None for each in node.comparators)


def shown(node: ast.expr | ast.stmt) -> str:
    return f"{node.lineno}: {ast.unparse(node).splitlines()[0]}"


def expect_none(mistakes: list[str]) -> None:
    if mistakes:
        pytest.fail("\n".join(mistakes), pytrace=False)  # pytest would cut a comparison short


@pytest.mark.parametrize(
    ("looking", "source"),
    [
        (named_members, "x = Outcome.OVERRAN"),
        (named_members, "x = policy.Outcome.OVERRAN"),
        (named_members, "from .policy import Outcome as O\nx = O['OVERRAN']"),
        (named_members, "self.report(FailureCode.MULTIPLE_FAILED)"),
        (choices, "if outcome is other: pass"),
        (choices, "x = failure.outcome in SEVERAL"),
        (choices, "match self._outcome:\n    case 5: pass"),
        (choices, "x = TABLE[outcome]"),
        (choices, "x = outcome_of_setup(code) == 5"),
        (choices, "if not outcome: pass"),
        (choices, "x = outcome and 5"),
        (choices, "while the_outcome: pass"),
        (rules_read, "x = RULES[outcome].report"),
        (rules_read, "x = RULES[outcome]"),
        (rules_read, "x = RULES.get(outcome)"),
        (rules_read, "x = policy.RULES[outcome].counts"),
        (rules_read, "from .policy import RULES as R\nx = R[outcome].counts"),
        (grpc_statuses, "from grpclib.const import Status\nx = Status.UNAVAILABLE"),
        (grpc_statuses, "from grpclib.const import Status as S\nx = S['UNAVAILABLE']"),
        (grpc_statuses, "import grpclib\nx = grpclib.const.Status.UNAVAILABLE"),
    ],
)
def test_what_is_looked_for_is_found(looking: Looking, source: str) -> None:
    assert [*looking(ast.parse(source))]


@pytest.mark.parametrize(
    ("looking", "source"),
    [
        (named_members, "def note(outcome: Outcome) -> None: self.record.note(outcome)"),
        (choices, "if outcome is not None: raise BringUpError(outcome)"),
        (choices, "if not succeeded(outcome): self._end(outcome)"),
        (choices, "status = RULES[outcome].status"),
        (rules_read, "status = policy.RULES[outcome].status"),
        (grpc_statuses, "from ..values.results import Status\nx = Status.SUCCESS"),
    ],
)
def test_what_is_fine_is_not_found(looking: Looking, source: str) -> None:
    assert [*looking(ast.parse(source))] == []
