"""Programs as files that replay.cc reads, and replay.cc built for a machine."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.runtime.engine import native_program
from unfloat.spec.qparams import STORAGE

ROOT = Path(__file__).parents[2]
DTYPES = {"int8": 0, "uint8": 1, "int32": 2, "int16": 3, "int64": 4}  # DType of csrc/engine/instruction.h


def build(
    folder: Path, arm: bool = False, program: str = "replay", sanitizer: str = "", emulated: bool = False
) -> Path:
    """Compile the engine and one of the programs beside this file; its path.

    Args:
        folder: CMake's.
        arm: For 64-bit Arm instead of this machine.
        program: "replay" or "soak".
        sanitizer: For example "thread" or "address,undefined".
        emulated: With every level of x86, whatever this machine has.
    """
    prefix = _prefix(arm)
    compilers = [f"-DCMAKE_C_COMPILER={prefix}gcc", f"-DCMAKE_CXX_COMPILER={prefix}g++"]
    target = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"] if arm else []
    options = ["-DUNFLOAT_PYTHON=OFF", "-DCMAKE_BUILD_TYPE=Release", f"-DUNFLOAT_SANITIZE={sanitizer}"]
    options += ["-DUNFLOAT_EMULATED=ON"] if emulated else []
    _run("cmake", "-S", str(ROOT), "-B", str(folder), *options, *target, *compilers)
    _run("cmake", "--build", str(folder), "--parallel", "2", "--target", "unfloat_engine")
    return link(folder, arm, program, sanitizer)


def link(folder: Path, arm: bool = False, program: str = "replay", sanitizer: str = "") -> Path:
    """Compile a program against the engine in a CMake folder; its path. An emulator finds it complete."""
    include = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}"]
    how = [f"-fsanitize={sanitizer}"] if sanitizer else ["-static"] if arm else []
    threads = ["-Wl,--whole-archive", "-lpthread", "-Wl,--no-whole-archive"] if arm else ["-pthread"]
    source, library = Path(__file__).with_name(f"{program}.cc"), folder / "libunfloat_engine.a"
    command = ["-std=c++17", "-O2", *how, *include, str(source), "-o", str(folder / program), str(library), *threads]
    _run(f"{_prefix(arm)}g++", *command)
    return folder / program


def write(program: Program, batches: Sequence[int], path: Path) -> None:
    """The Program, with inputs for each batch and the interpreter's answers, as replay.cc reads them."""
    tensors, instructions, inputs, outputs, arena = native_program(program)
    out = [_number(len(tensors))]
    for shape, dtype, offset, data in tensors:
        out += [
            _numbers(shape),
            _number(DTYPES[dtype]),
            _number(offset),
            _data(b"" if data is None else data.tobytes()),
        ]
    out.append(_number(len(instructions)))
    for op, name, operands, result, attributes, constants in instructions:
        out += [_text(op), _text(name), _numbers(operands), _number(result), _number(len(attributes))]
        for key, value in attributes.items():
            out += [_text(key), _attribute(value)]
        out.append(_number(len(constants)))
        for key, array in constants.items():
            out += [_text(key), _number(DTYPES[array.dtype.name]), _numbers(array.shape), _data(array.tobytes())]
    out += [_numbers(inputs), _numbers(outputs), _number(arena), _number(len(batches))]
    for batch in batches:
        codes = random_codes(program, batch)
        answers = interpret(program, codes)
        out += [_number(batch), *_arrays(codes), *_arrays(answers)]
    path.write_bytes(b"".join(out))


def random_codes(program: Program, batch: int) -> list[np.ndarray]:
    """Inputs that use every code."""
    rng = np.random.default_rng(batch)
    found = []
    for port in program.inputs:
        dtype = STORAGE[program.tensors[port.value].qparams.dtype]
        limits = np.iinfo(dtype)
        found.append(rng.integers(limits.min, limits.max + 1, (batch, *port.shape[1:])).astype(dtype))
    return found


def _prefix(arm: bool) -> str:
    return "aarch64-linux-gnu-" if arm else ""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _number(value: int) -> bytes:
    return struct.pack("<q", value)


def _numbers(values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values) + 1}q", len(values), *values)


def _data(data: bytes) -> bytes:
    return _number(len(data)) + data


def _text(value: str) -> bytes:
    return _data(value.encode())


def _arrays(arrays: Sequence[np.ndarray]) -> list[bytes]:
    return [_number(len(arrays)), *(_data(np.ascontiguousarray(array).tobytes()) for array in arrays)]


def _attribute(value: object) -> bytes:
    if isinstance(value, str):
        return _number(2) + _text(value)
    if isinstance(value, (tuple, list)):
        return _number(1) + _numbers([int(v) for v in value])
    assert isinstance(value, (int, np.integer))
    return _number(0) + _number(int(value))
