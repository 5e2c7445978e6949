"""Where TFLite's kernels would not compute an instruction's bits, and why, in words.

int8 and int16 are held to TensorFlow Lite Micro, which computes every factor in double from the file's float32 scales,
as the Program does. uint8 it does not know; LiteRT's legacy kernels multiply two scales in float32 first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unfloat.ir.instruction import Instruction
from unfloat.spec.fixedpoint import WIDE_ROUNDING, quantize_multiplier
from unfloat.spec.qparams import QParams

LINEAR = ("conv2d", "depthwise_conv2d", "fully_connected", "transpose_conv2d")


def obstacle(instruction: Instruction, inputs: Sequence[QParams], output: QParams) -> str:
    """Why the instruction's rounding or factor cannot be exported, or ""."""
    rounding = instruction.attributes.get("rounding", "double")
    if rounding not in ("double", WIDE_ROUNDING):
        return f'required rounding "double", which TFLite\'s kernels have, found "{rounding}"'
    if output.dtype == "uint8" and not _legacy_factor_holds(instruction, inputs, output):
        return "its scales' product in float32, as TFLite's uint8 kernels form it, gives another multiplier"
    return ""


def _legacy_factor_holds(instruction: Instruction, inputs: Sequence[QParams], output: QParams) -> bool:
    """Whether a uint8 kernel's factor gives the instruction's multiplier.

    Convolutions (GetQuantizedConvolutionMultipler) form `double(float32(S_in * S_w)) / S_out`; MUL stays in float32.
    """
    out = np.float32(output.scale[0])
    if instruction.op in LINEAR:
        product = np.float32(inputs[0].scale[0]) * np.float32(instruction.labels["weight"].scale[0])
        factor = float(product) / float(out)
    elif instruction.op == "mul":
        factor = float(np.float32(inputs[0].scale[0]) * np.float32(inputs[1].scale[0]) / out)
    else:
        return True
    made = instruction.attributes if instruction.op == "mul" else instruction.constants
    multiplier, shift = quantize_multiplier(factor)
    return bool(np.all(made["multiplier"] == multiplier) and np.all(made["shift"] == shift))
