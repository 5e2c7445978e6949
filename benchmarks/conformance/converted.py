"""Random `.tflite` files by the public converters: interpreter and engine against a public runtime.

    python -m benchmarks.conformance.converted [--by torch|keras] [--models 500] [--as-is] [NAME ...]

PyTorch modules of one operator become files by litert-torch and litert-quantizer, Keras' layers and networks by
TensorFlow's converter, each in an environment of its own (`benchmarks/peers/write_converted.py`, `write_keras.py`); a
file takes a tenth of a second, or half of one. What they make of a module may be other operators: the page says which.
Of real numbers too in Keras' case: what the file means here is then compared with what it gives there.
Files are kept under `build/converted`, so that the next run goes on from there; --as-is makes no more. So is what was
found: a run measures the names it is given, or all, and the page has a commit for each.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmarks import results
from benchmarks.peers.environments import HERE, python
from tests.conformance.generate import codes_for, in_rows
from tests.formats.one_operator.kinds import SAMPLES, Job, compared
from tests.passes.evaluate import evaluate
from tests.peers.call import peer

from unfloat.formats.tflite.decode import decode
from unfloat.formats.tflite.read import from_bytes
from unfloat.formats.tflite.read_float import read as read_float
from unfloat.ir.graph import Graph
from unfloat.ops._indices import rows_by_index
from unfloat.spec.errors import InvalidProgramError, UnsupportedError

FOLDER = Path(__file__).parents[2] / "build" / "converted"


class Converter(NamedTuple):
    """Who writes files.

    Attributes:
        environment: Its packages, see `benchmarks/peers`.
        script: What writes there.
        page: Of the results.
        title: The page's.
    """

    environment: str
    script: str
    page: str
    title: str


CONVERTERS = {
    "torch": Converter(
        "converter", "write_converted.py", "converted", "Random files of one operator, by PyTorch's public converter"
    ),
    "keras": Converter("keras", "write_keras.py", "converted_keras", "Files of Keras' layers and networks"),
}
COLUMNS = (
    "asked for", "codes", "operators in the files", "files", "read", "in TFLM", "in LiteRT", "by its default kernels",
    "outputs compared", "mismatches", "commit",
)  # fmt: skip
RUNTIMES = ("tflm", "litert", "xnnpack")
REFUSED = b"refused: "
MOST_GAP = 1e-4  # of a file of real numbers before it is named


class Read(NamedTuple):
    """Files of one operator and width.

    Attributes:
        made: How many the converter made.
        builtins: What is in them, and in how many.
        jobs: Those that could be read.
        problems: Why others could not, and how often.
    """

    made: int
    builtins: Counter[str]
    jobs: list[Job]
    problems: Counter[str]


def read(paths: Sequence[Path]) -> Read:
    """Read the converter's files."""
    made = {path.stem: content for path in paths if not (content := path.read_bytes()).startswith(REFUSED)}
    found = Read(len(made), Counter(), [], Counter())
    for name, content in made.items():
        found.builtins.update({operator.builtin for operator in decode(content).operators})
        try:
            program = from_bytes(content)
        except (UnsupportedError, InvalidProgramError) as error:
            found.problems[reason_of(error)] += 1
            continue
        codes = in_rows(program, codes_for(program, SAMPLES, name))
        found.jobs.append(Job(content, program, codes, codes))
    return found


def reason_of(error: UnsupportedError | InvalidProgramError) -> str:
    """Why a file is not read, without its place and numbers."""
    said = error.problems[0] if isinstance(error, UnsupportedError) else str(error)
    return re.sub(r",? found [^:;]*", "", said.split(": ", 1)[-1])


def measure(name: str, dtype: str, paths: Sequence[Path]) -> tuple[list[object], Counter[str]]:
    """A row, and what could not be read. What a runtime does not know is asked of the next one."""
    found = read(paths)
    left, counts, codes, wrong = found.jobs, [], 0, []
    for runtime in RUNTIMES:
        answers = peer(runtime)([(job.file, job.asked) for job in left])
        pairs = list(zip(left, answers, strict=True))
        known = [(job, answer) for job, answer in pairs if runtime == RUNTIMES[-1] or not isinstance(answer, str)]
        outcome = compared([job for job, _ in known], [answer for _, answer in known])
        left = [job for job, answer in pairs if isinstance(answer, str)]
        counts.append(len(known))
        codes += outcome.codes
        wrong += outcome.wrong
    for line in wrong:
        print(f"{name} {dtype}: {line}")
    ordered = sorted(found.builtins, key=lambda builtin: (-found.builtins[builtin], builtin))
    builtins = ", ".join(f"`{builtin}`" for builtin in ordered)
    row = [f"`{name}`", dtype, builtins, found.made, len(found.jobs), *counts, f"{codes:,}", len(wrong)]
    return [*row, results.commit()], found.problems


