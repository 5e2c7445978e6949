"""Run jobs in LiteRT's reference kernels. Executed by whatever Python has `ai_edge_litert`; see `call.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from protocol import main, plain


def run(
    model: bytes, inputs: list[np.ndarray], resolver: OpResolverType = OpResolverType.BUILTIN_REF
) -> list[np.ndarray]:
    """Run a model on samples of the inputs [n, ...] in a row, without a reset, in its own shapes; outputs likewise."""
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    takes = [(d["index"], d["shape"], d["dtype"]) for d in interpreter.get_input_details()]
    gives = [d["index"] for d in interpreter.get_output_details()]
    results = []
    for sample in zip(*inputs, strict=True):
        for (index, shape, dtype), codes in zip(takes, sample, strict=True):
            interpreter.set_tensor(index, plain(codes, dtype).reshape(shape))
        interpreter.invoke()
        results.append([interpreter.get_tensor(index) for index in gives])
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


if __name__ == "__main__":
    main(run)
