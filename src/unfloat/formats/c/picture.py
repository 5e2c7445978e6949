"""`<name>_load_rgb888`: pixels to input codes by a table a channel, as the recipe's `[input]` says."""

from __future__ import annotations

from typing import Any

import numpy as np

from unfloat.formats.c.header import ctype, sizes
from unfloat.formats.c.net import Net
from unfloat.formats.c.text import initialiser
from unfloat.spec.qparams import QParams, quantize

CHANNELS = 3

_DECLARATION = """
// Pixels, {height} x {width} of red, green and blue, to input codes: quantize((pixel - mean) / std) from a table.
void {name}_load_rgb888(const uint8_t *pixels, {kind} *codes);
"""

_DEFINITION = """
static const {kind} {name}_rgb888[3][256] = {{
{rows},
}};

void {name}_load_rgb888(const uint8_t *pixels, {kind} *codes) {{
  for (size_t i = 0; i < {count}; i += 3) {{
    for (size_t c = 0; c < 3; ++c) codes[i + c] = {name}_rgb888[c][pixels[i + {source}]];
  }}
}}
"""


def loader(net: Net, spec: Any) -> tuple[str, str]:
    """Declaration and definition; empty where there is no picture to load.

    Args:
        net: The network; its one input must be an image of three channels.
        spec: The recipe's `[input]` (mean, std, order), or None.
    """
    if spec is None or len(net.inputs) != 1:
        return "", ""
    (port,) = net.inputs.values()
    shape = sizes(net, port)
    if len(shape) != CHANNELS or shape[-1] != CHANNELS:
        return "", ""
    height, width, _ = shape
    table = pixel_table(net.program.tensors[port.value].qparams, spec)
    words = {
        "name": net.name,
        "kind": ctype(net, port),
        "height": height,
        "width": width,
        "count": height * width * CHANNELS,
        "rows": ",\n".join(f"    {initialiser(row.tolist())}" for row in table),
        "source": "c" if spec.order == "RGB" else "2 - c",
    }
    return _DECLARATION.format(**words), _DEFINITION.format(**words)


def pixel_table(label: QParams, spec: Any) -> np.ndarray:
    """The codes [channel, pixel] of `quantize((pixel - mean) / std)`, float32 as `formats/pictures` computes it.

    Channels are in the model's order, as mean and std are.
    """
    pixels = np.arange(256, dtype=np.float32)
    mean, std = (np.asarray(numbers, np.float32)[:, None] for numbers in (spec.mean, spec.std))
    return quantize((pixels - mean) / std, label)
