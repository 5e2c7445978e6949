"""Weights that a converter left as float16, which DEQUANTIZE makes float32 at each run, made so beforehand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unfloat.formats.tflite.model import MOST_SHARING, TfModel, TfOperator, TfTensor


def undo(model: TfModel) -> TfModel:
    """The model whose DEQUANTIZEs of float16 constants are constants of float32; others stay."""
    tensors, operators = dict(model.tensors), []
    allowance = MOST_SHARING * sum(tensor.data.nbytes for tensor in tensors.values() if tensor.data is not None)
    for operator in model.operators:
        whole = _whole(model, operator)
        if whole is None or whole.data is None or (allowance := allowance - whole.data.nbytes) < 0:
            operators.append(operator)
        else:
            tensors[whole.name] = whole
    return replace(model, tensors=tensors, operators=tuple(operators))


def _whole(model: TfModel, operator: TfOperator) -> TfTensor | None:
    """What an operator makes of a float16 constant; None where it is no DEQUANTIZE of one."""
    if operator.builtin != "DEQUANTIZE" or not len(operator.inputs) == len(operator.outputs) == 1:
        return None
    source, target = (model.tensors.get(str(name)) for name in (*operator.inputs, *operator.outputs))
    if source is None or target is None or source.data is None or source.dtype != "float16":
        return None
    if target.dtype != "float32" or target.shape != source.shape:
        return None
    return replace(target, data=source.data.astype(np.float32))
