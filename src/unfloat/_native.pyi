"""The native engine (csrc/bindings.cc). Arrays are C-contiguous and are never copied or converted."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.integer[Any]]  # int8, uint8 or int16
TensorTuple = tuple[tuple[int, ...], str, int, Codes | None]
BorderTuple = tuple[float, int, int, int, list[int]]  # scale, zero point, least and greatest code, permutation
InstructionTuple = tuple[str, str, list[int], int, dict[str, int | tuple[int, ...] | str], dict[str, NDArray[Any]]]

class Borders:
    """What the numbers of an engine's inputs and outputs mean, and how the caller's arrays are laid out."""

    def __init__(self, engine: Engine, inputs: list[BorderTuple], outputs: list[BorderTuple]) -> None:
        """Check and keep one border for each input and each output.

        Args:
            engine: Whose borders they are.
            inputs: What codes mean; axis i of the tensor is axis permutation[i] of the array.
            outputs: The same.

        Raises:
            ValueError: One is missing or does not fit.
        """

class Engine:
    """A Program compiled for this machine. Callers take turns; the GIL is released while it works."""

    def __init__(
        self,
        tensors: list[TensorTuple],
        instructions: list[InstructionTuple],
        inputs: list[int],
        outputs: list[int],
        arena_bytes_per_sample: int,
        threads: int,
        level: str,
    ) -> None:
        """Check everything, choose kernels, pack weights.

        Args:
            tensors: (shape, dtype, offset, data): an activation has the shape of one sample, an offset in the arena
                for a batch of one, and no data; a constant has its whole shape, offset -1, and its codes.
            instructions: (op, name, input tensors, output tensor, attributes, constants), in order.
            inputs: Tensors that `run` fills.
            outputs: Tensors that `run` hands back; any activations.
            arena_bytes_per_sample: Size of the arena for a batch of one. A batch of n multiplies it and all offsets.
            threads: How many threads a run uses, the caller's included.
            level: One of `levels()`, or "" for the fastest.

        Raises:
            ValueError: Something is missing or does not fit; the message names the layer.
        """

    @property
    def threads(self) -> int:
        """How many threads a run uses."""

    @property
    def remembered(self) -> int:
        """Of how many samples it remembers what runs left; 0 where the next batch may have any size."""

    def reset(self) -> None:
        """Forget what runs left to the next."""

    def run(self, batch: int, inputs: list[Codes], outputs: list[Codes]) -> None:
        """Run on `batch` samples; allocates only where a batch is larger than all before.

        Args:
            batch: Number of samples, at least 1.
            inputs: Codes of each input.
            outputs: Arrays to fill with the codes of each output.

        Raises:
            ValueError: An array has the wrong type or size.
        """

    def call(
        self,
        batch: int,
        inputs: list[NDArray[np.float32]],
        outputs: list[NDArray[np.float32]],
        borders: Borders,
    ) -> int:
        """Run on real numbers: quantized straight into the arena, and back out of it.

        Args:
            batch: Number of samples, at least 1.
            inputs: One array for each input, in the layout that its border's permutation makes of the tensor's own.
            outputs: Arrays to fill.
            borders: Those of this engine.

        Returns:
            The index of the first input that holds a NaN, in which case nothing ran; -1 where there is none.

        Raises:
            ValueError: An array has the wrong type or shape.
        """

    def profile(
        self,
        batch: int,
        inputs: list[NDArray[np.float32]],
        outputs: list[NDArray[np.float32]],
        borders: Borders,
    ) -> tuple[int, list[tuple[str, str, str, int]]]:
        """As `call`; and (name, operator, kernel, nanoseconds) of each layer.

        Raises:
            ValueError: An array has the wrong type or shape.
        """

    def layers(self) -> list[tuple[str, str, bytes, int, int]]:
        """Of each layer: its name, its kernel, what the kernel packed, and the scratch bytes of a thread."""

    def kernels(self) -> list[tuple[str, str]]:
        """(name, kernel) of each layer."""

def peak(level: str, threads: int, seconds: float) -> float:
    """Multiply-accumulates a second; see `runtime.engine.peak`."""

def levels() -> list[str]:
    """The instruction-set levels of this CPU, fastest first; the last is "scalar"."""

def quantize(x: NDArray[np.float32], scale: float, zero_point: int, qmin: int, qmax: int, out: Codes) -> bool:
    """Write `clamp(round_half_away(x / scale) + zero_point, qmin, qmax)` to `out` (eq. 5).

    `out` has the shape of `x` and any strides: a transposed view changes the layout on the way.

    Returns:
        False where `x` holds a NaN; `out` is then meaningless.
    """

def dequantize(codes: Codes, scale: float, zero_point: int, out: NDArray[np.float32]) -> None:
    """Write `scale * (codes - zero_point)` to `out` (eq. 1); `codes` may have any strides, as in `quantize`."""

def requantize(
    accumulator: NDArray[np.int32], multiplier: NDArray[np.int32], shift: NDArray[np.int8], rounding: str
) -> None:
    """Rescale [rows, channels] in place (eq. 11 and 12); one multiplier and shift, or one for each channel."""

def finish(
    accumulator: NDArray[np.int32],
    bias: NDArray[np.int32],
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int8],
    codes: tuple[int, int, int],
    rounding: str,
    out: NDArray[np.int16],
) -> None:
    """Write the codes of [rows, channels] accumulators to `out`; `codes` is (zero point, lowest, highest)."""

Pair = tuple[int, int]
AdditionFields = tuple[Pair, Pair, Pair, int, Pair, tuple[int, int, int]]

def add_codes(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    addition: AdditionFields,
    rounding: str,
    out: NDArray[np.int32],
    threads: int,
) -> None:
    """Add two tables of codes of one shape (eq. 21); `addition` holds the fields of `spec.fixedpoint.Addition`."""

def add_steps(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    addition: AdditionFields,
    factors: tuple[float, float],
    rounding: str,
    steps: NDArray[np.float32],
    inside: NDArray[np.uint8],
    threads: int,
) -> tuple[float, float]:
    """See `quant.loops.add_steps`; the least and the greatest real-valued step."""

def srdhm(a: NDArray[np.int32], b: NDArray[np.int32], out: NDArray[np.int32]) -> None:
    """`qmath_srdhm` of each pair (eq. 9)."""

def rounding_divide_by_pot(x: NDArray[np.int32], exponent: int, out: NDArray[np.int32]) -> None:
    """`qmath_rounding_divide_by_pot` of each element (eq. 10)."""

def exp_on_negative_values(a: NDArray[np.int32], integer_bits: int, out: NDArray[np.int32]) -> None:
    """`qmath_exp_on_negative_values` of each element (eq. 27)."""

def one_over_one_plus_x(a: NDArray[np.int32], out: NDArray[np.int32]) -> None:
    """`qmath_one_over_one_plus_x` of each element (eq. 28)."""

def average(total: NDArray[np.int32], count: NDArray[np.int32], out: NDArray[np.int32]) -> None:
    """`qmath_average` of each pair (eq. 24)."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

