"""Tests that the code uses enums for states and similar values, and never plain strings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from scanner.records import states

ROOT = Path(__file__).parent.parent
ENUMS = [one for one in vars(states).values() if isinstance(one, type) and issubclass(one, StrEnum) and one != StrEnum]
WORDS = {member.value for enum in ENUMS for member in enum}
NAMES = {"state", "action", "decision", "cause", "wanted", "result", "channel", "occasion", "enforce"}
"""The names of variables, attributes, parameters and keys whose value must be a member of an enum."""
JOBS = {"ScanJob", "job"}
"""The names of objects whose attribute `kind` is a `JobKind`."""
EXEMPT = {
    "notifications/email/samples.py": "contains invented facts in the form of JSON",
    "notifications/email/bounces.py": "parses RFC 3464, which has a field `Action`",
    "scanner/records/states.py": "defines the enums",
}


def modules() -> list[Path]:
    found = [path for top in ("scanner", "notifications", "workers") for path in sorted((ROOT / top).rglob("*.py"))]
    return [
        path
        for path in found
        if not {"sandbox", "migrations"} & set(path.parts) and str(path.relative_to(ROOT)) not in EXEMPT
    ]


def bare_words(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the string literals in comparisons, assignments and arguments that should be members of an enum."""
    for node in ast.walk(tree):
        yield from _words(list(_beside_a_state(node)))
    yield from _constant_words(tree)


def _beside_a_state(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions in a node that are compared with one of NAMES, assigned to it, or passed as its value."""
    match node:
        case ast.Compare(left=left, comparators=comparators):
            if any(map(_holds_a_state, [left, *comparators])):
                yield from (left, *comparators)
        case ast.Call(func=ast.Attribute(value=column, attr="in_" | "not_in"), args=arguments):
            if _holds_a_state(column):
                yield from arguments
        case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[key, *_]):
            if _holds_a_state(key):
                yield table
        case ast.keyword(arg=keyword, value=value):
            if keyword in NAMES:
                yield value
        case ast.Assign(targets=targets, value=value):
            if any(map(_holds_a_state, targets)):
                yield value
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            if _holds_a_state(target):
                yield value
        case ast.Dict(keys=names, values=entries):
            for name, entry in zip(names, entries, strict=True):
                if isinstance(name, ast.Constant) and name.value in NAMES:
                    yield entry
        case ast.arguments():
            yield from _defaults(node)


def _holds_a_state(node: ast.expr) -> bool:
    match node:
        case ast.Attribute(attr="kind", value=ast.Name(id=owner)):
            return owner in JOBS
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in NAMES
    return False


def _words(nodes: list[ast.expr]) -> Iterator[ast.Constant]:
    """Yield the string literals in these expressions that equal a value of an enum."""
    for node in nodes:
        match node:
            case ast.Constant(value=str() as value) if value in WORDS and value:
                yield node
            case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
                yield from _words(parts)
            case ast.Dict(keys=keys):
                yield from _words([key for key in keys if key is not None])
            case ast.IfExp(body=body, orelse=orelse):
                yield from _words([body, orelse])


def _defaults(arguments: ast.arguments) -> Iterator[ast.expr]:
    positional = [*arguments.posonlyargs, *arguments.args]
    with_default = positional[len(positional) - len(arguments.defaults) :]
    pairs = [
        *zip(with_default, arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    yield from (default for name, default in pairs if default is not None and name.arg in NAMES)


def _constant_words(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the string literals in constants such as `OPEN = ("queued",)`."""
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple | ast.List | ast.Set):
            words = list(_words(node.value.elts))
            if words and len(words) == len(node.value.elts):
                yield from words


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_state_is_never_a_bare_string(path: Path) -> None:
    found = [f"line {word.lineno}: {word.value!r}" for word in bare_words(ast.parse(path.read_text()))]
    assert not found, "use the enums of scanner/records/states.py"


@pytest.mark.parametrize(
    "code",
    [
        'if job.state == "queued": pass',
        'if "open" == incident.state: pass',
        'if incident.action in ("held", "flagged"): pass',
        'query.where(Notification.state.in_(("pending", "frozen")))',
        'update(Report).values(state="received")',
        'row.state = "done" if not missing else "partial"',
        'state: str = "done"',
        'def respond(*, cause: str = "public_repository"): pass',
        'def record(state="unchecked"): pass',
        'row = {"state": "pending"}',
        'OPEN = ("queued", "running")',
        'status = {"done": 0, "partial": 2}.get(job.state, 1)',
        'if row.channel == "email": pass',
        'if row.channel in ("email", "operator"): pass',
        'notify(occasion="undeliverable")',
        'if policy.enforce == "observe": pass',
        'query.where(ScanJob.kind.in_(("repository", "gist")))',
        'if job.kind == "pushes": pass',
    ],
)
def test_a_bare_string_is_found_wherever_a_state_is_required(code: str) -> None:
    assert list(bare_words(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        'columns = ("incident", "disabled")',
        'answer = {"received": True}',
        'raise UserError("unknown")',
        'mode = "flag"',
        'if target.kind == "repository": pass',
        'if place.kind == "gist": pass',
    ],
)
def test_the_same_word_elsewhere_is_no_state(code: str) -> None:
    assert not list(bare_words(ast.parse(code)))


def test_no_two_names_of_an_enum_have_the_same_value() -> None:
    assert ENUMS
    for enum in ENUMS:
        assert len(enum.__members__) == len(list(enum)), enum
