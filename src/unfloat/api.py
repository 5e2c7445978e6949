"""The front door. This file alone sees every room; each room is imported when it is needed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unfloat.program.program import Program
from unfloat.spec.errors import ExportError, MissingExtraError, RecipeError, UnfloatError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from torch.export import ExportedProgram
    from torch.optim import Optimizer

    from unfloat.formats.c.certificate import ExportCertificate
    from unfloat.formats.tflite.survey import Survey
    from unfloat.quant.comparison import Comparison
    from unfloat.quant.objective import Loss
    from unfloat.quant.recipe import Recipe
    from unfloat.quant.student import Student
    from unfloat.quant.training_loop import History, Schedule, Validation
    from unfloat.runtime.engine import Engine


def quantize(
    model: nn.Module | ExportedProgram | str | Path,
    calibration: Iterable[Any],
    recipe: Recipe | None = None,
    *,
    progress: bool | None = None,
) -> Program:
    """Quantize a trained model after training: model and some data in, integer Program out.

    Args:
        model: Any `torch.export`-able module of supported operators, or an ExportedProgram. It is run as `eval()` and
            is not changed. Or the path of a float `.tflite` file, which takes its inputs as it did (NHWC).
        calibration: Batches of inputs as the model takes them, preprocessed: tensors or arrays, tuples whose first
            elements are the inputs, or dicts by input name. Of a tuple, what goes beyond the arguments of forward()
            that have no default is taken for labels, which are ignored: name an optional input in a dict. About 100
            samples serve.
        recipe: Scheme, bits, range rule, overrides; int8 by default.
        progress: Show progress bars on standard error; None shows them on a terminal.

    Returns:
        The verified Program.

    Raises:
        UnsupportedError: Operators Unfloat does not know, all of them listed.
        CalibrationError: The data are missing, of a wrong shape, not finite, or integers where no rows are chosen by
            them; floats of other widths are taken as float32.
        RecipeError: The recipe is no Recipe, or names layers that the model has not.
        NumericDomainError: Weights are not finite.
        OSError: There is no such `.tflite` file, or it cannot be read.
    """
    post_training = _room("unfloat.quant.post_training", "torch")
    reader = _reader_of(model)
    passes = _room("unfloat.passes", "torch")
    result: Program = post_training.quantize(model, calibration, _recipe(recipe), reader.read, passes.prepare, progress)
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
        RecipeError: The recipe is no Recipe, or names layers that the model has not.
        NumericDomainError: Weights are not finite.
        TrainingError: A name in the model is one that a student needs.
    """
    train = _room("unfloat.quant.train", "torch")
    reader = _room("unfloat.formats.torch.read", "torch")
    passes = _room("unfloat.passes", "torch")
    student: Student = train.prepare(
        model, example_inputs, _recipe(recipe), calibration, reader.read, passes.prepare, progress
    )
    return student


