"""Does a test notice? Break the arithmetic in one place at a time, in a copy of the tree, and expect red.

Each mutation is one piece of source text replaced by another: a tie that goes the other way, a sign dropped, a tail not
read. A mutation that leaves its tests green has *survived*, and the tests are not worth what they cost.

    python benchmarks/mutate.py [--list] [--only WORD]

Exits with 1 if a mutation survives, and refuses to start if a text to replace is not found exactly once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

ROOT = Path(__file__).parents[1]
TIMEOUT = 300  # seconds for one selection of tests; a mutation may make a loop endless

VECTOR_LEVEL = "avx512vnni"


@dataclass(frozen=True)
class Mutation:
    """One wrong line.

    Attributes:
        name: What is wrong.
        file: Where, from the root of the tree.
        old, new: The text, which must be there exactly once, and what takes its place.
        tests: The test, or file of tests, that has to notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str

    @property
    def native(self) -> bool:
        """Whether the module has to be built again."""
        return self.file.startswith("csrc/")

    @property
    def vector(self) -> bool:
        """Whether only a CPU of that level can tell."""
        return "avx512" in self.file

    def problem(self) -> str:
        """Why it cannot be applied to the tree as it is, or ""."""
        path = ROOT / self.file
        count = path.read_text().count(self.old) if path.is_file() else 0
        return "" if count == 1 else f"{self.file}: {self.old!r} is there {count} times, not once ({self.name})"


def in_file(file: str, tests: str, *wrong: tuple[str, str, str, str]) -> list[Mutation]:
    """Mutations of one file that tests of one file notice: (name, old, new, test or "" for all) each."""
    return [
        Mutation(name, file, old, new, f"tests/spec/test_{tests}.py" + (f"::test_{test}" if test else ""))
        for name, old, new, test in wrong
    ]