def measure_all(name: str, folder: Path, models: int) -> dict[str, Any]:
    """All widths of a name, as plain data: rows, the line of its files of real numbers, what could not be read."""
    rows, problems, floats = [], Counter[str](), ""
    for dtype in ("int8", "int16"):
        row, own = measure(name, dtype, written(folder, name, dtype, models))
        rows.append(row)
        problems.update({f"`{name}` {dtype}: {reason}": count for reason, count in own.items()})
    paths = written(folder, name, "float", models)
    if paths:
        count, gap, own = float_gap(paths)
        floats = f"| `{name}` | {len(paths)} | {count} | {gap:.1e} |"
        problems.update({f"`{name}` of real numbers: {reason}": count for reason, count in own.items()})
    return {"rows": rows, "floats": floats, "problems": problems}


def float_gap(paths: Sequence[Path]) -> tuple[int, float, Counter[str]]:
    """Of files of real numbers: how many are read, the largest difference from LiteRT, why others are not read.

    A difference is that of an output as a share of its largest value, on one random sample.
    """
    graphs, problems = [], Counter[str]()
    for path in paths:
        if not path.read_bytes().startswith(REFUSED):
            try:
                graphs.append((path, read_float(path)))
            except (UnsupportedError, InvalidProgramError) as error:
                problems[reason_of(error)] += 1
    rng = np.random.default_rng(0)
    inputs = [sample(g, rng) for _, g in graphs]
    answers = peer("litert")([(path.read_bytes(), x) for (path, _), x in zip(graphs, inputs, strict=True)])
    gaps = [0.0]
    for (path, graph), x, theirs in zip(graphs, inputs, answers, strict=True):
        if isinstance(theirs, str):
            problems[f"in LiteRT: {theirs}"] += 1
            continue
        for own, public in zip(evaluate(graph, {}, x), theirs, strict=True):
            gaps.append(float(np.abs(own - public.reshape(own.shape)).max() / max(np.abs(own).max(), 1e-3)))
            if gaps[-1] > MOST_GAP:
                print(f"{path.name}: {gaps[-1]}")
    return len(graphs), max(gaps), problems


def sample(graph: Graph, rng: np.random.Generator) -> list[np.ndarray]:
    """Random real numbers for each input; rows where it chooses some."""
    rows = rows_by_index(graph.nodes, graph.shapes())
    return [
        rng.integers(0, rows[p.value], (1, *p.shape[1:])).astype(np.int16)
        if p.value in rows
        else rng.normal(0, 1, (1, *p.shape[1:])).astype(np.float32)
        for p in graph.inputs
    ]


def written(folder: Path, name: str, width: str, models: int) -> list[Path]:
    """The first so many files of a name that are there."""
    paths = (folder / f"{name}_{width}_{index}.tflite" for index in range(models))
    return [path for path in paths if path.exists()]


def write(by: Converter, folder: Path, models: int, names: Sequence[str]) -> None:
    """Write the files that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [python(by.environment), HERE / by.script, folder, str(models), *names]
    with folder.with_suffix(".log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True)


def main() -> None:
    """Write what files are missing, measure, add it to what was found before, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--by", choices=[*CONVERTERS], default="torch")
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--as-is", action="store_true")
    arguments = parser.parse_args()
    by, folder = CONVERTERS[arguments.by], FOLDER / arguments.by
    if not arguments.as_is:
        write(by, folder, arguments.models, arguments.names)
    kept = folder.with_suffix(".json")
    found: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name in arguments.names or sorted({path.name.rsplit("_", 2)[0] for path in folder.glob("*_*_0.tflite")}):
        found[name] = measure_all(name, folder, arguments.models)
        kept.write_text(json.dumps(found, indent=1))
    ordered = [found[name] for name in sorted(found)]
    problems = Counter({reason: count for own in ordered for reason, count in own["problems"].items()})
    floats = [own["floats"] for own in ordered if own["floats"]]
    rows = [row for own in ordered for row in own["rows"]]
    results.write(by.page, by.title, COLUMNS, rows, _notes(floats, problems))


def _notes(floats: Sequence[str], problems: Counter[str]) -> list[str]:
    table = [
        "Files of real numbers, read for quantizing and run in float64; the largest difference from LiteRT's outputs, as a",
        "share of their largest value. A bilinear resize takes steps of 1/1024 of a cell, as its integers do:",
        "",
        "| layer | files | read | difference |",
        "| --- | --- | --- | --- |",
        *floats,
        "",
    ]
    return [
        f"Each file runs on {SAMPLES} samples of random codes; every output code is compared, of interpreter and engine.",
        "What TensorFlow Lite Micro (TFLM) does not know is asked of LiteRT's reference kernels, and what those do not,",
        "`TILE` of version 3, of its default ones.",
        "",
        *(table if floats else ()),
        "Files that are not read, because the converter left them partly in float, or their output's range is so small that",
        "a sum could overflow, or for another reason that is given:",
        "",
        *(f"- {count}: {reason}" for reason, count in sorted(problems.items())),
    ]


if __name__ == "__main__":
    main()
