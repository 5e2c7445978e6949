"""`unfloat quantize | run | bench | export | inspect | verify | compare | train`.

Exit codes: 0 done; 1 refused, with a message that says why; 2 the command line itself is wrong.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import unfloat
from unfloat.cli import bench as bench_plan
from unfloat.cli import show
from unfloat.cli.data import Batches, comparison_batches, find_inputs, read_inputs, read_model
from unfloat.cli.output import require_apart, require_output, save_arrays, write, wrote
from unfloat.cli.train import Training, Wishes
from unfloat.program.file import require_writable
from unfloat.program.program import Program
from unfloat.quant.recipe import Recipe
from unfloat.runtime.engine import Engine
from unfloat.spec.errors import ExportError, InputError, UnfloatError, UnsupportedError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="A network in, an integer-only network out: the same bits everywhere.",
)

ModelName = Annotated[str, typer.Argument(help="A .pt2 file, a float .tflite, or package.module:function.")]
ProgramPath = Annotated[Path, typer.Argument(metavar="PROGRAM", help="A .unfloat file, or a quantized .tflite.")]
Output = Annotated[
    str, typer.Option("-o", "--output", help="Where to write: .unfloat, .tflite, or a folder, ending in /, of C.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads; the result does not depend on them.")]
Level = Annotated[str | None, typer.Option(help="Force an instruction-set level, for example scalar.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(unfloat.__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What stands before a command."""


