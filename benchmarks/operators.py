"""Writes docs/operators.md: what is read from PyTorch and from TensorFlow Lite, and what a Program is made of.

python -m benchmarks.operators
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from unfloat.formats.c.table import EMITTERS
from unfloat.formats.tflite.table import READERS, WRITERS
from unfloat.formats.torch.table import TABLE
from unfloat.ops import REGISTRY

PAGE = Path(__file__).parents[1] / "docs" / "operators.md"

OPENING = """\
# Operators

`python -m benchmarks.operators` writes this page from the tables that the readers and writers use.

## Read from PyTorch

A model is traced by `torch.export`; these operators of the graph are read, under their names in `torch.ops.aten`, those
that work in place too. What they cannot say of them in integers (a batch that is not dimension 0, a kernel that depends
on data) is an error that names the line of the model. All that is unknown is reported at once.
"""

REFUSED = """
Not read, among others: `layer_norm`, `group_norm` and `instance_norm` (train with BatchNorm), `gru` and plain recurrent
layers (with LSTM), `masked_fill` and `where` (add a mask of finite numbers, multiply by one of 0 and 1),
`scaled_dot_product_attention` with a mask (add it before a softmax, -20 for minus infinity), transposed convolutions of
several groups, and outputs in a structure within a structure.
"""

TFLITE = """
## Read from TensorFlow Lite

Of integer files, whose arithmetic stays that of the file, and, to be quantized, of files in float32:
"""

PROGRAMS = """
## Instructions of a Program

Their arithmetic is [numerics.md](numerics.md). Each runs in the engine and can be exported to `.tflite` and to C, unless it
says otherwise. "Codes" are those of what goes in and comes out.

| instruction | what it is | codes |
|---|---|---|
"""


def _names(names: Iterable[str]) -> str:
    text = ", ".join(f"`{name}`" for name in sorted(names))
    return "\n" + textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def _lacks(name: str) -> str:
    exports = ((".tflite", WRITERS), ("C", EMITTERS))
    return "".join(f" Not in {export}." for export, table in exports if name not in table)


def page() -> str:
    """The page's text."""
    rows = [
        f"| `{operator.name}` | {operator.summary}{_lacks(operator.name)} | {', '.join(operator.storages)} |\n"
        for operator in sorted(REGISTRY.values(), key=lambda operator: operator.name)
        if operator.integer_meaning is not None
    ]
    return "".join([OPENING, _names(TABLE), REFUSED, TFLITE, _names(READERS), PROGRAMS, *rows])


if __name__ == "__main__":
    PAGE.write_text(page())
