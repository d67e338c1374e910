"""How many mistakes the tests notice: every mutant of a few modules against the tests that are near to them.

``python tests/mutants.py [MODULE …] [--again] [--write]`` changes one thing at a time (a comparison, an operator, a number, a condition,
a returned value), runs the tests of `NEAR` in a forked process and lists the mutants that survive. ``--again`` tries only those that
survived before. ``--write`` records counts and survivors in ``tests/mutants.csv``, whose last column says of each why it survives:
``equivalent``, or ``accepted`` and the reason.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import csv
import io
import os
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
NEAR = {
    "nandlib.method.operators": ("test_operators.py", "test_plain_reference.py", "test_adapt.py"),
    "nandlib.method.detection": ("test_operators.py", "test_plain_reference.py", "test_adapt.py", "test_plus.py"),
    "nandlib.method.plus": ("test_plus.py",),
    "nandlib.evaluation.protocol": ("test_protocol.py", "test_uncertainty.py"),
    "nandlib.evaluation.statistics": ("test_uncertainty.py", "test_origin.py"),
}
LIMIT_S = 120
COMPARE = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn,
           ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}  # fmt: skip
BINARY = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult,
          ast.MatMult: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}  # fmt: skip
COLUMNS = ["module", "line", "was", "became", "verdict"]


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of one node."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in COMPARE:
        new.ops[0] = COMPARE[type(new.ops[0])]()
        yield new
    elif isinstance(new, ast.BinOp) and type(new.op) in BINARY:
        new.op = BINARY[type(new.op)]()
        yield new
    elif isinstance(new, ast.BoolOp):
        new.op = ast.Or() if isinstance(new.op, ast.And) else ast.And()
        yield new
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, (ast.Not, ast.USub, ast.Invert)):
        yield new.operand
    elif isinstance(new, ast.Constant) and isinstance(new.value, bool):
        new.value = not new.value
        yield new
    elif isinstance(new, ast.Constant) and isinstance(new.value, (int, float)):
        new.value += 1
        yield new
    elif isinstance(new, ast.IfExp):
        new.body, new.orelse = new.orelse, new.body
        yield new
    elif isinstance(new, ast.Return) and new.value is not None:
        new.value = ast.Constant(None)
        yield new


def mutants(source: str) -> Iterator[tuple[ast.Module, int, str, str]]:
    """Every changed tree with its line, what stood there and what stands there now. Annotations and docstrings are left alone."""
    tree = ast.parse(source)
    skipped = {id(inner) for node in ast.walk(tree) for part in _annotations(node) for inner in ast.walk(part)}
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            for k, node in enumerate(value if isinstance(value, list) else [value]):
                if not isinstance(node, ast.AST) or id(node) in skipped or isinstance(parent, ast.JoinedStr):
                    continue
                for new in changes(node):
                    ast.copy_location(new, node)
                    _put(parent, name, k, new)
                    yield ast.fix_missing_locations(tree), getattr(node, "lineno", 0), ast.unparse(node), ast.unparse(new)
                    _put(parent, name, k, node)


def _annotations(node: ast.AST) -> list[ast.AST]:
    found = [getattr(node, name, None) for name in ("annotation", "returns")]
    if isinstance(node, ast.Raise):  # messages
        found.append(node)
    if isinstance(node, ast.ImportFrom):
        found.append(node)
    return [part for part in found if isinstance(part, ast.AST)]


def _put(parent: ast.AST, name: str, k: int, node: ast.AST) -> None:
    if isinstance(getattr(parent, name), list):
        getattr(parent, name)[k] = node
    else:
        setattr(parent, name, node)


def killed(module: types.ModuleType, tree: ast.Module, tests: tuple[str, ...]) -> bool:
    """Whether the tests fail in a process of its own in which the module's functions are those of the changed tree."""
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT_S)  # ends the process: a mutant that hangs is noticed
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = 1
            try:
                changed: dict[str, object] = {"__name__": module.__name__}
                exec(compile(tree, module.__file__ or "", "exec"), changed)
                _replace_everywhere(module, changed)
                code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *(str(TESTS / name) for name in tests)])
            except BaseException:
                code = 1
        os._exit(int(code != 0))
    return os.waitpid(child, 0)[1] != 0


def _replace_everywhere(module: types.ModuleType, changed: dict[str, object]) -> None:
    """The changed objects also where other modules have imported them by name."""
    old = {id(value): name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    for other in [m for name, m in sys.modules.items() if name.startswith("nandlib")]:
        for name, value in list(vars(other).items()):
            if id(value) in old and old[id(value)] in changed:
                setattr(other, name, changed[old[id(value)]])
    vars(module).update({name: value for name, value in changed.items() if not name.startswith("__")})


def main(arguments: list[str]) -> None:
    import importlib

    import nandlib.show.explorer.answer
    import nandlib.stages.similarities  # noqa: F401  # whatever the tests import is there before the fork

    wanted = [name for name in NEAR if not (chosen := [a for a in arguments if not a.startswith("-")]) or name in chosen]
    path = TESTS / "mutants.csv"
    known = {tuple(row[c] for c in COLUMNS[:4]): row["verdict"] for row in csv.DictReader(path.open())} if path.is_file() else {}
    rows, counts = [], {}
    sys.path.insert(0, str(TESTS))
    for name in wanted:
        module, total, alive = importlib.import_module(name), 0, 0
        source = Path(str(module.__file__)).read_text()
        if killed(module, ast.parse(source), NEAR[name]):
            raise SystemExit(f"{name}: its tests fail without any mutant ({', '.join(NEAR[name])})")
        for tree, line, was, became in mutants(source):
            total, row = total + 1, (name, str(line), was, became)
            if ("--again" not in arguments or row in known) and not killed(module, tree, NEAR[name]):
                alive += 1
                rows.append((*row, known.get(row, "")))
                print(f"{name}:{line}: {was!r} -> {became!r}", flush=True)
        counts[name] = (total, alive)
        print(f"{name}: {total - alive} of {total} noticed", flush=True)
    if "--write" in arguments:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows((name, "", f"{total} mutants", f"{total - alive} noticed", "") for name, (total, alive) in counts.items())
            writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