LADDER = "tests/conformance/test_ladder.py"
MUTATIONS = [
    Mutation(
        "wide: multiplier truncated",
        "csrc/include/qmath.h",
        "(multiplier + (1 << 15)) >> 16",
        "multiplier >> 16",
        f"{LADDER}::test_ladder",
    ),
    Mutation(
        "4 bits: halves exchanged",
        "csrc/kernels/gemm/avx512vnni_int4.c",
        "(low[i] & 15) | (high[i] & 15) << 4",
        "(high[i] & 15) | (low[i] & 15) << 4",
        f"{LADDER}::test_ladder",
    ),
    Mutation(
        "16 bits: sums never widened",
        "csrc/kernels/words.h",
        "UF_WORD_CHUNK = 256",
        "UF_WORD_CHUNK = 1 << 30",
        "tests/runtime/test_native_build.py::test_native_tests_pass_under_sanitizers",
    ),
    Mutation(
        "resize: ties up",
        "csrc/include/qmath_resize.h",
        "(sum < 0 ? sum - half : sum + half)",
        "(sum + half)",
        f"{LADDER}::test_ladder",
    ),
    Mutation(
        "resize: half a pixel forgotten",
        "src/unfloat/spec/resize.py",
        "scale // 2 - ONE // 2 if half_pixel_centers else 0",
        "0",
        f"{LADDER}::test_ladder",
    ),
    *in_file(
        "src/unfloat/spec/fixedpoint.py",
        "fixedpoint",
        ("high product: ties down", "(a * b + 2**30) >> 31", "(a * b + 2**30 - 1) >> 31", "high_multiplication"),
        ("high product: no saturation", "31, INT32_MIN, INT32_MAX)", "31, INT32_MIN, 2**31)", "high_multiplication"),
        ("division: ties up", "(mask >> 1) + _as_int(x < 0, x)", "mask >> 1", "rounding_division"),
        ("single rounding truncates", "+ ((multiplier * 0 + 1) << (30 - shift))", "", "requantization"),
        (
            "wide: multiplier truncated",
            "(multiplier + 2**15) >> 16",
            "multiplier >> 16",
            "requantization_of_wide_accumulators",
        ),
        ("wide: ties down", "<< (14 - shift))) >>", "<< (14 - shift)) - 1) >>", "requantization_of_wide_accumulators"),
        ("left shift lost", "(accumulator << left, multiplier)", "(accumulator, multiplier)", "requantization"),
        ("factor: no carry", "np.where(carried, 2**30, multiplier)", "multiplier", "multiplier"),
        ("factor: flushed early", "shift < SHIFT_MIN", "shift <= SHIFT_MIN", "multiplier"),
        ("average truncates", "(xp.abs(total) + count // 2) // count", "xp.abs(total) // count", "average"),
        ("mean: factor rounded up", "(multiplier << lift) // count", "-((-multiplier << lift) // count)", "fold_mean"),
        ("exp: a factor off by one", "39332535", "39332536", "exp"),
        ("reciprocal: two Newton steps", "in range(3):", "in range(2):", "one_over_one_plus_x"),
        ("reals: ties to zero", "xp.abs(x - whole) >= 0.5", "xp.abs(x - whole) > 0.5", "round_half_away"),
    ),
    *in_file(
        "src/unfloat/spec/qparams.py",
        "qparams",
        ("zero point from the other end", "low_error < high_error", "low_error > high_error", "from_range"),
        ("border: times 1 / S", "x / qparams.scales(x.ndim)", "x * (1 / qparams.scales(x.ndim))", "quantize"),
        ("border: no saturation", "np.clip(steps, low, high)", "steps", "quantize"),
        ("channel axis", "-1 if d == self.axis else 1", "-1 if d == rank - 1 else 1", ""),
    ),
    *in_file(
        "src/unfloat/spec/numpy_backend.py",
        "backend",
        ("dilation: rows for columns", "i * dilation[0], j * dilation[1]", "i * dilation[1], j * dilation[0]", ""),
    ),
    *in_file(
        "src/unfloat/quant/backend.py",
        "backend",
        ("float32 sums past 2^24", "FLOAT32_EXACT = 2**24", "FLOAT32_EXACT = 2**26", ""),
    ),
    *in_file(
        "src/unfloat/ops/movement.py",
        "meaning",
        ("pad: code 0 for real 0", '"value": output.qparams.zero_point', '"value": 0', ""),
    ),
    *in_file(
        "src/unfloat/ops/linear.py",
        "meaning",
        ("input's zero point dropped", 'centred(inputs[0], attributes["input_zero_point"])', "inputs[0]", ""),
    ),
    *in_file(
        "csrc/include/qmath.h",
        "fixedpoint",
        ("high product: ties down", "1 << 30)) >> 31;", "1 << 30) - 1) >> 31;", "high_multiplication_in_c"),
        ("division: sign term lost", "(mask >> 1) + (x < 0)", "(mask >> 1)", "rounding_division"),
        ("shift 0 goes left", "shift > 0 ? shift : 0;", "shift >= 0 ? shift + !shift : 0;", "requantization_in_c"),
        ("average truncates", "(magnitude + (uint32_t)count / 2)", "magnitude", "average_in_c"),
    ),
    *in_file(
        "csrc/include/qmath.h",
        "qparams",
        ("border: ties to zero", "(rest <= -0.5f) + zero", "(rest < -0.5f) + zero", "quantize_in_c"),
    ),
    *in_file(
        "csrc/include/qmath.h",
        "hard_cases",
        ("upper clamp off by one", "raised > high ? high", "raised > high + 1 ? high", ""),
    ),
    *in_file(
        "csrc/kernels/softmax/differences.h",
        "hard_cases",
        ("one bit less in the sum", "SUM_INTEGER_BITS = 12", "SUM_INTEGER_BITS = 13", "softmax_near_misses"),
    ),
    *in_file(
        "csrc/include/qmath_avx512.h",
        "hard_cases",
        ("sign term lost", "nudged, negative, nudged, sign", "nudged, negative & 0, nudged, sign", ""),
        ("bend lost", "(int32_t)(absorbed->negative_offset - absorbed->offset);", "0;", ""),
    ),
    *in_file(
        "csrc/include/qmath_absorb.h",
        "hard_cases",
        ("shift 0 rounded twice", "twice && right > 31;", "twice && right > 30;", ""),
    ),
    *in_file(
        "csrc/kernels/tile_avx512vnni.h",
        "hard_cases",
        ("channels out of order", "lane % 16 / 4 * 16 + lane / 16 * 4 + lane % 4", "lane", ""),
        ("lower clamp lost", "_mm512_max_epu8(bytes, clamp->low)", "bytes", ""),
    ),
    *in_file(
        "csrc/kernels/gemm/avx512vnni.c",
        "hard_cases",
        ("tail of the depth not read", "return uf_divide_up(shape->depth, 4);", "return (shape->depth + 2) / 4;", ""),
    ),
    *in_file(
        "csrc/kernels/conv2d/indirect.h",
        "hard_cases",
        ("pad value", "(packed, node->params.linear.input_zero_point,", "(packed, 0,", "padding_is_real_zero"),
    ),
]


