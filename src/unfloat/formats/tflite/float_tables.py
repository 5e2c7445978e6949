"""Tables that a converter left in real numbers, and quantized row by row as they are taken, quantized beforehand.

PyTorch's converter writes an embedding so. Each real number gives the code that QUANTIZE would give it, so that the rows
have the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from unfloat.formats.tflite.model import MOST_SHARING, TfModel, TfOperator, TfTensor, apart
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.qparams import STORAGE, WIDE_BITS, QParams, quantize

TABLE_OF = {"GATHER": 0, "EMBEDDING_LOOKUP": 1}  # which operand it is


def undo(model: TfModel) -> TfModel:
    """The model whose lookups of real numbers that one QUANTIZE reads are lookups of codes; others stay."""
    tensors, readers = dict(model.tensors), model.readers()
    shown = {name for _, name in model.outputs}
    allowance = MOST_SHARING * sum(tensor.data.nbytes for tensor in tensors.values() if tensor.data is not None)
    place = {id(operator): index for index, operator in enumerate(model.operators)}
    instead: dict[int, TfOperator | None] = {}  # by place
    for index, lookup in enumerate(model.operators):
        following = readers.get(lookup.outputs[0], []) if len(lookup.outputs) == 1 else []
        if len(following) != 1 or lookup.outputs[0] in shown or place[id(following[0])] < index:
            continue
        table = _table(tensors, lookup, following[0])
        if table is None or table.data is None or (allowance := allowance - table.data.nbytes) < 0:
            continue
        codes = _quantized(tensors, table.data, tensors[following[0].outputs[0]], table.name)
        if codes is not None:
            tensors[codes.name] = codes
            inputs = tuple(codes.name if name == table.name else name for name in lookup.inputs)
            instead[index] = replace(lookup, inputs=inputs, outputs=following[0].outputs)
            instead[place[id(following[0])]] = None
    operators = (instead.get(index, operator) for index, operator in enumerate(model.operators))
    return replace(model, operators=tuple(filter(None, operators)), tensors=tensors)


def _table(tensors: Mapping[str, TfTensor], lookup: TfOperator, following: TfOperator) -> TfTensor | None:
    """The constant of real numbers, where these two are a lookup and its QUANTIZE."""
    if lookup.builtin not in TABLE_OF or following.builtin != "QUANTIZE":
        return None
    name = lookup.inputs[TABLE_OF[lookup.builtin]] if len(lookup.inputs) == 2 else None
    plain = name is not None and len(following.inputs) == len(following.outputs) == 1
    return tensors[name] if name is not None and plain and tensors[name].dtype == "float32" else None


def _quantized(tensors: Mapping[str, TfTensor], reals: np.ndarray, like: TfTensor, name: str) -> TfTensor | None:
    """Their codes under another tensor's label; None where that is none."""
    found = like.quantization
    if like.dtype not in STORAGE or found is None or len(found.scale) != 1:
        return None
    try:
        label = QParams(found.scale, found.zero_point, like.dtype, WIDE_BITS if like.dtype == "int16" else 8)
        codes = quantize(reals, label)
    except NumericDomainError:  # which whoever reads the operators says
        return None
    return TfTensor(apart(f"{name}/codes", tensors), reals.shape, like.dtype, found, codes)
