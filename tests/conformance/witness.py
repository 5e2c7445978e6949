"""Each rung of the ladder as a function: Program and codes in, output codes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from tests import oracle
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.ops._operator import State
from unfloat.program.interpret import Memory, interpret
from unfloat.program.program import Program
from unfloat.program.states import kept_states
from unfloat.runtime.engine import Engine

Witness = Callable[[Program, list[np.ndarray]], np.ndarray]


def by_oracle(program: Program, inputs: list[np.ndarray]) -> np.ndarray:
    """The plain Python oracle, which imports nothing of unfloat."""
    (instruction,) = program.instructions
    operands = [_tensor(x) for x in operands_of(program, inputs)]
    result = _ORACLE[instruction.op](instruction, operands, program)
    output = program.tensors[instruction.name]
    return np.array(result.data, np.int64).reshape(inputs[0].shape[0], *output.shape[1:])


def operands_of(program: Program, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The operands of a Program's one instruction, constants among them."""
    (instruction,) = program.instructions
    given = dict(zip((port.value for port in program.inputs), inputs, strict=True))
    constants = {name: t.data for name, t in program.tensors.items() if t.data is not None}
    return [{**constants, **given}[name] for name in instruction.inputs]


def at_start(states: Mapping[str, State], batch: int) -> dict[str, np.ndarray]:
    """States before the first run: their zero points."""
    return {role: np.full((batch, *state.shape), state.label.zero_point, np.int64) for role, state in states.items()}


def by_oracle_remembering(program: Program, inputs: list[np.ndarray], memory: Memory) -> np.ndarray:
    """The oracle for a Program whose one instruction remembers, from its `memory` on, which is brought up to date."""
    (instruction,) = program.instructions
    kept = kept_states(program, instruction)
    states = memory.get(instruction.name) or at_start(kept, inputs[0].shape[0])
    result, *states_after = _REMEMBERING[instruction.op](
        instruction, _tensor(inputs[0]), [_tensor(states[role]) for role in kept], program
    )
    memory[instruction.name] = {
        role: np.array(state.data, np.int64).reshape(state.shape)
        for role, state in zip(kept, states_after, strict=True)
    }
    return np.array(result.data, np.int64).reshape(result.shape)


def _tensor(array: np.ndarray) -> oracle.Tensor:
    return oracle.Tensor(array.shape, [int(v) for v in array.reshape(-1)])


def by_interpreter(program: Program, inputs: list[np.ndarray]) -> np.ndarray:
    """The NumPy interpreter: the integer meaning, instruction by instruction."""
    return interpret(program, inputs)[0].astype(np.int64)


def by_torch(program: Program, inputs: list[np.ndarray]) -> np.ndarray:
    """The integer meaning on PyTorch tensors: what the Simulation runs in `eval()`."""
    from unfloat.quant.backend import TorchBackend

    backend = TorchBackend()
    (instruction,) = program.instructions
    constants = {role: backend.constant(a) for role, a in instruction.constants.items()}
    meaning = REGISTRY[instruction.op].integer_meaning
    assert meaning is not None
    operands = [backend.constant(x) for x in operands_of(program, inputs)]
    codes = meaning(backend, instruction.attributes, constants, operands)
    return np.asarray(codes.numpy(), np.int64)


def by_engine(level: str, threads: int = 1) -> Witness:
    """The native engine at one instruction-set level."""

    def run(program: Program, inputs: list[np.ndarray]) -> np.ndarray:
        return np.asarray(Engine(program, threads, level).run(*inputs), np.int64)

    return run


