"""Run jobs in TensorFlow Lite Micro's interpreter. Executed by whatever Python has `tflite_micro`; see `call.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from protocol import main, plain
from tflite_micro.python.tflite_micro import runtime

ARENA = 64 << 20


def run(model: bytes, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Run a model on samples of the inputs [n, ...] in a row, without a reset, in its own shapes; outputs likewise."""
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=ARENA)
    outputs = range(runtime.schema_fb.Model.GetRootAs(model).Subgraphs(0).OutputsLength())
    results = []
    for sample in zip(*inputs, strict=True):
        for i, codes in enumerate(sample):
            takes = interpreter.get_input_details(i)
            interpreter.set_input(plain(codes, takes["dtype"]).reshape(takes["shape"]), i)
        interpreter.invoke()
        results.append([np.array(interpreter.get_output(i)) for i in outputs])
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


if __name__ == "__main__":
    main(run)
