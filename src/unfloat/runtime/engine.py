"""Engine: a Program compiled for this machine. Checks the border, moves arrays; the work is native (`csrc/`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from unfloat import _native
from unfloat.ir.graph import Port, own_output_shape, own_shape
from unfloat.ops._indices import rows_by_index, wrong_index
from unfloat.program.plan import plan
from unfloat.program.program import Program
from unfloat.program.verify import layer_macs
from unfloat.spec.errors import InputError, NumericDomainError
from unfloat.spec.qparams import STORAGE, QParams, stray_codes
from unfloat.spec.record import Record

LEVEL_VARIABLE = "UNFLOAT_ISA"
FLOAT = np.dtype(np.float32)


class LayerTime(Record):
    """How long one layer took.

    Attributes:
        name: The layer's name.
        op: Its operator.
        kernel: The native kernel that ran it, "<operator>__<level and variant>"; " in <layer>" where another layer runs
            it on what it has just written.
        microseconds: Median over the runs, all threads together (wall time); 0 where another layer's time contains it.
        macs: Multiply-accumulates of the batch; 0 where it does none.
    """

    name: str
    op: str
    kernel: str
    microseconds: float
    macs: int


NativeProgram: TypeAlias = "tuple[list[_native.TensorTuple], list[_native.InstructionTuple], list[int], list[int], int]"


def native_program(program: Program) -> NativeProgram:
    """What the native engine is made of: tensors, instructions, inputs, outputs, and the arena's bytes a sample."""
    memory = plan(program)
    index = {name: i for i, name in enumerate(program.tensors)}
    tensors: list[_native.TensorTuple] = []
    for tensor in program.tensors.values():
        shape = tensor.shape[1:] if tensor.data is None else tensor.data.shape
        data = None if tensor.data is None else np.ascontiguousarray(tensor.data)
        tensors.append((tuple(shape), tensor.qparams.dtype, memory.offsets.get(tensor.name, -1), data))
    instructions: list[_native.InstructionTuple] = [
        (
            instruction.op,
            instruction.name,
            [index[name] for name in instruction.inputs],
            index[instruction.name],
            dict(instruction.attributes),
            {role: np.ascontiguousarray(array) for role, array in instruction.constants.items()},
        )
        for instruction in program.instructions
    ]
    inputs, outputs = ([index[port.value] for port in ports] for ports in (program.inputs, program.outputs))
    return tensors, instructions, inputs, outputs, memory.size


