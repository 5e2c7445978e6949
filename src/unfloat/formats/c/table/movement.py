"""pad, concatenation, reshape, transpose: codes that only move."""

from __future__ import annotations

from unfloat.formats.c.layer import Emitter, Layer, Parameters, byte_offset


def _pad(layer: Layer) -> Parameters:
    value = layer.number("value") + byte_offset(layer.inputs[0].qparams)
    return Parameters("move", {"before": layer.numbers("paddings")[::2], "value": value})


def _concatenation(layer: Layer) -> Parameters:
    return Parameters("move", {"axis": layer.number("axis")})


def _transpose(layer: Layer) -> Parameters:
    return Parameters("move", {"permutation": layer.numbers("permutation")})


def _reshape(layer: Layer) -> Parameters:
    return Parameters()


EMITTERS = {
    "pad": Emitter(_pad),
    "concatenation": Emitter(_concatenation),
    "transpose": Emitter(_transpose),
    "reshape": Emitter(_reshape),
}
