"""Where a command writes: looked at before long work, written after it."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unfloat.api import writer_for
from unfloat.program.file import require_writable, write_atomically
from unfloat.program.program import Program
from unfloat.quant.recipe import Recipe
from unfloat.spec.errors import ExportError, UnfloatError

PROGRAM = ".unfloat"


def require_output(output: str, recipe: Recipe) -> None:
    """Refuse before long work what could not be written after it.

    Raises:
        ExportError: There is no such format, the path cannot be written, or the format cannot say what the recipe asks for.
        MissingExtraError: The packages of the extra `tflite` are not installed.
    """
    path = Path(output)
    is_folder = output.endswith("/")
    suffix = path.suffix.lower()
    if suffix == PROGRAM and is_folder:
        raise ExportError(f"cannot write {output}: required a file's path, found one that ends in /")
    if suffix != PROGRAM:
        writer_for(output)
    if is_folder or (path.is_dir() and suffix not in (PROGRAM, ".tflite")):
        _require_fillable(path)
        return
    require_writable(path)
    if suffix == ".tflite" and recipe.rounding == "single" and recipe.scheme != "int16x8":
        raise ExportError(
            f'cannot write {output}: required rounding = "double" in the recipe, which TFLite\'s kernels have, found "single"'
        )


def _require_fillable(folder: Path) -> None:
    """Raise ExportError unless a folder, or the one in which it will be made, takes files."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ExportError(f"cannot write {folder}/: {existing}: {error.strerror}; choose another folder") from error


def require_apart(written: Sequence[str | Path | None], read: Sequence[str | Path | None]) -> None:
    """Refuse to write over what a command reads, or two results to one place.

    Raises:
        ExportError: Two paths lead to the same place, whatever they are called.
    """
    taken = {os.path.realpath(path) for path in read if path is not None}
    for path in written:
        if path is None:
            continue
        place = os.path.realpath(path)
        if place in taken:
            raise ExportError(
                f"cannot write {path}: this command reads it, or writes something else there: choose another"
            )
        taken.add(place)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as .npz, whatever their names: `np.savez` has arguments that would take some of them.

    Raises:
        ExportError: The path cannot be written.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def write(program: Program, output: str) -> None:
    """Write a Program; where another format cannot say it, keep what long work has made beside it.

    Raises:
        ExportError: The path cannot be written, or the format cannot say what the Program says.
    """
    if Path(output).suffix.lower() == PROGRAM:
        program.save(output)
        return
    try:
        program.export(output)
    except (UnfloatError, OSError) as error:
        kept = f"{output.rstrip('/')}.kept{PROGRAM}"  # a name that nothing else has
        try:
            program.save(kept)
        except ExportError:
            raise error from None
        raise ExportError(f"{error}; the program itself is kept as {kept}") from error


def wrote(output: str) -> str:
    """What was written, for people."""
    path = Path(output)
    files = [path]
    if path.is_dir():  # which may hold more than what was exported
        from unfloat.formats.c.manifest import read

        files = [path / name for name in read(path).files]
    return f"wrote {output} ({sum(file.stat().st_size for file in files):,} bytes)"