class Engine:
    """A Program ready to run: kernels chosen for this CPU, weights packed, memory planned. It keeps nothing else of it.

    The results are the Program's own on every CPU, at every level, with any number of threads. Threads may share an
    Engine: their calls take turns. To run at the same time, make one for each of them.
    """

    def __init__(self, program: Program, threads: int = 1, level: str | None = None) -> None:
        """Compile.

        Args:
            program: A verified Program.
            threads: How many threads a run uses, at least 1.
            level: Instruction-set level to use, one of `levels()`; None takes the environment variable UNFLOAT_ISA, or
                else the fastest this CPU has.

        Raises:
            TypeError: `threads` is no integer, or `level` no string.
            ValueError: There are too few or too many threads, this CPU has no such level, or the Program is not one the
                engine can run.
            InvalidProgramError: A sample's values need more memory than there can be.
        """
        threads = _checked_threads(threads)
        self._native = _native.Engine(*native_program(program), threads, level_in_use(level))
        self._inputs, self._outputs, self._structure = program.inputs, program.outputs, program.structure
        self._labels = {port.value: program.tensors[port.value].qparams for port in (*self._inputs, *self._outputs)}
        self._macs = layer_macs(program)
        self._rows = rows_by_index(program.instructions, program.shapes())
        self._input_shapes = [own_shape(port) for port in program.inputs]
        self._sample_shapes = [own_output_shape(port)[1:] for port in program.outputs]
        self._borders = _native.Borders(
            self._native,
            [self._border(port, port.permutation) for port in program.inputs],
            [self._border(port, np.argsort(port.permutation).tolist()) for port in program.outputs],
        )

    def __call__(self, *inputs: Any) -> Any:
        """Run on real numbers, in the model's own layout and output structure.

        Args:
            inputs: float32 arrays, NumPy's or what it can see as such, one for each input of the model, batch in front;
                integers where an input chooses the rows of a table.

        Returns:
            float32 arrays, structured as the model's own output.

        Raises:
            InputError: An input's number, dtype or shape is wrong, an index names no row, or the batch is not what the
                network remembers.
            NumericDomainError: An input holds a NaN.
        """
        batch, reals, outputs = self._arrays(inputs)
        nan = self._native.call(batch, reals, outputs, self._borders) if batch > 0 else -1
        self._require_numbers(nan)
        return self._structured(outputs)

    def run(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run on codes, in the inner layout (NHWC).

        Args:
            inputs: int8, uint8 or int16 arrays, as the Program's inputs say, batch in front.

        Returns:
            The codes of the output; a tuple where there are several.

        Raises:
            InputError: An input's number, dtype or shape is wrong, or it holds codes that its label does not allow.
        """
        self._require_count(inputs)
        for port, codes in zip(self._inputs, inputs, strict=True):
            _require(port, codes, STORAGE[self._label(port).dtype], port.shape)
            stray = stray_codes(codes, self._label(port))
            if stray:
                raise InputError(f"input {port.name}: required {stray}")
        outputs = self._run([np.ascontiguousarray(codes) for codes in inputs])
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def reset(self) -> None:
        """Begin anew: forget what layers with a state (LSTM, SVDF) remember of the runs before.

        Such layers remember each sample of a batch by its place, so that the batch stays as large until this is called.
        """
        self._native.reset()

    def profile(self, *inputs: Any, runs: int = 10) -> list[LayerTime]:
        """Time every layer. What the network remembers is afterwards what it was before.

        Args:
            inputs: As for a call, real numbers.
            runs: How many runs to take the median of; one more goes before them to warm up.

        Raises:
            InputError: As for a call, or the batch is empty.
            NumericDomainError: An input holds a NaN.
        """
        batch, reals, outputs = self._arrays(inputs)
        if batch == 0:
            raise InputError("required a batch of one sample at least to time layers on, found none")
        profiles = []
        for _ in range(max(runs, 1) + 1):
            nan, profile = self._native.profile(batch, reals, outputs, self._borders)
            self._require_numbers(nan)
            profiles.append(profile)
        layers = []
        for runs_of_layer in zip(*profiles[1:], strict=True):
            name, op, kernel, _ = runs_of_layer[0]
            median = float(np.median([nanoseconds for *_, nanoseconds in runs_of_layer])) / 1000
            layers.append(LayerTime(name, op, kernel, median, batch * self._macs[name]))
        return layers

    def kernels(self) -> dict[str, str]:
        """The kernel chosen for each layer, by the layer's name."""
        return dict(self._native.kernels())

    def layers(self) -> list[tuple[str, str, bytes, int, int]]:
        """Of each layer: its name, its kernel, what it packed, a thread's scratch bytes, and a sample's state bytes."""
        return self._native.layers()

    @property
    def dtypes(self) -> list[str]:
        """What a call takes for each input: "float32", or "int64", or any integers, where it chooses rows."""
        return ["int64" if port.value in self._rows else "float32" for port in self._inputs]

    @property
    def threads(self) -> int:
        """How many threads a run uses."""
        return self._native.threads

    def _arrays(self, inputs: Sequence[Any]) -> tuple[int, list[np.ndarray], list[np.ndarray]]:
        """The batch, the inputs as the native side takes them, and arrays for the outputs."""
        self._require_count(inputs)
        reals = []
        for port, own, x in zip(self._inputs, self._input_shapes, inputs, strict=True):
            array = _seen(port, self._real(port, x) if self._rows else x)
            _require(port, array, FLOAT, own)
            reals.append(array)
        batch = self._batch(reals)
        return batch, reals, [np.empty((batch, *own), FLOAT) for own in self._sample_shapes]

    def _real(self, port: Port, x: Any) -> Any:
        """An input as real numbers: the integers too that choose rows."""
        if port.value not in self._rows:
            return x
        numbers = np.asarray(x)
        wrong = wrong_index(numbers, self._rows[port.value])
        if wrong:
            raise InputError(f"input {port.name}: {wrong}")
        return numbers.astype(np.float32)

    def _run(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        batch = self._batch(inputs)
        outputs = [np.empty((batch, *port.shape[1:]), STORAGE[self._label(port).dtype]) for port in self._outputs]
        if batch > 0:
            self._native.run(batch, inputs, outputs)
        return outputs

    def _batch(self, inputs: Sequence[np.ndarray]) -> int:
        """The batch that all inputs hold."""
        batch = inputs[0].shape[0]
        for i in range(1, len(inputs)):
            found = inputs[i].shape[0]
            if found != batch:
                name = self._inputs[i].name
                raise InputError(f"input {name}: required the first input's batch, {batch}, found {found}")
        held = self._native.remembered
        if held and batch and batch != held:
            raise InputError(f"the network remembers {held} samples, found a batch of {batch}: call reset() first")
        return batch

    def _border(self, port: Port, permutation: Sequence[int]) -> _native.BorderTuple:
        label = self._label(port)
        return label.scale[0], label.zero_point, label.qmin, label.qmax, [int(axis) for axis in permutation]

    def _label(self, port: Port) -> QParams:
        return self._labels[port.value]

    def _require_count(self, inputs: Sequence[object]) -> None:
        required = len(self._inputs)
        if len(inputs) != required:
            names = ", ".join(port.name for port in self._inputs)
            raise InputError(f"required {required} inputs ({names}), found {len(inputs)}")

    def _require_numbers(self, nan: int) -> None:
        """Raise NumericDomainError where the native side has found a NaN, in the input of that place."""
        if nan >= 0:
            raise NumericDomainError(f"input {self._inputs[nan].name}: required numbers, found NaN")

    def _structured(self, outputs: list[np.ndarray]) -> Any:
        """The outputs as the model hands them back."""
        structure = self._structure
        if structure is None:
            return outputs[0]
        kind, detail = structure
        if kind == "dict":
            return dict(zip(detail, outputs, strict=True))
        return tuple(outputs) if kind == "tuple" else outputs


def levels() -> list[str]:
    """The instruction-set levels of this CPU, fastest first; the last is "scalar"."""
    return _native.levels()


def level_in_use(level: str | None = None) -> str:
    """The level that an Engine made with `level` runs at: that one, or UNFLOAT_ISA's, or the fastest.

    Raises:
        TypeError: It is no string.
    """
    if not isinstance(level, str | None):
        raise TypeError(f"level: required one of {levels()} or None, found {level!r}")
    chosen = level or os.environ.get(LEVEL_VARIABLE) or levels()[0]
    return chosen.encode(errors="replace").decode()  # bytes that are no text cannot be handed on, and name no level


def peak(threads: int = 1, level: str | None = None, seconds: float = 0.05) -> float:
    """Measure what this machine can do: multiply-accumulates a second of a level's instruction on registers alone.

    Args:
        threads: How many at a time.
        level: One of `levels()`; None as for an Engine.
        seconds: How long each thread tries; the best stretch counts.

    Returns:
        The sum over the threads; 0.0 for the level "scalar", which has no instruction of its own.

    Raises:
        TypeError: `threads` is no integer, or `level` no string.
        ValueError: There is no thread, or this CPU has no such level.
    """
    return _native.peak(level_in_use(level), _checked_threads(threads), seconds)


def _checked_threads(threads: Any) -> int:
    """A number of threads as the native side takes it: one of 32 bits, of which it says itself how many are too many."""
    is_integer = isinstance(threads, int | np.integer) and not isinstance(threads, bool)
    if not is_integer or not 0 < threads < 2**31:
        error = ValueError if is_integer else TypeError
        raise error(f"threads: required an integer, at least 1, found {threads!r}")
    return int(threads)


def _seen(port: Port, x: Any) -> np.ndarray:
    """An input as NumPy sees it."""
    try:
        return np.ascontiguousarray(x)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor of bfloat16, or one that requires a gradient
        raise InputError(f"input {port.name}: required what NumPy can see as an array, found {error}") from error


def _require(port: Port, x: np.ndarray, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raise InputError unless `x` has this dtype and shape, the batch aside."""
    if not isinstance(x, np.ndarray) or x.dtype != dtype or x.shape[1:] != shape[1:] or x.ndim != len(shape):
        required = ", ".join(["batch", *map(str, shape[1:])])
        found = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        real = isinstance(x, np.ndarray) and dtype == FLOAT != x.dtype
        hint = "; try: x.astype(numpy.float32)" if real else ""
        raise InputError(f"input {port.name}: required {dtype} of shape ({required}), found {found}{hint}")
