"""`<name>.c` and `<name>_weights.c`: a function for each layer, which fills its kernel's node and calls the kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from unfloat.formats.c.header import count, ctype
from unfloat.formats.c.layer import Layer, Parameters, byte_offset
from unfloat.formats.c.net import Net
from unfloat.formats.c.text import Value, array, comment, declaration, initialiser
from unfloat.ir.graph import Port
from unfloat.ir.instruction import Tensor
from unfloat.spec.qparams import STORAGE

_TEMPLATE = """\
// {name}: its layers, in order. Written by Unfloat; the kernels are those of the folder `kernels`.

#include "{name}.h"

#include <string.h>

#include "kernel.h"

{declarations}
{states}{border}
{layers}
int {name}_run_in(void *arena, size_t arena_bytes, const {name}_inputs *inputs, {name}_outputs *outputs) {{
  uint8_t *const base = arena;
  if (arena == NULL || inputs == NULL || outputs == NULL) return {upper}_NULL_POINTER;
{missing}
  if ((uintptr_t)arena % {upper}_ARENA_ALIGNMENT != 0) return {upper}_ARENA_MISALIGNED;
  if (arena_bytes < {upper}_ARENA_BYTES) return {upper}_ARENA_TOO_SMALL;
{steps}
  return {upper}_OK;
}}

int {name}_run(void *arena, const {name}_inputs *inputs, {name}_outputs *outputs) {{
  return {name}_run_in(arena, {upper}_ARENA_BYTES, inputs, outputs);
}}
{picture}"""

_FLIP = """\
// Between int8 codes and the bytes, code + 128, that kernels see. Both ends may be the same.
static void {name}_flip(void *to, const void *from, size_t count) {{
  uint8_t *bytes = to;
  const uint8_t *source = from;
  for (size_t i = 0; i < count; ++i) bytes[i] = source[i] ^ 0x80;
}}
"""


def network(net: Net, picture: str) -> str:
    """The text of `<name>.c`; `picture` defines what loads pictures, or is empty."""
    ports = [*net.inputs.items(), *net.outputs.items()]
    kernels = "".join(f"void {kernel}_run(const uf_node *node);\n" for kernel in net.kernels)
    arrays = "".join(declaration(symbol, values) for symbol, values in net.constants.items())
    members = [f"inputs->{name}" for name in net.inputs] + [f"outputs->{name}" for name in net.outputs]
    flips = any(ctype(net, port) == "int8_t" for _, port in ports)
    return _TEMPLATE.format(
        name=net.name,
        upper=net.name.upper(),
        declarations=f"{kernels}\n{arrays}",
        states=_states(net),
        border=_FLIP.format(name=net.name) if flips else "",
        layers="\n".join(_layer(net, *pair) for pair in zip(net.layers, net.parameters, strict=True)),
        missing="\n".join(f"  if ({member} == NULL) return {net.name.upper()}_NULL_POINTER;" for member in members),
        steps="\n".join(f"  {step}" for step in _steps(net)),
        picture=picture,
    )


def weights(net: Net) -> str:
    """The text of `<name>_weights.c`."""
    body = "\n".join(f"{declaration(s, values)}{array(s, values)}" for s, values in net.constants.items())
    return f"// {net.name}: its constants. Written by Unfloat.\n\n#include <stdint.h>\n\n{body}"


def _states(net: Net) -> str:
    """What runs leave to the next one, and what forgets it."""
    if not net.states:
        return ""
    arrays = "".join(f"static int16_t {symbol}[{size // 2}];\n" for symbol, size in net.states.items())
    clears = "".join(f"  memset({symbol}, 0, sizeof {symbol});\n" for symbol in net.states)
    reset = f"\nvoid {net.name}_reset(void) {{\n{clears}}}\n" if net.remembers else ""
    return f"// Memory of layers, all 0 at the start.\n{arrays}{reset}\n"


def _steps(net: Net) -> Iterator[str]:
    for name, port in net.inputs.items():
        yield _move(net, port, _place(net, port.value, "base"), f"inputs->{name}")
    for layer in net.layers:
        yield f"{_function(net, layer)}(base);"
    for name, port in net.outputs.items():
        yield _move(net, port, f"outputs->{name}", _place(net, port.value, "base"))


def _move(net: Net, port: Port, target: str, source: str) -> str:
    label, codes = net.program.tensors[port.value].qparams, count(net, port)
    if byte_offset(label):
        return f"{net.name}_flip({target}, {source}, {codes});"
    return f"memmove({target}, {source}, {codes * STORAGE[label.dtype].itemsize});"


def _place(net: Net, value: str, arena: str) -> str:
    """Where a tensor lies."""
    if net.program.tensors[value].data is not None:
        return net.constant(value, "codes")
    return f"{arena} + {net.memory.offsets[value]}"


def _function(net: Net, layer: Layer) -> str:
    return f"{net.name}_layer_{net.symbols[layer.instruction.name]}"


def _layer(net: Net, layer: Layer, parameters: Parameters) -> str:
    tensors = {f"input_{i}": tensor for i, tensor in enumerate(layer.inputs)} | {"output": layer.output}
    lines = [
        comment(f"{layer.instruction.name}: {layer.instruction.op}"),
        f"static void {_function(net, layer)}(uint8_t *arena) {{",
        *(f"  const uf_tensor {name} = {initialiser(_tensor(net, tensor))};" for name, tensor in tensors.items()),
        f"  const uf_tensor *const inputs[] = {{{', '.join(f'&{name}' for name in list(tensors)[:-1])}}};",
        "  const uf_node node = {",
        *(f"      .{field} = {value}," for field, value in _node(net, layer, parameters).items()),
        "  };",
        f"  {layer.prepared.kernel}_run(&node);",
        "}\n",
    ]
    return "\n".join(lines)


def _node(net: Net, layer: Layer, parameters: Parameters) -> Mapping[str, str]:
    name = layer.instruction.name
    node = {"input_count": str(len(layer.inputs)), "inputs": "inputs", "output": "&output"}
    if parameters.member:
        fields = {**parameters.fields, **{role: net.constant(name, role) for role in parameters.constants}}
        lines = "".join(f"          .{field} = {initialiser(value)},\n" for field, value in fields.items())
        node[f"params.{parameters.member}"] = f"{{\n{lines}      }}"
    if layer.prepared.packed:
        node["packed"] = net.constant(name, "packed")
    if layer.prepared.scratch:
        node["scratch"] = f"arena + {net.memory.scratch[name]}"
    if layer.prepared.state:
        node["state"] = net.constant(name, "state")
    return node


def _tensor(net: Net, tensor: Tensor) -> Value:
    shape = (1, *tensor.shape[1:]) if tensor.data is None else tensor.data.shape
    return {
        "data": f"{'(uint8_t *)' if tensor.data is not None else ''}{_place(net, tensor.name, 'arena')}",
        "offset": byte_offset(tensor.qparams),
        "width": STORAGE[tensor.qparams.dtype].itemsize,
        "rank": len(shape),
        "shape": list(shape),
    }