def fit(
    student: nn.Module,
    batches: Iterable[Any],
    *,
    epochs: int = 1,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    rate: float | None = None,
    schedule: Schedule | None = None,
    validation: Validation | None = None,
    teacher: nn.Module | None = None,
    temperature: float = 1.0,
    mix: float = 0.0,
    gradient_clip: float | None = None,
    accumulate: int = 1,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    patience: int | None = None,
    progress: bool | None = None,
) -> History:
    """Train a student: a small loop for those who have none of their own.

    Distillation needs no labels, inputs alone serve; the float model itself is the teacher:

        student = unfloat.prepare(model, example_inputs, calibration=batches)
        unfloat.fit(student, batches, epochs=5, teacher=model)

    Args:
        student: From `prepare`; DistributedDataParallel or torch.compile may have wrapped it. Its device is the data's.
            Left in `eval()`: with validation data as the best student, the one before training included.
        batches: Gone through once an epoch: a list, a DataLoader. Inputs as for `quantize`, followed by labels.
        epochs: How often.
        loss: Of (output, labels), or with a teacher of (output, teacher's output). Cross entropy of logits; with a
            teacher the Kullback-Leibler divergence of the softened logits.
        optimizer: AdamW by default; learned ranges (under "unfloat.") have no weight decay and a rate of their own, 3e-3.
        rate: The default optimizer's learning rate for all other parameters, 1e-4.
        schedule: The share of the rate at a share of the training, both 0 to 1, or an LRScheduler that is stepped
            after each step; a cosine with a short warm-up by default. `lambda progress: 1.0` keeps the rate.
        validation: Batches to score the student with after each epoch (accuracy; without labels agreement with the
            teacher; with a loss of your own, minus the loss), or a function of the student; higher is better.
        teacher: A float module on the student's device; it runs as `eval()` and is not changed.
        temperature: Softens the logits of both; above 1, improbable classes count for more.
        mix: With a teacher: the share of the labels' cross entropy in the loss, 0 to 1.
        gradient_clip: The greatest norm of all gradients together.
        accumulate: Batches a step.
        checkpoint: Where to write the run's state, before training and after each epoch; an interrupt leaves the last.
        resume: Go on from the checkpoint if there is one: the same run, bit for bit.
        patience: Stop when the score has not risen for so many epochs.
        progress: Show progress bars on standard error; None shows them on a terminal.

    Raises:
        TrainingError: It diverged, a setting cannot be meant, or batches, loss and checkpoint do not fit the student.
        CalibrationError: A batch's inputs are missing, have another shape or dtype, or are not finite.
        ExportError: The checkpoint cannot be written.
    """
    room = _room("unfloat.quant.fit", "torch")
    settings = room.Settings(epochs, accumulate, gradient_clip, patience)
    history: History = room.fit(
        student,
        batches,
        settings=settings,
        loss=loss,
        optimizer=optimizer,
        rate=rate,
        schedule=schedule,
        validation=validation,
        teacher=teacher,
        temperature=temperature,
        mix=mix,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
    return history


def convert(student: nn.Module) -> Program:
    """The Program of a student: the integers that its `eval()` computes.

    Args:
        student: From `prepare`, or what DistributedDataParallel, torch.compile or AveragedModel made of it.

    Raises:
        TrainingError: It is no student, or no range was observed yet.
    """
    result: Program = _room("unfloat.quant.train", "torch").convert(student)
    return result


def compare(
    model: nn.Module | ExportedProgram | str | Path,
    program: Program,
    data: Iterable[Any],
    *,
    limit: int | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Compare a Program with the float network it was made from: where is the noise born, and what to try.

    Args:
        model: What the Program was quantized from, also a float `.tflite` file. It is run as `eval()` and is not changed.
        program: Carries its recipe, as `quantize` makes it.
        data: Batches as for `quantize`; best not the calibration's own.
        limit: At most so many samples; None takes all.
        progress: Show progress bars on standard error; None shows them on a terminal.

    Returns:
        The signal-to-quantization-noise ratio of every value, the worst first, and the overrides to try.

    Raises:
        UnfloatError: The Program was not made from this model; the first difference is named. Or it is no Program.
        InputError: The limit is below 1.
        CalibrationError: The data are missing, of a wrong shape or dtype, or not finite.
    """
    if not isinstance(program, Program):
        found = f"{type(program).__name__} {program!r:.60}"
        raise UnfloatError(f"program: required a Program, found {found}; of a file, pass unfloat.load(path)")
    room = _room("unfloat.quant.compare", "torch")
    reader = _reader_of(model)
    passes = _room("unfloat.passes", "torch")
    result: Comparison = room.compare(model, program, data, reader.read, passes.prepare, limit, progress)
    return result


def load(path: str | Path) -> Program:
    """Read and verify a `.unfloat` file, or a quantized `.tflite` file, whoever made it.

    Raises:
        InvalidProgramError: The file is damaged or breaks a rule; the message says which.
        UnsupportedError: Operators of a `.tflite` file that a Program cannot hold, all of them listed.
        OSError: There is no such file, or it cannot be read.
    """
    if _suffix(path) == ".tflite":
        program: Program = _room("unfloat.formats.tflite.read", "tflite").read(path)
        return program
    from unfloat.program.file import load as load_file

    return load_file(path)


def survey(path: str | Path) -> Survey:
    """Is another tool's `.tflite` file integer-only? See `unfloat.formats.tflite.survey.survey`."""
    found: Survey = _room("unfloat.formats.tflite.survey", "tflite").survey(path)
    return found


def certify(folder: str | Path) -> ExportCertificate:
    """The certificate of a folder of C: unchanged since its export, and compiled, without floating point.

    Raises:
        ExportError: Unfloat did not export it, files are missing or changed, or an object holds floating point.
        MissingExtraError: arm-none-eabi-gcc is not installed.
    """
    from unfloat.formats.c.certificate import certify as certify_folder

    return certify_folder(folder)


def compile_program(program: Program, threads: int = 1, level: str | None = None) -> Engine:
    """Make an Engine; the same as `Program.compile`."""
    from unfloat.runtime.engine import Engine

    return Engine(program, threads, level)


def export(program: Program, path: str | Path, to: str | None = None, **options: Any) -> None:
    """Write a Program in another format, by the path's suffix; the same as `Program.export`.

    Raises:
        ExportError: There is no such format or option, the format cannot say what the Program says, or the path is not
            writable.
        InvalidProgramError: The Program breaks a rule.
        MissingExtraError: The packages of the extra `tflite` are not installed.
    """
    writer_for(path, to)(program, path, **options)


def writer_for(path: str | Path, to: str | None = None) -> Callable[..., None]:
    """What writes a format: "tflite", or "c" for a folder; long work asks before it begins.

    Args:
        path: Its suffix chooses the format, ".tflite"; a folder, or a path that ends in "/", is for C.
        to: The format's name, whatever the path.

    Raises:
        ExportError: There is no such format.
        MissingExtraError: The packages of the extra `tflite` are not installed.
    """
    writers: dict[str, Callable[..., None]] = {"tflite": _write_tflite, "c": _write_c}
    chosen = _format_of(path) if to is None else to
    if chosen not in writers:
        raise ExportError(f"{path}: required {', '.join(writers)}, found {chosen}")
    if chosen == "tflite":
        _room("unfloat.formats.tflite.write", "tflite")  # what it lacks shows before the work
    return writers[chosen]


def _format_of(path: str | Path) -> str:
    if str(path).endswith(("/", "\\")):
        return "c"
    if _suffix(path) == ".tflite":
        return "tflite"
    if not os.path.isdir(path):
        required = "the suffix .tflite, or a folder's path, which ends in /, for C"
        raise ExportError(f"{path}: required {required}, found {_suffix(path) or 'none'}")
    return "c"


def _write_tflite(program: Program, path: str | Path, **options: Any) -> None:
    _require_options("tflite", options, "float_border")
    _room("unfloat.formats.tflite.write", "tflite").write(program, path, **options)


def _require_options(to: str, options: dict[str, Any], *known: str) -> None:
    for option in options:
        if option not in known:
            raise ExportError(f"the format {to} takes the options {', '.join(known)}, found {option}")


def _write_c(program: Program, path: str | Path, **options: Any) -> None:
    _require_options("c", options, "name", "samples")
    from unfloat.formats.c.layer import Prepared
    from unfloat.formats.c.write import write

    try:
        picture = own_recipe(program).input
    except RecipeError as error:
        raise ExportError(str(error)) from error
    prepared = [Prepared(*layer) for layer in compile_program(program, level="scalar").layers()]
    write(program, path, prepared, picture=picture, **options)


def own_recipe(program: Program) -> Recipe:
    """The recipe that travels with a Program, or the default one; that of a file may be anything.

    Raises:
        RecipeError: It is no text, no TOML, or a field is amiss.
    """
    from unfloat.quant.recipe import Recipe

    text = program.metadata.get("recipe", "")
    try:
        if not isinstance(text, str):
            raise RecipeError(f"required text, found {text!r:.60}")
        return Recipe.from_toml(text)
    except RecipeError as error:
        raise RecipeError(f"cannot read the recipe that the Program carries: {error}") from error


def _recipe(wishes: Recipe | None) -> Recipe:
    """The wishes, or those of who says none.

    Raises:
        RecipeError: They are no Recipe: a path, or fields alone.
    """
    from unfloat.quant.recipe import Recipe

    if wishes is None:
        return Recipe()
    if not isinstance(wishes, Recipe):
        found = f"{type(wishes).__name__} {wishes!r}"
        raise RecipeError(f"recipe: required a Recipe, found {found}; of a file, pass Recipe.load(path)")
    return wishes


def _reader_of(model: Any) -> Any:
    """The room that reads a float model: a module, or a file by its suffix."""
    if not isinstance(model, str | os.PathLike):
        return _room("unfloat.formats.torch.read", "torch")
    if _suffix(model) != ".tflite":
        raise UnsupportedError(f"{model}: required a module, or a file with the suffix .tflite", [])
    return _room("unfloat.formats.tflite.read_float", "tflite")


def _suffix(path: str | os.PathLike[str]) -> str:
    return os.path.splitext(path)[1].lower()


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
        raise MissingExtraError.of(f"this needs the package {error.name}", extra) from error
