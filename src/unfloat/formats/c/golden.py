"""`<name>_golden.c`: inputs and the interpreter's outputs; `main.c`: checks every network of the folder on them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from unfloat.formats.c.header import count, ctype
from unfloat.formats.c.net import Net
from unfloat.formats.c.text import identifier
from unfloat.ir.graph import Port
from unfloat.program.interpret import Memory, interpret
from unfloat.spec.qparams import STORAGE

_GOLDEN = """\
// {name}: inputs, and the outputs that Unfloat's interpreter computes. Written by Unfloat.

#include "{name}.h"

{data}
int {name}_golden(void *arena);

// How many codes differ; below 0 if the network refuses to run.
int {name}_golden(void *arena) {{
  int mismatches = 0;
{reset}  for (int sample = 0; sample < {samples}; ++sample) {{
    const {name}_inputs inputs = {{{inputs}}};
    {name}_outputs outputs = {{{outputs}}};
    const int status = {name}_run(arena, &inputs, &outputs);
    if (status != {upper}_OK) return -status;
{checks}
  }}
  return mismatches;
}}
"""

_MAIN = """\
// Runs each network of this folder on its golden inputs, all in one arena: PASS if every code is the interpreter's.

#include <stdint.h>
#include <stdio.h>

{includes}
{declarations}
static union {{
  int64_t alignment;
{arenas}
}} arena;

static int check(const char *name, int mismatches) {{
  printf("%s: %s (%d)\\n", name, mismatches == 0 ? "PASS" : "FAIL", mismatches);
  return mismatches != 0;
}}

int main(void) {{
  int failures = 0;
{checks}
  printf(failures == 0 ? "PASS\\n" : "FAIL\\n");
  return failures == 0 ? 0 : 1;
}}
"""


def golden(net: Net, inputs: Sequence[np.ndarray]) -> str:
    """The text of `<name>_golden.c`; the codes are the samples of each input."""
    outputs = [np.ascontiguousarray(o) for o in _answers(net, inputs)]
    given = [_rows(net, f"in_{n}", p, codes) for (n, p), codes in zip(net.inputs.items(), inputs, strict=True)]
    wanted = [_rows(net, f"out_{n}", p, codes) for (n, p), codes in zip(net.outputs.items(), outputs, strict=True)]
    found = [f"static {ctype(net, p)} {_symbol(net, f'found_{n}')}[{count(net, p)}];\n" for n, p in net.outputs.items()]
    checks = [
        f"    for (int i = 0; i < {count(net, p)}; ++i) {{\n"
        f"      mismatches += {_symbol(net, f'found_{n}')}[i] != {_symbol(net, f'out_{n}')}[sample][i];\n    }}"
        for n, p in net.outputs.items()
    ]
    return _GOLDEN.format(
        name=net.name,
        upper=net.name.upper(),
        samples=len(inputs[0]),
        reset=f"  {net.name}_reset();\n" if net.remembers else "",
        data="\n".join([*given, *wanted, *found]),
        inputs=", ".join(f".{n} = {_symbol(net, f'in_{n}')}[sample]" for n in net.inputs),
        outputs=", ".join(f".{n} = {_symbol(net, f'found_{n}')}" for n in net.outputs),
        checks="\n".join(checks),
    )


def draw(net: Net, samples: int) -> list[np.ndarray]:
    """Random codes that depend on the names alone, extremes and the zero point over-represented."""
    found = []
    for name, port in net.inputs.items():
        rng = np.random.default_rng(zlib.crc32(f"{net.name}/{identifier(name)}".encode()))
        label = net.program.tensors[port.value].qparams
        shape = (samples, *port.shape[1:])
        special = rng.choice([label.qmin, label.qmax, label.zero_point], shape)
        rows = net.rows.get(port.value)
        low, high = (label.qmin, label.qmax) if rows is None else (-rows, rows - 1)
        codes = rng.integers(low, high + 1, shape)
        found.append(np.where(rng.random(shape) < 0.1, special, codes).astype(STORAGE[label.dtype]))
    return found


def main(names: Sequence[str]) -> str:
    """The text of `main.c` for these networks."""
    return _MAIN.format(
        includes="".join(f'#include "{name}.h"\n' for name in names),
        declarations="".join(f"int {name}_golden(void *arena);\n" for name in names),
        arenas="\n".join(f"  uint8_t of_{name}[{name.upper()}_ARENA_BYTES];" for name in names),
        checks="\n".join(f'  failures += check("{name}", {name}_golden(&arena));' for name in names),
    )


def _answers(net: Net, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of runs in a row, each of one sample."""
    memory: Memory = {}
    runs = [interpret(net.program, [x[i : i + 1] for x in inputs], memory) for i in range(len(inputs[0]))]
    return [np.concatenate(codes) for codes in zip(*runs, strict=True)]


def _symbol(net: Net, what: str) -> str:
    return f"{net.name}_golden_{what}"


def _rows(net: Net, what: str, port: Port, codes: np.ndarray) -> str:
    rows = ",\n".join("    {" + ", ".join(map(str, row.ravel().tolist())) + "}" for row in codes)
    kind, size = ctype(net, port), count(net, port)
    return f"static const {kind} {_symbol(net, what)}[{len(codes)}][{size}] = {{\n{rows},\n}};\n"
