"""The rules that keep an operator in one file and rounding in one room, checked on the source itself.

R1 Stages never name an operator nor switch on its type. R2 Rounding lives in `spec/`, in `qmath.h` and in that header's
vector forms, `qmath_<isa>.h`. R3 An operator file imports `spec`, `ir` and array libraries only. The directions of all
imports are import-linter's business (pyproject.toml). Every checker is tried on a violation too.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from benchmarks.mutate import MUTATIONS

from tests.conformance.generate import DRAWS, all_cases, build, codes_for
from unfloat.ops import REGISTRY
from unfloat.program.interpret import interpret

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/unfloat"
STAGES = ("quant", "program", "runtime", "cli")
PLAIN_WORDS = {"constant", "mean"}  # also names of record fields and of a norm's slots: looked at only beside `.op`
OPERATOR_FILE_LINES = 300
OPERATOR_FILE_IMPORTS = re.compile(
    r"(__future__|collections|dataclasses|functools|itertools|math|types|typing|numpy|array_api_compat"
    r"|unfloat\.(spec|ir|ops))(\.|$)"
)
ROUNDING_CALLS = {"round", "rint", "around", "round_", "fix", "trunc", "nearbyint", "rounded"}
ROUNDING_ELSEWHERE = {PACKAGE / "formats/pictures/read.py": "how many pixels a resized picture has"}


def python_files(*rooms: str) -> list[Path]:
    found = {room: sorted((PACKAGE / room).rglob("*.py")) for room in rooms}
    assert all(found.values()), f"no files in one of {rooms}"  # of which nothing would be checked
    return sorted(path for paths in found.values() for path in paths)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def over(paths: list[Path]) -> pytest.MarkDecorator:
    assert paths
    return pytest.mark.parametrize("path", paths, ids=name_of)


# R1 -------------------------------------------------------------------------------------------------------------------


def operators_named(source: str) -> list[str]:
    """Literals that name an operator, and isinstance on what the operators' room defines."""
    tree = ast.parse(source)
    found = [f"line {n.lineno}: {n.value!r}" for n in ast.walk(tree) if _names_operator(n, set(REGISTRY) - PLAIN_WORDS)]
    classes = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unfloat.ops")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if _is_about_an_op(node):
            found += [f"line {n.lineno}: {n.value!r}" for n in ast.walk(node) if _names_operator(n, PLAIN_WORDS)]
        if _calls(node, "isinstance", "issubclass"):
            names = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
            found += [f"line {node.lineno}: isinstance of {name}" for name in names & classes]
    return found