def _linear(function: Callable[..., oracle.Tensor], *extra: str) -> Callable[..., oracle.Tensor]:
    shared = ("input_zero_point", "weight_zero_point", "output_zero_point", "clamp_min", "clamp_max", "rounding")

    def run(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
        arrays = [[int(v) for v in i.constants[role]] for role in ("bias", "multiplier", "shift")]
        fields = {name: i.attributes[name] for name in (*shared, *extra)}
        return function(operands[0], _tensor(i.constants["weight"]), *arrays, **fields)

    return run


def _addition(function: Callable[..., oracle.Tensor]) -> Callable[..., oracle.Tensor]:
    def run(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
        a = i.attributes
        return function(
            *operands,
            zero_points=(*a["input_zero_points"], a["output_zero_point"]),
            multipliers=(*a["input_multipliers"], a["output_multiplier"]),
            shifts=(*a["input_shifts"], a["output_shift"]),
            left_shift=a["left_shift"],
            **_clamp(i),
            rounding=a["rounding"],
        )

    return run


def _clamp(i: Instruction) -> dict[str, int]:
    return {name: i.attributes[name] for name in ("clamp_min", "clamp_max")}


def _mul(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
    a = i.attributes
    zero_points = (*a["input_zero_points"], a["output_zero_point"])
    return oracle.mul(
        *operands,
        zero_points=zero_points,
        multiplier=a["multiplier"],
        shift=a["shift"],
        **_clamp(i),
        rounding=a["rounding"],
    )


def _zero_points(i: Instruction) -> dict[str, object]:
    return {name: i.attributes[name] for name in ("input_zero_point", "output_zero_point", "rounding")}


def _rescale(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
    return oracle.rescale(
        operands[0], i.attributes["multiplier"], i.attributes["shift"], **_zero_points(i), **_clamp(i)
    )


def _mean(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
    """From the unfolded factor, so that folding 1/N is witnessed too."""
    scales = [program.tensors[name].qparams.scale[0] for name in (i.inputs[0], i.name)]
    multiplier, shift = oracle.quantize_multiplier(scales[0] / scales[1])
    return oracle.mean(operands[0], i.attributes["axes"], multiplier, shift, **_zero_points(i), **_clamp(i))


def _sum(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
    a = i.attributes
    return oracle.sum_over(operands[0], a["axes"], a["multiplier"], a["shift"], **_zero_points(i), **_clamp(i))


def _pool(kind: str) -> Callable[..., oracle.Tensor]:
    def run(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
        window = [i.attributes[name] for name in ("kernel", "stride", "padding")]
        label = program.tensors[i.name].qparams
        if kind == "max":
            return oracle.max_pool2d(operands[0], *window, label.qmin, label.qmax)
        return oracle.average_pool2d(operands[0], *window, label.dtype != "uint8", label.qmin, label.qmax)

    return run


def _softmax(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
    label = program.tensors[i.inputs[0]].qparams
    mantissa, exponent = i.attributes.get("beta", (1, 0))
    beta = mantissa * 2.0**exponent
    if label.dtype == "int16":
        return oracle.softmax16(operands[0], label.scale[0], beta)
    return oracle.softmax(operands[0], label.scale[0], signed=label.dtype == "int8", beta=beta)


def _labels(i: Instruction, program: Program) -> tuple[list[float], list[int]]:
    """Scales and zero points of the operands and of the output."""
    labels = [program.tensors[name].qparams for name in (*i.inputs, i.name)]
    return [label.scale[0] for label in labels], [label.zero_point for label in labels]


def _sigmoidal(name: str) -> Callable[..., oracle.Tensor]:
    def run(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
        label = program.tensors[i.inputs[0]].qparams
        if label.dtype == "int16":
            return getattr(oracle, f"{name}_int16")(operands[0], label.scale[0])
        return getattr(oracle, name)(operands[0], label.scale[0], label.zero_point, signed=label.dtype == "int8")

    return run


def _curved(function: Callable[..., oracle.Tensor]) -> Callable[..., oracle.Tensor]:
    def run(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
        (scale, output_scale), (zero_point, output_zero_point) = _labels(i, program)
        label = program.tensors[i.name].qparams
        where = (scale, zero_point, output_scale, output_zero_point)
        return function(operands[0], *where, low=label.qmin, high=label.qmax, **i.attributes)

    return run


def _slopes(function: Callable[..., oracle.Tensor]) -> Callable[..., oracle.Tensor]:
    def run(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
        scales, zero_points = _labels(i, program)
        slope = [math.ldexp(*i.attributes["slope"])] if "slope" in i.attributes else []
        rest = {**_clamp(i), "rounding": i.attributes["rounding"]}
        return function(*operands, *slope, scales=tuple(scales), zero_points=tuple(zero_points), **rest)

    return run


def _pad(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
    flat = i.attributes["paddings"]
    return oracle.pad(operands[0], list(zip(flat[::2], flat[1::2], strict=True)), i.attributes["value"])


def _slice(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
    size = (operands[0].shape[0], *i.attributes["size"][1:])
    return oracle.slice_cells(operands[0], i.attributes["begin"], i.attributes["stride"], size)


def _log_softmax(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
    return oracle.log_softmax(operands[0], program.tensors[i.inputs[0]].qparams.scale[0])


def _l2_normalization(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
    return oracle.l2_normalization(operands[0], program.tensors[i.inputs[0]].qparams.zero_point)


def _batch_matmul(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
    a = i.attributes
    zero_points = (*a["input_zero_points"], a["output_zero_point"])
    factor = (a["multiplier"], a["shift"])
    return oracle.batch_matmul(
        *operands, a["transpose"], *factor, zero_points=zero_points, **_clamp(i), rounding=a["rounding"]
    )


def _svdf(i: Instruction, x: oracle.Tensor, states: list[oracle.Tensor], program: Program) -> list[oracle.Tensor]:
    source, output = (program.tensors[name].qparams for name in (i.inputs[0], i.name))
    state = i.labels["state"]
    labels = (source, i.labels["weight"], state, i.labels["time"], output)
    return list(
        oracle.svdf(
            x,
            _tensor(i.constants["weight"]),
            _tensor(i.constants["time"]),
            [int(v) for v in i.constants["bias"]],
            *states,
            i.attributes["rank"],
            scales=tuple(label.scale[0] for label in labels),  # type: ignore[arg-type]
            zero_points=(source.zero_point, output.zero_point),
            state_range=(state.qmin, state.qmax),
            **_clamp(i),
            rounding=i.attributes["rounding"],
        )
    )


def _lstm(i: Instruction, x: oracle.Tensor, states: list[oracle.Tensor], program: Program) -> list[oracle.Tensor]:
    source, output = (program.tensors[name].qparams for name in (i.inputs[0], i.name))
    layer = oracle.Lstm(
        *(_tensor(i.constants[role]) for role in ("weight", "recurrent", "bias")),
        *(i.labels[role].scale * (1 if i.labels[role].axis == 0 else 4) for role in ("weight", "recurrent")),
        scales=(source.scale[0], i.labels["cell"].scale[0], output.scale[0]),
        zero_points=(source.zero_point, output.zero_point),
        cell_clip=i.attributes["cell_clip"],
        clamps=(i.attributes["clamp_min"], i.attributes["clamp_max"]),
        rounding=i.attributes["rounding"],
    )
    return list(oracle.lstm(layer, x, *states))


def _anew(op: str) -> Callable[..., oracle.Tensor]:
    """One run from the start."""

    def run(i: Instruction, operands: list[oracle.Tensor], program: Program) -> oracle.Tensor:
        states = REGISTRY[op].states(i, program.tensors[i.name])  # type: ignore[misc]
        start = [_tensor(state) for state in at_start(states, operands[0].shape[0]).values()]
        return _REMEMBERING[op](i, operands[0], start, program)[0]

    return run


_REMEMBERING = {"svdf": _svdf, "lstm": _lstm}  # the output, then the states afterwards
_SPATIAL = ("stride", "dilation", "padding")
_ORACLE: dict[str, Callable[[Instruction, list[oracle.Tensor], Program], oracle.Tensor]] = {
    "conv2d": _linear(oracle.conv2d, *_SPATIAL, "groups"),
    "depthwise_conv2d": _linear(oracle.depthwise_conv2d, *_SPATIAL),
    "fully_connected": _linear(oracle.fully_connected),
    "transpose_conv2d": _linear(oracle.transpose_conv2d, "stride", "crop", "size"),
    "batch_matmul": _batch_matmul,
    "log_softmax": _log_softmax,
    "l2_normalization": _l2_normalization,
    "add": _addition(oracle.add),
    "sub": _addition(oracle.sub),
    "sum": _sum,
    "mul": _mul,
    "rescale": _rescale,
    "average_pool2d": _pool("average"),
    "max_pool2d": _pool("max"),
    "mean": _mean,
    "softmax": _softmax,
    "pad": _pad,
    "concatenation": lambda i, operands, program: oracle.concatenation(operands, i.attributes["axis"]),
    "reshape": lambda i, operands, program: oracle.reshape(
        operands[0], (operands[0].shape[0], *i.attributes["shape"][1:])
    ),
    "transpose": lambda i, operands, program: oracle.transpose(operands[0], i.attributes["permutation"]),
    "slice": _slice,
    "gather": lambda i, operands, program: oracle.gather(operands[0], i.attributes["axis"], i.attributes["indices"]),
    "take": lambda i, operands, program: oracle.take(*operands),
    "maximum": lambda i, operands, program: oracle.extreme(*operands, max),
    "minimum": lambda i, operands, program: oracle.extreme(*operands, min),
    "reduce_max": lambda i, operands, program: oracle.reduce_extreme(operands[0], i.attributes["axes"], max),
    "reduce_min": lambda i, operands, program: oracle.reduce_extreme(operands[0], i.attributes["axes"], min),
    "arg_max": lambda i, operands, program: oracle.arg_max(operands[0], i.attributes["axis"]),
    "resize_bilinear": lambda i, operands, program: oracle.resize_bilinear(
        operands[0],
        i.attributes["size"],
        bool(i.attributes["align_corners"]),
        bool(i.attributes["half_pixel_centers"]),
    ),
    "logistic": _sigmoidal("logistic"),
    "tanh": _sigmoidal("tanh"),
    "hard_swish": _curved(oracle.hard_swish),
    "gelu": _curved(oracle.gelu),
    "leaky_relu": _slopes(oracle.leaky_relu),
    "abs": _slopes(oracle.absolute),
    "prelu": _slopes(oracle.prelu),
    "svdf": _anew("svdf"),
    "lstm": _anew("lstm"),
}
