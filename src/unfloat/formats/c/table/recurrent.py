"""svdf, lstm: what remembers."""

from __future__ import annotations

import numpy as np

from unfloat.formats.c.layer import Emitter, Layer, Parameters, byte_offset
from unfloat.formats.c.text import Value


def _svdf(layer: Layer) -> Parameters:
    constants, label = layer.instruction.constants, layer.instruction.labels["state"]
    names = ("rank", "feature_multiplier", "feature_shift", "multiplier", "shift")
    fields: dict[str, Value] = {
        **{name: layer.number(name) for name in names},
        "memory": constants["time"].shape[1],
        "input_zero_point": layer.number("input_zero_point") + byte_offset(layer.inputs[0].qparams),
        "state_min": label.qmin,
        "state_max": label.qmax,
        "output": layer.output_stage(),
    }
    arrays = {"weight": constants["weight"], "time": constants["time"].astype(np.int16), "bias": constants["bias"]}
    return Parameters("svdf", fields, arrays)


def _lstm(layer: Layer) -> Parameters:
    constants, clip = layer.instruction.constants, layer.number("cell_clip")
    names = ("cell_multiplier", "cell_shift", "output_multiplier", "output_shift", "carried")
    curve = {"multiplier": layer.number("curve_multiplier"), "shift": layer.number("curve_shift")}
    fields: dict[str, Value] = {
        **{name: layer.number(name) for name in names},
        "input_zero_point": layer.number("input_zero_point") + byte_offset(layer.inputs[0].qparams),
        "cell_min": -clip or -(2**15),
        "cell_max": clip or 2**15 - 1,
        "curve": {**curve, "segment_bits": 8, "centre": 0, "output_shift": 8},
        "output": layer.output_stage(),
    }
    arrays = {role: constants[role] for role in ("weight", "recurrent", "bias", "multiplier", "shift")}
    logistic, tanh = constants["table"]
    return Parameters("lstm", fields, {**arrays, "logistic": logistic, "tanh": tanh})


EMITTERS = {"svdf": Emitter(_svdf), "lstm": Emitter(_lstm)}