@dataclass(frozen=True)
class Outcome:
    """What happened to a mutation: "killed", "survived", "skipped" or "error", by what, in how many seconds."""

    verdict: str
    by: str
    seconds: float


class Copy:
    """A copy of the tree that may be broken, with a native module of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for path in _tracked():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, target)
        self.environment = dict(os.environ)
        self._provide_build_tools()

    def _provide_build_tools(self) -> None:
        """What builds the module: normally there; else from the package index, beside the copy."""
        missing = [tool for tool in ("cmake", "ninja") if shutil.which(tool) is None]
        missing += ["nanobind>=2.4"] if importlib.util.find_spec("nanobind") is None else []
        if missing:
            tools = self.root / "build-tools"
            install = ["pip", "install", "--quiet", "--target", str(tools)]
            _call([sys.executable, "-m", *install, *missing], self.environment)
            self.environment["PYTHONPATH"] = str(tools)
            self.environment["PATH"] = os.pathsep.join([str(tools / "bin"), os.environ["PATH"]])

    def build(self) -> None:
        """Build what has changed; little optimisation, since compiling takes longer than the tests."""
        build = self.root / "build"
        if not (build / "build.ninja").exists():
            flags = [f"-DCMAKE_{language}_FLAGS=-O1" for language in ("C", "CXX")]
            options = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=None", f"-DPython_EXECUTABLE={sys.executable}", *flags]
            _call(["cmake", "-S", str(self.root), "-B", str(build), *options], self.environment)
        _call(["cmake", "--build", str(build), "--target", "_native"], self.environment)
        for module in build.glob("_native.*"):
            shutil.copy2(module, self.root / "src/unfloat")

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python on the copy. `-S` keeps out an installed unfloat, whose import hook would come first."""
        packages = [self.root / "src", self.root, *map(sysconfig.get_path, ("purelib", "platlib"))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, packages)), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-S", *arguments]
        return subprocess.run(command, cwd=self.root, env=environment, text=True, capture_output=True, timeout=TIMEOUT)

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a selection of tests until the first failure."""
        return self.python("-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *arguments)

    def levels(self) -> str:
        """The instruction-set levels of this CPU."""
        return self.python("-c", "from unfloat import _native; print(_native.levels())").stdout

    def judge(self, mutation: Mutation) -> Outcome:
        """Apply a mutation, run its tests, undo it."""
        start = time.monotonic()
        path = self.root / mutation.file
        sound = path.read_text()
        path.write_text(sound.replace(mutation.old, mutation.new))
        try:
            if mutation.native:
                self.build()
            run = self.pytest(mutation.tests)
        except subprocess.TimeoutExpired:
            return Outcome("killed", f"no end after {TIMEOUT} s", time.monotonic() - start)
        except subprocess.CalledProcessError as error:
            return Outcome("error", _last_line(error.stderr or error.stdout), time.monotonic() - start)
        finally:
            path.write_text(sound)
        first = re.search(r"^FAILED (\S+?)(?:\[| -|$)", run.stdout, re.MULTILINE)
        verdict = {0: "survived", 1: "killed"}.get(run.returncode, "error")
        by = first[1].split("::")[-1] if first else _last_line(run.stdout + run.stderr)
        return Outcome(verdict, by, time.monotonic() - start)


def _tracked() -> list[Path]:
    """The files of the tree, changes and new files included; nothing that is ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (ROOT / (path := Path(name))).is_file()]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _call(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, env=environment)


