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
