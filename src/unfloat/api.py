"""The front door. This file alone sees every room; each room is imported when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unfloat.program.program import Program
from unfloat.quant.recipe import Recipe
from unfloat.spec.errors import ExportError, MissingExtraError

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from unfloat.quant.student import Student
    from unfloat.runtime.engine import Engine


def quantize(
    model: nn.Module | ExportedProgram,
    calibration: Iterable[Any],
    recipe: Recipe | None = None,
    *,
    progress: bool | None = None,
) -> Program:
    """Quantize a trained model after training: model and some data in, integer Program out.

    Args:
        model: Any `torch.export`-able module of supported operators, or an ExportedProgram. It is run as `eval()` and
            is not changed.
        calibration: Batches of inputs as the model takes them, preprocessed: tensors or arrays, tuples whose first
            elements are the inputs (labels are ignored), or dicts by input name. About 100 samples serve.
        recipe: Scheme, bits, range rule, overrides; int8 by default.
        progress: Show progress bars on standard error; None shows them on a terminal.

    Returns:
        The verified Program.

    Raises:
        UnsupportedError: Operators Unfloat does not know, all of them listed.
        CalibrationError: The data are missing, of a wrong shape or dtype, or not finite.
        NumericDomainError: Weights are not finite.
    """
    post_training = _room("unfloat.quant.post_training", "torch")
    reader = _room("unfloat.formats.torch.read", "torch")
    passes = _room("unfloat.passes", "torch")
    result: Program = post_training.quantize(
        model, calibration, recipe or Recipe(), reader.read, passes.prepare, progress
    )
    return result


def prepare(
    model: nn.Module,
    example_inputs: Any,
    recipe: Recipe | None = None,
    calibration: Iterable[Any] | None = None,
    *,
    progress: bool | None = None,
) -> Student:
    """Make a student of a model: train it as ever, and `convert` it to the integers that its `eval()` computes.

    Args:
        model: Any `torch.export`-able module of supported operators. It is copied, not changed.
        example_inputs: What the model is called with: a tensor, a tuple of arguments, or a dict by name.
        recipe: Scheme, bits, `training`; int8 by default.
        calibration: Batches from which the first ranges come (see `quantize`); the example inputs where there are none.
        progress: Show progress bars on standard error; None shows them on a terminal.

    Returns:
        A module with the model's parameter names, call and output structure. Its `eval()` output is the Program's,
        dequantized, and carries no gradient.

    Raises:
        UnsupportedError: Operators Unfloat does not know, all of them listed.
        CalibrationError: The data are missing, of a wrong shape or dtype, or not finite.
        TrainingError: A name in the model is one that a student needs.
    """
    train = _room("unfloat.quant.train", "torch")
    reader = _room("unfloat.formats.torch.read", "torch")
    passes = _room("unfloat.passes", "torch")
    student: Student = train.prepare(
        model, example_inputs, recipe or Recipe(), calibration, reader.read, passes.prepare, progress
    )
    return student


def convert(student: nn.Module) -> Program:
    """The Program of a student: the integers that its `eval()` computes.

    Args:
        student: From `prepare`, or what DistributedDataParallel, torch.compile or AveragedModel made of it.

    Raises:
        TrainingError: It is no student, or no range was observed yet.
    """
    result: Program = _room("unfloat.quant.train", "torch").convert(student)
    return result


def load(path: str | Path) -> Program:
    """Read and verify a `.unfloat` file; see `unfloat.program.file.load`."""
    from unfloat.program.file import load as load_file

    return load_file(path)


def compile_program(program: Program, threads: int = 1, level: str | None = None) -> Engine:
    """Make an Engine; the same as `Program.compile`."""
    from unfloat.runtime.engine import Engine

    return Engine(program, threads, level)


def export(program: Program, path: str | Path, **options: Any) -> None:
    """Write a Program in another format, by the path's suffix; the same as `Program.export`.

    Raises:
        ExportError: No format has this suffix, the format cannot say what the Program says, or the path is not writable.
    """
    writers: dict[str, Callable[..., None]] = {".tflite": _write_tflite}
    suffix = Path(path).suffix
    if suffix not in writers:
        raise ExportError(f"{path}: required a suffix among {', '.join(writers)}, found {suffix or 'none'}")
    writers[suffix](program, path, **options)


def _write_tflite(program: Program, path: str | Path, **options: Any) -> None:
    _room("unfloat.formats.tflite.write", "tflite").write(program, path, **options)


def _room(name: str, extra: str) -> Any:
    """Import a room that needs an optional dependency, or say which one to install."""
    with _naming_extra(extra):
        return importlib.import_module(name)


@contextmanager
def _naming_extra(extra: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("unfloat"):
            raise
        raise MissingExtraError(f"this needs the package {error.name}: pip install 'unfloat[{extra}]'") from error
