"""SOFTMAX.

Where the exponentials of a row sum to 512 or more (that many nearly equal classes), every output stands for 0, but the
public kernels would shift by 32 bits: they abort, and without assertions their answer is undefined.
"""

from __future__ import annotations

from unfloat.formats.tflite.scope import Scope
from unfloat.ir.instruction import Instruction


def _softmax(scope: Scope, i: Instruction) -> None:
    scope.emit("SOFTMAX", i.inputs, i.name, Beta=1.0)


WRITERS = {"softmax": _softmax}
