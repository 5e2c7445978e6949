"""`<name>.h`: what a firmware sees of a network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from unfloat.formats.c.manifest import Network
from unfloat.formats.c.net import ALIGNMENT, Net
from unfloat.formats.c.text import CTYPES
from unfloat.ir.graph import Port

_TEMPLATE = """\
// {name}: an integer-only network in C99, written by Unfloat.
//
// Codes in, codes out, NHWC: real = scale * (code - zero_point). Nothing is allocated and nothing computes in floating
// point; scales are text for the host. A run keeps nothing in the arena, so several networks may share one.

#ifndef {guard}
#define {guard}

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_ARENA_BYTES {arena}
#define {upper}_ARENA_ALIGNMENT {alignment}
#define {upper}_WEIGHT_BYTES {weights}
#define {upper}_STATE_BYTES {states}
#define {upper}_MACS {macs}
#define {upper}_IDENTITY "{identity}"  // as in the Program's certificate

{macros}
// What is read and written; shapes without the batch, which is 1.
typedef struct {{
{inputs}
}} {name}_inputs;

typedef struct {{
{outputs}
}} {name}_outputs;

typedef enum {{
  {upper}_OK = 0,
  {upper}_NULL_POINTER = 1,
  {upper}_ARENA_MISALIGNED = 2,
  {upper}_ARENA_TOO_SMALL = 3,
}} {name}_status;

// Runs the network in an arena of {upper}_ARENA_BYTES. Returns {upper}_OK or why nothing was done.
int {name}_run(void *arena, const {name}_inputs *inputs, {name}_outputs *outputs);

// The same in an arena of so many bytes, which may be more.
int {name}_run_in(void *arena, size_t arena_bytes, const {name}_inputs *inputs, {name}_outputs *outputs);
{reset}{accessors}{picture}
#ifdef __cplusplus
}}
#endif

#endif  // {guard}
"""

_RESET = """
// Forgets the runs before: the next one begins anew, as the first does.
void {name}_reset(void);
"""

_ACCESSORS = """
// Where inputs and outputs lie inside the arena. An input written there, and an output read there, needs no memory of
// its own: give run these very addresses. An input is gone after a run, an output at the next use of the arena.
"""


def header(net: Net, about: Network, picture: str) -> str:
    """The header's text; `picture` declares what loads pictures, or is empty."""
    upper = net.name.upper()
    macros = [line for side in ("INPUT", "OUTPUT") for line in _macros(net, side)]
    accessors = [_accessor(net, "input", n, p) for n, p in net.own(net.inputs)]
    accessors += [_accessor(net, "output", n, p) for n, p in net.own(net.outputs)]
    return _TEMPLATE.format(
        name=net.name,
        upper=upper,
        guard=f"{upper}_NETWORK_H_",
        arena=about.arena_bytes,
        alignment=ALIGNMENT,
        weights=about.weight_bytes,
        macs=about.macs,
        identity=about.identity,
        states=about.state_bytes,
        reset=_RESET.format(name=net.name) if net.remembers else "",
        macros="\n".join(macros),
        inputs=_members(net, net.inputs, "const "),
        outputs=_members(net, net.outputs, ""),
        accessors=_ACCESSORS + "".join(accessors) if accessors else "",
        picture=picture,
    )


def ctype(net: Net, port: Port) -> str:
    """The C type of a port's codes."""
    return CTYPES[net.program.tensors[port.value].qparams.dtype]


def sizes(net: Net, port: Port) -> tuple[int, ...]:
    """A port's shape in C: a sample's, or all of a constant's."""
    tensor = net.program.tensors[port.value]
    return tensor.shape[1:] if tensor.data is None else tensor.data.shape[1:]


def count(net: Net, port: Port) -> int:
    """How many codes a port has."""
    return math.prod(sizes(net, port))


def _macros(net: Net, side: str) -> Iterator[str]:
    for name, port in (net.inputs if side == "INPUT" else net.outputs).items():
        label = net.program.tensors[port.value].qparams
        prefix = f"#define {net.name.upper()}_{side}_{name.upper()}"
        yield f"{prefix}_SHAPE {{{', '.join(map(str, sizes(net, port)))}}}"
        yield f"{prefix}_COUNT {count(net, port)}"
        yield f"{prefix}_SCALE {np.format_float_scientific(np.float32(label.scale[0]), unique=True)}"
        yield f"{prefix}_ZERO_POINT ({label.zero_point})"
        if side == "INPUT" and port.value in net.rows:
            yield f"{prefix}_ROWS {net.rows[port.value]}  // each number names one of them, from 0 on, or below 0 from the end"
        yield ""


def _members(net: Net, side: Mapping[str, Port], qualifier: str) -> str:
    lines = (
        f"  {qualifier}{ctype(net, port)} *{name};  // [{']['.join(map(str, sizes(net, port)))}]"
        for name, port in side.items()
    )
    return "\n".join(lines)


def _accessor(net: Net, side: str, name: str, port: Port) -> str:
    kind, offset = ctype(net, port), net.memory.offsets[port.value]
    return (
        f"static inline {kind} *{net.name}_{side}_{name}(void *arena) {{\n"
        f"  return ({kind} *)(void *)((uint8_t *)arena + {offset});\n}}\n"
    )
