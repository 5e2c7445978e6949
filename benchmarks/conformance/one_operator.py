"""Random `.tflite` files of one operator, as others may make them: interpreter and engine against a public runtime.

    python -m benchmarks.conformance.one_operator [--models 500] [--fresh] [OPERATOR ...]

Shapes, options, activations, scales, zero points and weights per channel or per tensor are drawn by
`tests/formats/one_operator`, whose few files run in `make test`. An operator takes a minute. What was measured is kept,
the page shows it, and the next run goes on from there, unless --fresh asks for its operators anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import results
from tests.formats.one_operator.kinds import KINDS, SAMPLES, job, outcomes, witness_of
from tqdm import tqdm

FOUND = Path(__file__).parents[2] / "build" / "one_operator" / "found.json"
RUNTIMES = {"tflm": "TFLM", "litert": "LiteRT"}
COLUMNS = ("operator", "codes", "against", "models", "outputs compared", "mismatches", "commit")


def measure(name: str, dtype: str, models: int) -> dict[str, Any]:
    """One row."""
    key = (name, dtype)
    found = outcomes({key: [job(name, dtype, index) for index in range(models)]})[key]
    for line in found.wrong:
        print(f"{name} {dtype}: {line}", file=sys.stderr)
    counts = (models, f"{found.codes:,}", len(found.wrong))
    row = (f"`{name}`", dtype, RUNTIMES[witness_of(key)], *counts, results.commit())
    return dict(zip(COLUMNS, row, strict=True))


def write_page(found: dict[str, dict[str, Any]]) -> None:
    """What has been measured, in the order of the kinds."""
    order = [f"{name}/{dtype}" for name, kind in KINDS.items() for dtype in kind.witnesses]
    notes = [
        f"A model is a file of one operator, read, and run on {SAMPLES} samples in interpreter and engine; mismatches count",
        "the models of which one of the two differs from the public runtime in any code, or which that refuses. `SHAPE`",
        "is folded into a `RESHAPE`; `DEQUANTIZE` stands at the border, behind a `QUANTIZE` of real numbers.",
        "",
        "TFLM is TensorFlow Lite Micro; LiteRT's reference kernels are asked where it does not know the operator or the",
        "width. Two of TFLM's kernels are not what their files mean: `RELU6` does not look at its output's own label, and",
        "`SPACE_TO_BATCH_ND` borders with code 0 where real 0 has another one. There LiteRT's bits are read. Codes of uint8",
        "are LiteRT's alone. It rounds their `FULLY_CONNECTED` once, where TFLite's integer kernels round twice, as here:",
        "`tests/formats/test_tflite_builtins.py` holds that nothing else differs.",
    ]
    rows = [[found[key][column] for column in COLUMNS] for key in order if key in found]
    results.write("one_operator", "Random files of one operator", COLUMNS, rows, notes)


def main() -> None:
    """Measure what is missing, add it to what was found before, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operators", nargs="*", default=[*KINDS])
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--fresh", action="store_true")
    arguments = parser.parse_args()
    FOUND.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    for name in tqdm(arguments.operators, disable=not sys.stderr.isatty()):
        for dtype in KINDS[name].witnesses:
            key = f"{name}/{dtype}"
            if arguments.fresh or found.get(key, {}).get("models", 0) < arguments.models:
                found[key] = measure(name, dtype, arguments.models)
                FOUND.write_text(json.dumps(found, indent=1))
    write_page(found)


if __name__ == "__main__":
    main()
