"""Random `.tflite` files of one operator by the public converter: interpreter and engine against a public runtime.

    python -m benchmarks.conformance.converted [--models 500] [--as-is] [OPERATOR ...]

PyTorch modules of one operator become files by litert-torch and litert-quantizer, in an environment of their own
(`benchmarks/peers/write_converted.py`); a file takes a tenth of a second. What they make of a module may be other
operators: the page says which. Files are kept under `build/converted`, so that the next run goes on from there;
--as-is makes no more.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import results
from benchmarks.peers.environments import HERE, python
from tests.conformance.generate import codes_for
from tests.formats.one_operator.kinds import SAMPLES, Job, compared
from tests.peers.call import peer

from unfloat.formats.tflite.decode import decode
from unfloat.formats.tflite.read import from_bytes
from unfloat.spec.errors import InvalidProgramError, UnsupportedError

FOLDER = Path(__file__).parents[2] / "build" / "converted"
COLUMNS = (
    "asked for", "codes", "operators in the files", "files", "read", "in TFLM", "in LiteRT", "outputs compared",
    "mismatches",
)  # fmt: skip
REFUSED = b"refused: "


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
        codes = codes_for(program, SAMPLES, name)
        found.jobs.append(Job(content, program, codes, codes))
    return found


def reason_of(error: UnsupportedError | InvalidProgramError) -> str:
    """Why a file is not read, without its place and numbers."""
    said = error.problems[0] if isinstance(error, UnsupportedError) else str(error)
    return re.sub(r",? found [^:;]*", "", said.split(": ", 1)[-1])


def measure(name: str, dtype: str, models: int) -> tuple[list[object], Counter[str]]:
    """A row, and what could not be read. Who is no operator of TensorFlow Lite Micro is asked of LiteRT."""
    paths = [FOLDER / f"{name}_{dtype}_{index}.tflite" for index in range(models)]
    found = read([path for path in paths if path.exists()])
    answers = peer("tflm")([(job.file, job.asked) for job in found.jobs])
    known = [(job, answer) for job, answer in zip(found.jobs, answers, strict=True) if not isinstance(answer, str)]
    others = [job for job, answer in zip(found.jobs, answers, strict=True) if isinstance(answer, str)]
    outcomes = [
        compared([job for job, _ in known], [answer for _, answer in known]),
        compared(others, peer("litert")([(job.file, job.asked) for job in others])),
    ]
    wrong = [line for outcome in outcomes for line in outcome.wrong]
    for line in wrong:
        print(f"{name} {dtype}: {line}")
    builtins = ", ".join(f"`{builtin}`" for builtin, _ in found.builtins.most_common())
    counts = [found.made, len(found.jobs), len(known), len(others)]
    return [f"`{name}`", dtype, builtins, *counts, f"{sum(o.codes for o in outcomes):,}", len(wrong)], found.problems


def write(models: int, operators: Sequence[str]) -> None:
    """Write the files that are missing."""
    command = [python("converter"), HERE / "write_converted.py", FOLDER, str(models), *operators]
    with (FOLDER.parent / "converted.log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True)


def main() -> None:
    """Write what files are missing, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operators", nargs="*")
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--as-is", action="store_true")
    arguments = parser.parse_args()
    if not arguments.as_is:
        write(arguments.models, arguments.operators)
    names = arguments.operators or sorted({path.name.rsplit("_", 2)[0] for path in FOLDER.glob("*_*_0.tflite")})
    rows, problems = [], Counter[str]()
    for name in names:
        for dtype in ("int8", "int16"):
            row, own = measure(name, dtype, arguments.models)
            rows.append(row)
            problems.update({f"`{name}` {dtype}: {reason}": count for reason, count in own.items()})
    notes = [
        f"Each file runs on {SAMPLES} samples of random codes; every output code is compared, of interpreter and engine.",
        "What TensorFlow Lite Micro (TFLM) does not know is asked of LiteRT's reference kernels. Files that are not read,",
        "because the converter left them partly in float, or their output's range is so small that a sum could overflow:",
        "",
        *(f"- {count}: {reason}" for reason, count in sorted(problems.items())),
    ]
    results.write("converted", "Random files of one operator, by the public converter", COLUMNS, rows, notes)


if __name__ == "__main__":
    main()
