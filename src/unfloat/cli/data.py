"""What the command line is given: models, calibration data, inputs."""

from __future__ import annotations

import importlib
import inspect
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from unfloat.api import own_recipe
from unfloat.formats.pictures.read import find_pictures, in_model_layout, picture_batches, read_picture, require_size
from unfloat.program.file import require_file
from unfloat.program.program import Program
from unfloat.quant.recipe import Recipe
from unfloat.spec.errors import CalibrationError, MissingExtraError, RecipeError, UnfloatError

BATCH = 8
ARRAYS = (".npz", ".npy")
LABEL_NAMES = ("y", "label", "labels")
NO_SPEC = "is a folder of pictures: the recipe's [input] must say size, mean and std (pass --recipe)"
NO_PICTURES = "this Program does not say how pictures become inputs: give a .npz or .npy, or quantize with a recipe that has [input]"


class Batches:
    """Calibration batches that can be counted and gone through again."""

    def __init__(self, source: Path, recipe: Recipe) -> None:
        """Look at the source: a folder of pictures (needs the recipe's [input]), a .npz or a .npy."""
        self._spec = recipe.input
        self._arrays: dict[str, np.ndarray] | None = None
        self._label: str | None = None
        self._pictures: list[Path] = []
        if source.is_dir():
            if recipe.input is None:
                raise RecipeError(f"{source} {NO_SPEC}")
            self._pictures = find_pictures(source)
            self._count = len(self._pictures)
        else:
            self._arrays = read_arrays(source)
            lengths = {len(a) for a in self._arrays.values()}
            if len(lengths) != 1:
                raise CalibrationError(f"{source}: every array must have as many samples, found {sorted(lengths)}")
            self._count = lengths.pop()
            self._label = label_name(self._arrays)

    def __len__(self) -> int:
        """How many batches there are."""
        return -(-self._count // BATCH)

    def __iter__(self) -> Iterator[Any]:
        """One batch after the other."""
        if self._arrays is None:
            assert self._spec is not None
            yield from picture_batches(self._pictures, self._spec, BATCH)
            return
        for start in range(0, self._count, BATCH):
            yield self._batch({name: a[start : start + BATCH] for name, a in self._arrays.items()})

    def _batch(self, arrays: dict[str, np.ndarray]) -> Any:
        """One array, or several by name; one beside integer labels need not have the input's name."""
        if len(arrays) == 1:
            return next(iter(arrays.values()))
        if len(arrays) == 2 and self._label is not None and arrays[self._label].dtype.kind in "iu":
            labels = arrays.pop(self._label)
            return (*arrays.values(), labels)
        return arrays


def comparison_batches(program: Program, source: Path) -> Batches:
    """Batches as the recipe that travels with the Program makes them.

    Raises:
        CalibrationError: Pictures, but the Program does not say how they become inputs; or see `Batches`.
        RecipeError: The Program's recipe cannot be read.
    """
    recipe = own_recipe(program)
    if source.is_dir() and recipe.input is None:
        raise CalibrationError(f"{source} is a folder of pictures, and {NO_PICTURES}")
    return Batches(source, recipe)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz by name, or a .npy as one.

    Raises:
        CalibrationError: The file is neither, is damaged, or holds no samples.
    """
    if path.suffix.lower() not in ARRAYS or not path.is_file():
        raise CalibrationError(f"{path}: required a folder of pictures, a .npz or a .npy that exists")
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"x": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, KeyError, NotImplementedError, BadZipFile, zlib.error) as error:
        raise CalibrationError(f"{path}: cannot be read: {error}") from error
    if not arrays or any(a.ndim == 0 or not len(a) for a in arrays.values()):
        raise CalibrationError(f"{path}: required at least one array of at least one sample, found none")
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise CalibrationError(f"{path}: required arrays of numbers, found {name!r} of {array.dtype}")
    return arrays


def label_name(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Which of several arrays holds labels, None where none does."""
    named = [name for name in arrays if name in LABEL_NAMES]
    return named[0] if len(named) == 1 and len(arrays) > 1 else None


def find_inputs(paths: Sequence[Path]) -> list[Path]:
    """The files to run on: a folder stands for the pictures below it.

    Raises:
        CalibrationError: A folder has no pictures, or arrays are not alone.
        OSError: There is no such file, or it is a pipe or a device.
    """
    files = [file for path in paths for file in (find_pictures(path) if path.is_dir() else [path])]
    for file in files:
        require_file(file)
        if file.suffix.lower() in ARRAYS and len(files) > 1:
            raise CalibrationError(f"{file}: required pictures, or one .npz or .npy alone, found {len(files)} files")
    return files


def read_inputs(program: Program, files: Sequence[Path]) -> Iterator[list[np.ndarray]]:
    """Inputs for `engine(*x)`: arrays, floats as float32, or pictures through the Program's own recipe, some at a time.

    Args:
        program: What is to run.
        files: From `find_inputs`.

    Raises:
        CalibrationError: They are not what the Program takes, or cannot be read.
        RecipeError: The Program's recipe cannot be read.
    """
    if files[0].suffix.lower() in ARRAYS:
        named = _read_named(files[0], [port.name for port in program.inputs])
        yield [array.astype(np.float32) if array.dtype.kind == "f" else array for array in named]
        return
    recipe = own_recipe(program)
    if recipe.input is None or len(program.inputs) != 1:
        raise CalibrationError(NO_PICTURES)
    require_size(recipe.input, program.inputs[0])
    for start in range(0, len(files), BATCH):
        image = np.stack([read_picture(file, recipe.input) for file in files[start : start + BATCH]])
        yield [in_model_layout(image, program.inputs[0])]


def _read_named(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Arrays by the inputs' names; for one input also the only array beside labels, whatever it is called."""
    arrays = read_arrays(path)
    if all(name in arrays for name in names):
        return [arrays[name] for name in names]
    label = label_name(arrays)
    inputs = [array for name, array in arrays.items() if name != label]
    if len(names) != 1 or len(inputs) != 1:
        raise CalibrationError(f"{path}: required arrays named as the inputs, {list(names)}, found {sorted(arrays)}")
    return inputs


def read_model(name: str) -> Any:
    """A `.pt2` file (ExportedProgram), or `package.module:function` that returns a module; the current folder is searched.

    A module's class serves as a function does, and so does a module itself. The path of a float `.tflite` file is handed
    on as it is.

    Raises:
        UnfloatError: It cannot be loaded.
    """
    if name.lower().endswith(".tflite"):
        return Path(name)
    if name.lower().endswith(".pt2"):
        try:
            require_file(name)
            return import_torch().export.load(name)
        except MissingExtraError:
            raise
        except Exception as error:  # torch raises many kinds for a damaged archive
            raise UnfloatError(f"{name}: not a loadable .pt2 file: {error}") from error
    module_name, _, function = name.partition(":")
    if not module_name or not function:
        raise UnfloatError(f"MODEL must be a .pt2 file, a float .tflite or package.module:function, found {name!r}")
    if "/" in module_name or module_name.startswith(".") or module_name.endswith(".py"):
        plain = Path(module_name).name.removesuffix(".py").lstrip(".")
        advice = f"try {plain}:{function}, run in the folder that holds the module"
        raise UnfloatError(f"{name}: required a module's name, found a path: {advice}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # it stays, as what is made may import more when it is called
    try:
        make = _imported(name, module_name, function)
        is_made = hasattr(make, "state_dict") and not isinstance(make, type)  # a class has a state_dict too
        return _call(name, make) if callable(make) and not is_made else make
    except SystemExit as error:  # which would look as if all was done
        raise UnfloatError(f"{name}: it ended the process (sys.exit) instead of making a module") from error


def _imported(name: str, module_name: str, function: str) -> Any:
    try:
        return getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise UnfloatError(f"{name}: cannot be imported: {error}") from error


def _call(name: str, make: Callable[..., Any]) -> Any:
    """What a user's function or class makes; what it raises itself is the user's to see whole."""
    try:
        inspect.signature(make).bind()
    except ValueError:  # one written in C that says nothing of its arguments
        pass
    except TypeError as error:
        advice = "name a function that needs none and returns the module"
        raise UnfloatError(f"{name}: is called without arguments, but {error}; {advice}") from error
    return make()


def import_torch() -> Any:
    """PyTorch, or which extra to install: the command line runs Programs without it."""
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("this needs PyTorch", "torch") from error