def _calls(node: ast.AST, *functions: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions


def _names_operator(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names


def _is_about_an_op(node: ast.AST) -> bool:
    """A comparison or a match with something called op, or a look-up in the registry."""
    if isinstance(node, ast.Compare):
        return any(isinstance(n, ast.Attribute) and n.attr == "op" for n in (node.left, *node.comparators))
    if isinstance(node, ast.Match):
        return isinstance(node.subject, ast.Attribute) and node.subject.attr == "op"
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "REGISTRY"


@over(python_files(*STAGES))
def test_r1_stages_name_no_operator(path: Path) -> None:
    assert operators_named(path.read_text()) == []


@pytest.mark.parametrize(
    "violation",
    [
        "if node.op == 'mean': pass",
        "names = {'conv2d': 1}",
        "REGISTRY['constant']",
        "match node.op:\n    case 'mean': pass",
        "from unfloat.ops._operator import Operator as Op\nisinstance(x, (int, Op))",
    ],
)
def test_r1_is_able_to_fail(violation: str) -> None:
    assert len(operators_named(violation)) == 1


def test_r1_leaves_fields_alone() -> None:
    assert operators_named("from unfloat.ops import REGISTRY\nrecord = {'mean': norm.mean}\nisinstance(x, dict)") == []


# R2 -------------------------------------------------------------------------------------------------------------------


def rounding(source: str) -> list[str]:
    """Calls that round, and shifts and divisions with a bias: `(x + b) >> n`, `(x + n // 2) // n`."""
    return [f"line {node.lineno}: {what}" for node in ast.walk(ast.parse(source)) if (what := _rounds(node))]


def _rounds(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return called if called in ROUNDING_CALLS else ""
    if not (isinstance(node, ast.BinOp) and isinstance(node.left, ast.BinOp)):
        return ""
    biased = isinstance(node.left.op, (ast.Add, ast.Sub))
    if biased and isinstance(node.op, ast.RShift):
        return ast.unparse(node)
    halves = {f"{ast.unparse(node.right)} // 2", f"{ast.unparse(node.right)} >> 1"}
    parts = {ast.unparse(node.left.left), ast.unparse(node.left.right)}
    return ast.unparse(node) if biased and isinstance(node.op, ast.FloorDiv) and halves & parts else ""


@over([path for path in python_files(".") if path.parent.name != "spec" and path not in ROUNDING_ELSEWHERE])
def test_r2_python_rounds_in_the_specification_only(path: Path) -> None:
    assert rounding(path.read_text()) == []


@pytest.mark.parametrize("path", ROUNDING_ELSEWHERE, ids=name_of)
def test_r2_exceptions_are_needed(path: Path) -> None:
    assert rounding(path.read_text())


@pytest.mark.parametrize(
    "violation",
    [
        *("round(x)", "np.rint(x)", "x.round()", "torch.trunc(x)"),
        *("(x + (1 << 30)) >> 31", "(x - 1) >> n", "(x + n // 2) // n"),
    ],
)
def test_r2_is_able_to_fail(violation: str) -> None:
    assert len(rounding(violation)) == 1


C_ROUNDING = (
    re.compile(r"\b(?:ll?)?(?:rint|round|nearbyint|trunc|floor|ceil)[fl]?\s*\("),  # math.h
    re.compile(r"\b_mm\d*_\w*(?:cvtp[sd]_epi|mulhrs|roundscale)\w*"),  # x86
    re.compile(r"\bv\w*(?:rdmulh|rshl|rshr|rshrn)\w*"),  # Arm
    re.compile(r"\+\s*(\w+)\s*/\s*2\s*\)\s*/\s*(?:\([^()]*\)\s*)?\1\b"),  # (x + n / 2) / n
)


def c_rounding(source: str) -> list[str]:
    """The same in C and C++, by pattern, comments and strings aside."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/|\"[^\"\n]*\"", "", source, flags=re.DOTALL)
    found = [m[0] for pattern in C_ROUNDING for m in pattern.finditer(code)]
    shifted = (_left_of(code, m.start()) for m in re.finditer(r"\)\s*>>", code))
    return found + [operand for operand in shifted if re.search(r"[\w)\]]\s*[+-]\s*[\w(]", _outermost(operand))]


def _left_of(code: str, end: int) -> str:
    """The parenthesis that closes at `end`."""
    depth, start = 1, end
    while depth and start > 0:
        start -= 1
        depth += {")": 1, "(": -1}.get(code[start], 0)
    return code[start : end + 1]


def _outermost(operand: str) -> str:
    """What stands in the parenthesis itself, inner ones emptied."""
    inside = operand[1:-1]
    while (emptied := re.sub(r"\([^()]+\)", "()", inside)) != inside:
        inside = emptied
    return inside


def c_files() -> list[Path]:
    return sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".c", ".h", ".cc", ".inc"))


@over([path for path in c_files() if not path.name.startswith("qmath")])
def test_r2_native_code_rounds_in_qmath_only(path: Path) -> None:
    assert c_rounding(path.read_text()) == []


@pytest.mark.parametrize(
    "violation",
    [
        "q = lrintf(x);",
        "q = std::round(x);",
        "v = _mm512_cvtps_epi32(x);",
        "t = (p + ((int64_t)1 << 30)) >> 31;",
        "t = (p - 1) >> n;",
        "a = (sum + count / 2) / count;",
        "a = (sum + n / 2) / (int32_t)n;",
    ],
)
def test_r2_is_able_to_fail_in_c(violation: str) -> None:
    assert len(c_rounding(violation)) == 1


def test_r2_knows_the_primitives_when_it_sees_them() -> None:
    assert rounding((PACKAGE / "spec/fixedpoint.py").read_text())
    assert c_rounding((ROOT / "csrc/include/qmath.h").read_text())


# R3 -------------------------------------------------------------------------------------------------------------------


def foreign(source: str) -> Iterator[str]:
    """Imports that an operator file may not have, and input or output."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or "."]
            yield from (f"line {node.lineno}: import {m}" for m in modules if not OPERATOR_FILE_IMPORTS.match(m))
        if _calls(node, "open", "print", "input"):
            yield f"line {node.lineno}: {ast.unparse(node)}"


OPERATOR_FILES = [path for path in python_files("ops") if path.name != "__init__.py"]  # that one scans the folder


@over(OPERATOR_FILES)
def test_r3_operator_files_are_small_and_pure(path: Path) -> None:
    assert list(foreign(path.read_text())) == []
    assert len(path.read_text().splitlines()) <= OPERATOR_FILE_LINES


@pytest.mark.parametrize(
    "violation",
    [
        *("import torch", "from torch import nn", "import os", "from . import conv", "open(path)"),
        *("from unfloat.program import lower", "import unfloat.quant.recipe"),
    ],
)
def test_r3_is_able_to_fail(violation: str) -> None:
    assert len(list(foreign(violation))) == 1


def test_every_operator_file_is_found() -> None:
    families = [p.stem for p in OPERATOR_FILES if not p.stem.startswith("_")]
    assert len(families) >= 8
    for family in families:
        operators = __import__(f"unfloat.ops.{family}", fromlist=["OPERATORS"]).OPERATORS
        assert operators
        assert all(REGISTRY[operator.name] is operator for operator in operators)


# Running needs no PyTorch ---------------------------------------------------------------------------------------------


def python(code: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout


def test_importing_imports_no_torch() -> None:
    heavy = python("import sys, unfloat; print(sorted({m.partition('.')[0] for m in sys.modules}))")
    assert "'unfloat'" in heavy
    for module in ("torch", "tflite", "flatbuffers", "onnx"):
        assert f"'{module}'" not in heavy


RUN = """
import sys
sys.modules["torch"] = None  # any import of it is an error
import numpy, unfloat
program = unfloat.load(sys.argv[1])
inputs = [numpy.load(path) for path in sys.argv[3:]]
numpy.save(sys.argv[2], program.compile().run(*inputs))
print(program.verify().digest)
print([module for module in sys.modules if module.startswith("unfloat.ops.") and module[12] != "_"])
"""


def test_a_program_loads_and_runs_with_torch_blocked(tmp_path: Path) -> None:
    operator, case = next((o, c) for o, c in all_cases() if o.name == "conv2d")
    program = build(operator, case, DRAWS[0])
    program.save(tmp_path / "net.unfloat")
    paths = []
    inputs = codes_for(program, 2, "blocked")
    for i, codes in enumerate(inputs):
        paths.append(tmp_path / f"x{i}.npy")
        np.save(paths[-1], codes)
    digest, families = python(
        RUN, str(tmp_path / "net.unfloat"), str(tmp_path / "y.npy"), *map(str, paths)
    ).splitlines()
    assert digest == program.verify().digest
    assert families == "['unfloat.ops.conv']"  # a start pays for the operators that it needs
    assert (np.load(tmp_path / "y.npy") == interpret(program, inputs)[0]).all()


def test_every_mutation_still_finds_its_text() -> None:
    assert [problem for mutation in MUTATIONS if (problem := mutation.problem())] == []


def test_blocking_torch_blocks_it() -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        python("import sys; sys.modules['torch'] = None; import unfloat.quant.backend")
    assert "torch" in error.value.stderr