def finish_steps(
    accumulator: Floats,
    factor: Floats,
    offset: Floats,
    bias: NDArray[np.int32] | None,
    multiplier: NDArray[np.int32] | None,
    shift: NDArray[np.int8] | None,
    rounding: str,
    low: float,
    high: float,
    steps: Floats,
    inside: NDArray[np.uint8],
    threads: int,
) -> tuple[float, float]:
    """`steps = clamp(round(accumulator * factor + offset))` of [rows, channels], and whether that real number lies inside.

    Rounding is "double" or "single", by bias, multiplier and shift, "float", or "real" for none at all. Returns the
    least and greatest real number.
    """

def gradient_sums(
    grad: Floats,
    inside: NDArray[np.uint8],
    accumulator: Floats | None,
    steps: Floats | None,
    factor: Floats,
    out: Floats | None,
    sums: Doubles,
    threads: int,
) -> None:
    """The channels' sums of `grad * inside`, of that times the accumulator, and of `grad * steps`: [3, channels].

    Where `out` is given: `out = grad * inside * factor`.
    """

def gradient_through_norm(
    grad: Floats,
    inside: NDArray[np.uint8],
    accumulator: Floats,
    factor: Floats,
    constant: Floats,
    slope: Floats,
    out: Floats,
    threads: int,
) -> None:
    """`out = grad * inside * factor + constant + slope * accumulator` of [rows, channels]."""

def sums(x: Floats, out: Doubles, threads: int) -> None:
    """Sums of each channel's values and of their squares, [2, channels]."""

def weight_steps(
    weight: Floats,
    gain: Doubles | None,
    scale: Doubles,
    low: int,
    high: int,
    steps: Floats,
    row_sums: Floats,
    threads: int,
) -> None:
    """`clamp(round(w * gain / scale))` of [channels, rest] in double; each row's sums of magnitudes and of steps."""

def weight_backward(
    grad: Floats,
    taps: int,
    weight: Floats,
    slope: Floats,
    steps: Floats | None,
    limit: float,
    to_weight: Floats,
    to_gain: Doubles,
    missed: Doubles,
    threads: int,
) -> None:
    """`grad * slope` of [channels, rest], and each row's sum of what passes times the weight.

    A row of `grad` may lie as [taps, depth] where the others are [depth, taps]; else `taps` is 1.

    With `steps`: zero where `weight * slope` lies outside [-limit, limit], and each row's sum of
    `grad * (steps - weight * slope)`, its second part zero outside.
    """

def reach(weight: Floats, out: Floats, threads: int) -> None:
    """Each row's greatest magnitude; NaN where it holds one."""
