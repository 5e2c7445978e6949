"""Tables that a converter left in real numbers, and quantized row by row as they are taken, quantized beforehand.

PyTorch's converter writes an embedding so. Each real number gives the code that QUANTIZE would give it, so that the rows
have the same bits.
"""

from __future__ import annotations

from dataclasses import replace

from unfloat.formats.tflite.model import MOST_SHARING, TfModel, TfOperator, TfTensor, apart
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.qparams import STORAGE, WIDE_BITS, QParams, quantize

TABLE_OF = {"GATHER": 0, "EMBEDDING_LOOKUP": 1}  # which operand it is


def undo(model: TfModel) -> TfModel:
    """The model whose lookups of real numbers that one QUANTIZE reads are lookups of codes; others stay."""
    tensors, readers = dict(model.tensors), model.readers()
    shown = {name for _, name in model.outputs}
    allowance = MOST_SHARING * sum(tensor.data.nbytes for tensor in tensors.values() if tensor.data is not None)
    instead: dict[tuple[str, ...], TfOperator | None] = {}  # by what an operator makes
    for lookup in model.operators:
        following = readers.get(lookup.outputs[0], []) if len(lookup.outputs) == 1 else []
        if len(following) != 1 or following[0].builtin != "QUANTIZE" or lookup.outputs[0] in shown:
            continue
        table = _quantized(tensors, lookup, following[0])
        if table is None or table.data is None or (allowance := allowance - table.data.nbytes) < 0:
            continue
        tensors[table.name] = table
        inputs = list(lookup.inputs)
        inputs[TABLE_OF[lookup.builtin]] = table.name
        instead |= {
            lookup.outputs: replace(lookup, inputs=tuple(inputs), outputs=following[0].outputs),
            following[0].outputs: None,
        }
    operators = [instead.get(operator.outputs, operator) for operator in model.operators]
    return replace(model, operators=tuple(filter(None, operators)), tensors=tensors)


def _quantized(tensors: dict[str, TfTensor], lookup: TfOperator, following: TfOperator) -> TfTensor | None:
    """The table's codes, under a name of their own; None where it is no such pair."""
    operands = len(lookup.inputs), len(following.inputs), len(following.outputs)
    if lookup.builtin not in TABLE_OF or operands != (2, 1, 1):
        return None
    table, made = tensors.get(str(lookup.inputs[TABLE_OF[lookup.builtin]])), tensors[following.outputs[0]]
    if table is None or table.data is None or table.dtype != "float32" or made.quantization is None:
        return None
    if made.dtype not in STORAGE or len(made.quantization.scale) != 1:
        return None
    bits = WIDE_BITS if made.dtype == "int16" else 8
    try:
        label = QParams(made.quantization.scale, made.quantization.zero_point, made.dtype, bits)
        codes = quantize(table.data, label)
    except NumericDomainError:  # which whoever reads the operators says
        return None
    return TfTensor(apart(f"{table.name}/codes", tensors), table.shape, made.dtype, made.quantization, codes)