@app.command()
def quantize(
    model: ModelName,
    calibration: Annotated[Path, typer.Option(help="A folder of pictures, a .npz or a .npy.")],
    output: Output,
    recipe: Annotated[Path | None, typer.Option(help="A recipe in TOML.")] = None,
    as_json: Json = False,
) -> None:
    """Quantize a model after training and write the integer program."""
    wishes = Recipe.load(recipe) if recipe else Recipe()
    require_output(output, wishes)
    require_apart([output], [model, calibration, recipe])
    batches = Batches(calibration, wishes)
    if not as_json:
        show.console.print(wishes.to_toml(), style="dim", markup=False, highlight=False)
    with _printing_apart(as_json):
        program = unfloat.quantize(read_model(model), batches, wishes)
    write(program, output)
    certificate = program.verify()
    if as_json:
        _print_json({"output": output, "recipe": wishes.to_toml(), **show.certificate_record(certificate)})
        return
    show.certificate(certificate)
    show.console.print(wrote(output))


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="A .pt2 file, or package.module:function.")],
    data: Annotated[
        Path,
        typer.Option(
            help="A .npz (labels: y), a .npy, or a folder of pictures (labels: labels.csv, or a subfolder a class)."
        ),
    ],
    output: Output,
    recipe: Annotated[Path | None, typer.Option(help="A recipe in TOML.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How often to go through the data.")] = 5,
    batch: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 32,
    rate: Annotated[float | None, typer.Option(help="Learning rate of AdamW; 1e-4 if not given.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="self: learn from the float model; none: from labels, the default with labels.")
    ] = None,
    validation: Annotated[Path | None, typer.Option(help="Data to choose the best epoch by; as --data.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Where to write the state after each epoch.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint, if there is one.")] = False,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop when the validation score has not risen for so many epochs.")
    ] = None,
    gradient_clip: Annotated[float | None, typer.Option(help="The greatest norm of all gradients together.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of the data and of dropout.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a model with its integers, from labels or from the float model itself, and write the integer program."""
    wishes = Recipe.load(recipe) if recipe else Recipe()
    require_output(output, wishes)
    require_apart([output, checkpoint], [model, data, validation, recipe])
    if not as_json:
        show.console.print(wishes.to_toml(), style="dim", markup=False, highlight=False)
    stopping = (patience, gradient_clip)
    settled = Wishes(data, wishes, epochs, batch, rate, teacher, validation, checkpoint, resume, *stopping, seed)
    with _printing_apart(as_json):
        training = Training(model, settled)
    if not as_json:
        show.console.print(f"{training.samples.count} samples; the student learns from {training.teaches}")
    with _printing_apart(as_json):
        program, history = training.run()
    write(program, output)
    if as_json:
        certificate = show.certificate_record(program.verify())
        about = {"output": output, "recipe": wishes.to_toml(), "teacher": training.teaches}
        _print_json({**about, "measure": training.measure, "history": asdict(history), **certificate})
        return
    show.history(history, training.measure)
    show.certificate(program.verify())
    show.console.print(wrote(output))


@app.command()
def run(
    program: ProgramPath,
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, folders of pictures, or one .npz or .npy.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the outputs as .npz.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    labels: Annotated[Path | None, typer.Option(help="Class names, one a line.")] = None,
    threads: Threads = 1,
    level: Level = None,
    as_json: Json = False,
) -> None:
    """Run a program on pictures or arrays."""
    loaded = unfloat.load(program)
    files = find_inputs(inputs)
    if output is not None:
        require_writable(output)
    require_apart([output], [program, labels, *files])
    names = None if labels is None else _read_names(labels, loaded)
    results = _results(_compiled(loaded, threads, level), read_inputs(loaded, files))
    named = {port.name: result for port, result in zip(loaded.outputs, results, strict=True)}
    if output is not None:
        save_arrays(output, named)
    if _classifies(results):
        sources = [_source(file, inputs) for file in files]
        _show_classes(results[0], sources, names, top, as_json)
    else:
        _show_ranges(named, as_json)


@app.command()
def bench(
    program: ProgramPath,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs.")] = 50,
    batch: Annotated[int, typer.Option(min=1)] = 1,
    threads: Threads = 1,
    level: Level = None,
    profile: Annotated[bool, typer.Option(help="Show each layer's time, and where activations lie.")] = True,
    compare: Annotated[
        str | None,
        typer.Option(help="Other runtimes, in turns: ort=a.onnx,openvino=b.xml,litert=c.tflite,executorch=d.pte."),
    ] = None,
    python: Annotated[
        list[str] | None, typer.Option(help="A Python that has a runtime that this one lacks: ort=PATH; repeatable.")
    ] = None,
    turns: Annotated[int, typer.Option(min=2, help="Turns of each runtime that --compare names.")] = 11,
    plot: Annotated[Path | None, typer.Option(help="Write a picture of the layers' times, .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Time a program on this machine, on zeros: the whole, and each layer beside what the machine can do."""
    loaded = unfloat.load(program)
    if plot is not None:
        show.require_drawable(plot)
    require_apart([plot], [program])
    with bench_plan.peers_of(loaded, compare, python or []) as others:
        engine = _compiled(loaded, threads, level)
        record = bench_plan.timed(engine, loaded, runs, batch, level)
        layers = bench_plan.profiled(engine, loaded, batch, level) if profile or plot is not None else {}
        if profile:
            record |= layers
        if others:
            record["peers"] = bench_plan.compared(program, others, record, turns)
    if plot is not None:
        show.plot_layers({**record, **layers}, plot)
    if as_json:
        _print_json(record)
    else:
        show.timing(record, runs)


@app.command()
def export(
    program: ProgramPath,
    output: Annotated[str, typer.Argument(help="What to write: a .tflite file, or a folder, ending in /, of C.")],
    to: Annotated[str | None, typer.Option(help="The format, tflite or c, where the output does not say it.")] = None,
    float_border: Annotated[
        bool, typer.Option(help="tflite: float inputs and outputs, QUANTIZE and DEQUANTIZE at the border.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="c: prefix of all symbols and files; the folder's name if not given.")
    ] = None,
) -> None:
    """Write a program in another format."""
    require_apart([output], [program])
    options = {"float_border": float_border or None, "name": name}
    unfloat.load(program).export(output, to=to, **{key: value for key, value in options.items() if value is not None})
    show.console.print(wrote(output))


@app.command()
def inspect(program: ProgramPath, as_json: Json = False) -> None:
    """Show a program's border, recipe and instructions."""
    loaded = unfloat.load(program)
    rows = show.program_rows(loaded)
    ports = show.port_rows(loaded)
    if as_json:
        _print_json({**ports, "metadata": dict(loaded.metadata), "instructions": rows})
        return
    for kind, side in ports.items():
        for port in side:
            own, inside = (show.shape(port[key]) for key in ("own_shape", "shape"))
            show.console.print(f"{kind[:-1]} {port['name']}: {own}, inside {inside} {port['layout']}")
    if loaded.metadata.get("recipe"):
        show.console.print(loaded.metadata["recipe"], style="dim", markup=False, highlight=False)
    cells = [
        (
            r["name"],
            r["op"],
            "x".join(map(str, r["shape"])),
            r["dtype"],
            r["bits"],
            f"{r['scale']:.6g}",
            r["zero_point"],
            f"{r['constants']:,}",
        )
        for r in rows
    ]
    show.table(
        "instructions",
        ("layer", "op", "shape", "dtype", "bits", "scale", "zero point", "bytes"),
        cells,
        numeric=(4, 5, 6, 7),
    )


@app.command()
def verify(
    program: Annotated[
        Path, typer.Argument(metavar="PROGRAM", help="A .unfloat file, any .tflite, or a folder of exported C.")
    ],
    ranges: Annotated[bool, typer.Option(help="Show where every accumulator and every value can lie.")] = False,
    as_json: Json = False,
) -> None:
    """Prove a program, another tool's .tflite or exported C: integers only, no overflow; or say where floats are."""
    if program.is_dir():
        _verify_export(program, ranges, as_json)
        return
    try:
        certificate = unfloat.load(program).verify()
    except UnsupportedError:
        found = unfloat.survey(program) if program.suffix.lower() == ".tflite" else None
        if found is None or found.integer_only:
            raise
        if as_json:
            _print_json(show.survey_record(found))
        else:
            show.survey(found)
        raise typer.Exit(1) from None
    if as_json:
        _print_json(show.certificate_record(certificate))
    else:
        show.certificate(certificate, ranges=ranges)


@app.command()
def compare(
    model: ModelName,
    program: ProgramPath,
    data: Annotated[Path, typer.Option(help="A folder of pictures, a .npz or a .npy.")],
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many samples.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many layers the table shows; JSON has all.")] = 20,
    as_json: Json = False,
) -> None:
    """Find the layers that lose accuracy: each beside the float model, the worst first, and what to try."""
    loaded = unfloat.load(program)
    with _printing_apart(as_json):
        found = unfloat.compare(read_model(model), loaded, comparison_batches(loaded, data), limit=limit)
    if as_json:
        _print_json(found.record())
    else:
        show.comparison(found, top)


def _verify_export(folder: Path, ranges: bool, as_json: bool) -> None:
    if ranges:
        raise ExportError(f"{folder}: --ranges is of a .unfloat or .tflite file; a folder of C says nothing of them")
    found = unfloat.certify(folder)
    if as_json:
        _print_json(show.export_record(found))
    else:
        show.export_certificate(found)


def _compiled(program: Program, threads: int, level: str | None) -> Engine:
    try:
        return program.compile(threads, level)
    except ValueError as error:  # what the engine says of the options
        raise InputError(str(error)) from error


def _read_names(path: Path, program: Program) -> list[str]:
    try:
        names = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: required class names in UTF-8, one a line: {error}") from error
    shapes = [port.shape for port in program.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        found = " and ".join(map(show.shape, shapes))
        raise InputError(f"{path}: names are of a program with one output, a number for each class, found {found}")
    if len(names) != shapes[0][1]:
        raise InputError(f"{path}: required a name for each of {shapes[0][1]} classes, found {len(names)}")
    return names


def _classifies(results: list[np.ndarray]) -> bool:
    return len(results) == 1 and results[0].ndim == 2


def _results(engine: Engine, batches: Iterable[list[np.ndarray]]) -> list[np.ndarray]:
    """Each output for all samples, none of which knows of another batch's."""
    parts = []
    for batch in batches:
        engine.reset()
        parts.append(_as_list(engine(*batch)))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _as_list(result: Any) -> list[np.ndarray]:
    if isinstance(result, dict):
        return list(result.values())
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _source(file: Path, inputs: list[Path]) -> str:
    """How to call a file: by its way from the folder that was given, or by its name."""
    folder = next((path for path in inputs if path.is_dir() and file.is_relative_to(path)), file.parent)
    return str(file.relative_to(folder))


def _show_ranges(results: dict[str, np.ndarray], as_json: bool) -> None:
    records = [
        {"output": name, "shape": list(r.shape), "least": float(r.min()), "greatest": float(r.max())}
        for name, r in results.items()
    ]
    if as_json:
        _print_json(records)
    else:
        show.table("outputs", ("output", "shape", "least", "greatest"), [tuple(r.values()) for r in records])


def _show_classes(results: np.ndarray, sources: list[str], names: list[str] | None, top: int, as_json: bool) -> None:
    """The greatest outputs of each sample."""
    samples, rows = [], []
    for number, row in enumerate(results):
        best = np.argsort(-row, kind="stable")[:top]
        source = sources[number] if len(sources) == len(results) else f"sample {number}"
        classes = [{"class": int(c), "name": names[c] if names else "", "value": float(row[c])} for c in best]
        samples.append({"input": source, "top": classes})
        rows += [(source, c, names[c] if names else "", f"{row[c]:.4f}") for c in best]
    if as_json:
        _print_json(samples)
        return
    show.table("top classes", ("input", "class", "name", "value"), rows, numeric=(1, 3))


def _printing_apart(as_json: bool) -> AbstractContextManager[object]:
    """What a user's model prints goes to standard error where standard output is JSON."""
    return redirect_stdout(sys.stderr) if as_json else nullcontext()


def _print_json(record: Any) -> None:
    typer.echo(json.dumps(record, indent=2))


def main() -> None:
    """The entry point: errors for users are one message and exit code 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have letters that a terminal has not
    try:
        app()
    except (UnfloatError, OSError, MemoryError) as error:
        reason = "there is not enough memory" if isinstance(error, MemoryError) else repr(error)
        typer.secho(f"error: {str(error) or reason}", fg="red", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
