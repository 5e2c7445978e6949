"""average_pool2d, max_pool2d, and the window that convolutions have too."""

from __future__ import annotations

from collections.abc import Sequence

from unfloat.formats.c.layer import Emitter, Layer, Parameters
from unfloat.formats.c.text import Value


def window(layer: Layer, kernel: Sequence[int]) -> dict[str, Value]:
    """`uf_window`; bottom and right padding follow from the shapes."""
    stride, (top, left, *_) = layer.numbers("stride"), layer.numbers("padding")
    dilation = layer.numbers("dilation") if "dilation" in layer.instruction.attributes else [1, 1]
    names = ("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "pad_top", "pad_left")
    return dict(zip(names, (*kernel, *stride, *dilation, top, left), strict=True))


def _pool(layer: Layer) -> Parameters:
    return Parameters("window", window(layer, layer.numbers("kernel")))


EMITTERS = {"average_pool2d": Emitter(_pool), "max_pool2d": Emitter(_pool)}
