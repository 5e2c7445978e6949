"""One runtime in a process of its own, timed in turns. Executed by whatever Python has the runtime; see `peers.py`.

    python runtimes.py RUNTIME FILE THREADS BATCH

It prints its version as JSON once the file is loaded, and answers each line it reads, a number of seconds, with the
median time of a call in milliseconds. Its lines begin with MARK, as runtimes print others of their own. It needs the
standard library, NumPy and the runtime.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Call = Callable[[], object]
LEAST_CALLS, WARM_UP = 5, 3
MARK = "unfloat's turn: "


def unfloat(file: str, threads: int, batch: int) -> tuple[str, Call]:
    """This project's engine; real numbers in and out."""
    import unfloat as package
    from unfloat.ir.graph import own_shape

    program = package.load(file)
    engine = program.compile(threads)
    ports = zip(program.inputs, engine.dtypes, strict=True)
    inputs = [sample([batch, *own_shape(port)[1:]], dtype) for port, dtype in ports]
    return package.__version__, lambda: engine(*inputs)


def ort(file: str, threads: int, batch: int) -> tuple[str, Call]:
    """ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": "float32", **{f"tensor({t})": t for t in ("uint8", "int8", "int32", "int64")}}
    feeds = {port.name: sample(sized(port.shape, batch), types[port.type]) for port in session.get_inputs()}
    return onnxruntime.__version__, lambda: session.run(None, feeds)


def openvino(file: str, threads: int, batch: int) -> tuple[str, Call]:
    """OpenVINO; what is float stays float32 (it would take bfloat16 where the CPU has it)."""
    import openvino as package

    wishes = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    wishes["INFERENCE_PRECISION_HINT"] = "f32"
    model = package.Core().read_model(file)
    ports = model.inputs
    shapes = [[d.get_length() if d.is_static else batch for d in port.partial_shape] for port in ports]
    compiled = package.Core().compile_model(model, "CPU", wishes)
    inputs = [sample(shape, port.element_type.to_dtype().name) for port, shape in zip(ports, shapes, strict=True)]
    request = compiled.create_infer_request()
    return package.__version__.split("-")[0], lambda: request.infer(inputs, share_inputs=True, share_outputs=True)


def litert(file: str, threads: int, batch: int) -> tuple[str, Call]:
    """LiteRT, with XNNPACK as it comes."""
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=file, num_threads=threads)
    takes, gives = interpreter.get_input_details(), interpreter.get_output_details()
    shapes = [[batch, *detail["shape"].tolist()[1:]] for detail in takes]
    for detail, shape in zip(takes, shapes, strict=True):
        interpreter.resize_tensor_input(detail["index"], shape)
    interpreter.allocate_tensors()
    inputs = [sample(shape, np.dtype(detail["dtype"]).name) for detail, shape in zip(takes, shapes, strict=True)]

    def call() -> object:
        for detail, x in zip(takes, inputs, strict=True):
            interpreter.set_tensor(detail["index"], x)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in gives]

    return version("ai-edge-litert"), call


def executorch(file: str, threads: int, batch: int) -> tuple[str, Call]:
    """ExecuTorch; a file holds one batch size."""
    from importlib.metadata import version

    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(file).load_method("forward")
    about = method.metadata
    shapes = [list(about.input_tensor_meta(i).sizes()) for i in range(about.num_inputs())]
    if any(shape[0] != batch for shape in shapes):
        raise ValueError(f"the file was made for the shapes {shapes}, not for a batch of {batch}")
    inputs = [torch.from_numpy(sample(shape)) for shape in shapes]
    return version("executorch"), lambda: method.execute(inputs)


RUNTIMES: dict[str, Callable[[str, int, int], tuple[str, Call]]] = {
    "unfloat": unfloat,
    "ort": ort,
    "openvino": openvino,
    "litert": litert,
    "executorch": executorch,
}
PACKAGES = {
    "ort": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai-edge-litert",
    "executorch": "executorch",
}
"""What to install for a runtime."""


def sample(shape: Sequence[int], dtype: str = "float32") -> np.ndarray[Any, Any]:
    """Numbers to compute with; zeros where they choose rows, which every table has."""
    generator = np.random.default_rng(0)
    if dtype in ("int32", "int64"):
        return np.zeros(shape, dtype)
    if dtype == "float32":
        return generator.standard_normal(shape, np.float32)
    return generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape, dtype)


def sized(shape: Sequence[Any], batch: int) -> list[int]:
    """A shape with its open dimensions filled in."""
    return [size if isinstance(size, int) else batch for size in shape]


def median_ms(call: Call, seconds: float) -> float:
    """The median time of a call, over so many seconds."""
    for _ in range(WARM_UP):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST_CALLS or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


def main() -> None:
    """Load, then take turns until the input ends."""
    runtime, file, threads, batch = sys.argv[1:]
    version, call = RUNTIMES[runtime](file, int(threads), int(batch))
    print(f"{MARK}{json.dumps({'version': version})}", flush=True)  # noqa: T201 - the protocol
    for line in sys.stdin:
        print(f"{MARK}{median_ms(call, float(line))}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