def check_green(copy: Copy, mutations: list[Mutation]) -> None:
    """A test that fails anyway kills nothing."""
    run = copy.pytest(*sorted({mutation.tests for mutation in mutations}))
    if run.returncode != 0:
        raise SystemExit(f"tests fail without any mutation:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")


def judge_all(mutations: list[Mutation], console: Console) -> list[tuple[Mutation, Outcome]]:
    """Every mutation's outcome, one after the other in one copy."""
    columns = (SpinnerColumn(), TextColumn("{task.completed}/{task.total} {task.description}"), TimeElapsedColumn())
    outcomes = []
    folders = tempfile.TemporaryDirectory(prefix="unfloat-mutate-")
    with folders as folder, Progress(*columns, console=console) as progress:
        task = progress.add_task("building a copy of the tree", total=len(mutations))
        copy = Copy(Path(folder))
        copy.build()
        progress.update(task, description="running its tests unbroken")
        check_green(copy, mutations)
        levels = copy.levels()
        for mutation in mutations:
            progress.update(task, description=mutation.name)
            able = not mutation.vector or VECTOR_LEVEL in levels
            outcome = copy.judge(mutation) if able else Outcome("skipped", f"this CPU has no {VECTOR_LEVEL}", 0)
            outcomes.append((mutation, outcome))
            progress.advance(task)
    return outcomes


def table(outcomes: list[tuple[Mutation, Outcome]]) -> Table:
    """What became of each."""
    colours = {"killed": "green", "skipped": "yellow"}
    result = Table("mutation", "file", "verdict", "by", title="Mutations")
    result.add_column("seconds", justify="right")
    for mutation, outcome in outcomes:
        verdict = f"[{colours.get(outcome.verdict, 'red')}]{outcome.verdict}[/]"
        result.add_row(mutation.name, mutation.file, verdict, outcome.by, f"{outcome.seconds:.1f}")
    return result


def main() -> int:
    """Run the mutations that the command line asks for."""
    parser = argparse.ArgumentParser(description="Break the arithmetic in one place at a time and expect red tests.")
    parser.add_argument("--only", default="", metavar="WORD", help="mutations whose name or file holds WORD")
    parser.add_argument("--list", action="store_true", help="name the mutations and stop")
    arguments = parser.parse_args()
    chosen = [m for m in MUTATIONS if arguments.only in m.name or arguments.only in m.file]
    console = Console()
    if arguments.list or not chosen:
        names = "\n".join(f"{m.name}  [dim]{m.file}[/]" for m in chosen)
        console.print(names or f"no mutation holds {arguments.only!r}")
        return 0 if chosen else 2
    if problems := [problem for m in chosen if (problem := m.problem())]:
        raise SystemExit("\n".join(problems))
    outcomes = judge_all(chosen, console)
    console.print(table(outcomes))
    alive = [m.name for m, outcome in outcomes if outcome.verdict in ("survived", "error")]
    console.print(f"[red]not killed: {', '.join(alive)}[/]" if alive else f"[green]no survivor of {len(outcomes)}[/]")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
