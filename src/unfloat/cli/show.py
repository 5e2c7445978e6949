"""Tables for people."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from unfloat.ir.graph import own_output_shape, own_shape
from unfloat.program.certificate import Certificate
from unfloat.program.file import require_writable, write_atomically
from unfloat.program.program import Program
from unfloat.quant.comparison import Comparison, SiteComparison
from unfloat.spec.errors import ExportError, MissingExtraError

if TYPE_CHECKING:
    from unfloat.formats.c.certificate import ExportCertificate
    from unfloat.formats.tflite.survey import Survey
    from unfloat.quant.training_loop import History

console = Console(markup=False, emoji=False)  # names come from files: "[/x]" is one, and so is ":x:"


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    numeric: Sequence[int] = (),
    whole: Sequence[int] = (),
) -> None:
    """Print a table; columns whose number is in `numeric` align to the right, those in `whole` fold last."""
    result = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if number in numeric else "left"
        result.add_column(column, justify=justify, overflow="fold", no_wrap=number in whole)
    for row in rows:
        result.add_row(*map(str, row))
    console.print(result)


def certificate(found: Certificate, *, ranges: bool = False) -> None:
    """The certificate's summary, and on request where every value lies."""
    widest = found.widest
    overflow = "none"
    if widest is not None:
        overflow = (
            f"at most {widest.bits} bits of {widest.limit} ({widest.name}): no overflow, {widest.margin} to spare"
        )
    rows: list[tuple[str, str]] = [
        ("instructions", f"{found.instructions}, none reads or writes a float"),
        *(
            (f"border, {c.role}", f"{c.name}: {c.dtype}, scale {c.scale:.6g}, zero at {c.zero_point}")
            for c in found.border
        ),
        ("multiply-accumulates a sample", f"{found.macs:,}"),
        ("constants", f"{found.constant_bytes:,} bytes"),
        ("accumulators", overflow),
        ("rounding", ", ".join(found.roundings) or "none"),
        ("SHA-256 of the program", found.digest),
        ("SHA-256 of its bits' meaning", found.identity),
    ]
    table("certificate", ("what", "proved"), rows)
    if ranges:
        _ranges(found)


def _ranges(found: Certificate) -> None:
    bounds = {bound.name: bound for bound in found.bounds}
    cells = []
    for value in found.ranges:
        bound = bounds.get(value.name)
        sums = ("", "") if bound is None else (f"[{bound.least}, {bound.greatest}]", str(bound.margin))
        reals = f"[{value.real_least:.5g}, {value.real_greatest:.5g}]"
        cells.append((value.name, value.op, *sums, f"{value.dtype} [{value.least}, {value.greatest}]", reals))
    table("ranges", ("value", "op", "accumulator", "bits to spare", "codes", "stands for"), cells, numeric=(3,))


def certificate_record(found: Certificate) -> dict[str, Any]:
    """The certificate for scripts."""
    return {
        "instructions": found.instructions,
        "integer_only": True,
        "border": [asdict(crossing) for crossing in found.border],
        "macs": found.macs,
        "constant_bytes": found.constant_bytes,
        "accumulators": [{**asdict(bound), "bits": bound.bits, "margin": bound.margin} for bound in found.bounds],
        "tightest": None if found.widest is None else found.widest.name,
        "ranges": [asdict(value) for value in found.ranges],
        "roundings": list(found.roundings),
        "sha256": found.digest,
        "identity": found.identity,
    }


def export_certificate(found: ExportCertificate) -> None:
    """What was proved of a folder of C."""
    rows = [("files", f"{found.files}, each as it was exported"), ("compiler", found.compiler)]
    for core in found.cores:
        what = f"{core.objects} objects, {core.instructions:,} instructions: none of floating point"
        rows.append((core.core, f"{what}, no call of a software float"))
        rows.append(("", f"calls outside: {', '.join(core.calls) or 'none'}"))
    for name, network in found.networks.items():
        code = found.code_bytes[name]
        flash = f"{network.weight_bytes:,} bytes of constants"
        flash += "" if code is None else f" + {code:,} of code on a Cortex-M4"
        rows += [
            (f"{name}: flash", flash),
            (f"{name}: RAM", f"{network.arena_bytes:,} bytes of arena, {network.state_bytes:,} of states"),
            (f"{name}: multiply-accumulates", f"{network.macs:,}"),
            (f"{name}: SHA-256 of the program", network.program),
            (f"{name}: SHA-256 of its bits' meaning", network.identity),
        ]
    table("certificate", ("what", "proved"), rows)


def export_record(found: ExportCertificate) -> dict[str, Any]:
    """The same for scripts."""
    networks = {
        name: {
            "sha256": network.program,
            "identity": network.identity,
            "macs": network.macs,
            "constant_bytes": network.weight_bytes,
            "code_bytes": found.code_bytes[name],
            "arena_bytes": network.arena_bytes,
            "state_bytes": network.state_bytes,
        }
        for name, network in found.networks.items()
    }
    return {
        "integer_only": True,
        "networks": networks,
        "files": found.files,
        "compiler": found.compiler,
        "cores": [asdict(core) for core in found.cores],
    }


def survey(found: Survey) -> None:
    """Where a file computes with floats."""
    console.print(f"not integer-only: {len(found.islands)} of {found.operators} operators compute with floats")
    cells = [(place.index, place.builtin, place.output, f"{place.dtype} in {place.tensor}") for place in found.islands]
    table("floats", ("operator", "what", "makes", "found"), cells, numeric=(0,))


def survey_record(found: Survey) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "integer_only": found.integer_only,
        "operators": found.operators,
        "border": [asdict(place) for place in found.border],
        "islands": [asdict(place) for place in found.islands],
    }


def port_rows(program: Program) -> dict[str, list[dict[str, Any]]]:
    """The border: each input's and output's shape in the model's own layout, as `run` takes it, and inside."""
    sides = {
        "inputs": [(port, own_shape(port)) for port in program.inputs],
        "outputs": [(port, own_output_shape(port)) for port in program.outputs],
    }
    return {
        kind: [{"name": p.name, "own_shape": list(own), "shape": list(p.shape), "layout": p.layout} for p, own in side]
        for kind, side in sides.items()
    }


def shape(sizes: Sequence[int]) -> str:
    """A shape for people: any number of samples."""
    return f"[{', '.join(('n', *map(str, sizes[1:])))}]"


def program_rows(program: Program) -> list[dict[str, Any]]:
    """One record for each instruction."""
    rows = []
    for instruction in program.instructions:
        tensor = program.tensors[instruction.name]
        label = tensor.qparams
        rows.append(
            {
                "name": instruction.name,
                "op": instruction.op,
                "inputs": list(instruction.inputs),
                "shape": list(tensor.shape[1:]),
                "dtype": label.dtype,
                "bits": label.bits,
                "scale": label.scale[0],
                "zero_point": label.zero_point,
                "constants": sum(a.nbytes for a in instruction.constants.values()),
            }
        )
    return rows


def comparison(found: Comparison, top: int) -> None:
    """The worst sites, the outputs, and what to paste into a recipe."""
    columns = ("layer", "op", "bits", "SQNR dB", "own dB", "clipped", "max |x|")
    table("the most noise of its own first", columns, [_site_cells(s) for s in found.sites[:top]], numeric=range(2, 7))
    if len(found.sites) > top:
        console.print(f"{len(found.sites) - top} more: --top {len(found.sites)}")
    rows = [
        (o.name, f"{o.sqnr_db:.1f}", "" if o.same_argmax is None else f"{o.same_argmax:.2%}") for o in found.outputs
    ]
    table(f"outputs, {found.samples} samples", ("output", "SQNR dB", "same greatest"), rows, numeric=(1, 2))
    advised = [(s.name, s.cause, s.advice) for s in found.sites if s.advice]
    if advised:
        table("what to try", ("layer", "most noise from", "try"), advised)
    if found.overrides():
        console.print("at the end of the recipe:\n")
        console.print(found.to_toml(), markup=False, highlight=False, soft_wrap=True)


def _site_cells(site: SiteComparison) -> tuple[str, ...]:
    bits = f"{site.bits}" if site.weight_bits is None else f"{site.bits}, w {site.weight_bits}"
    ratios = (f"{site.sqnr_db:.1f}", f"{site.own_sqnr_db:.1f}", f"{site.clipped_share:.2%}", f"{site.max_abs:.4g}")
    return (site.name, site.op, bits, *ratios)


def history(found: History, measure: str) -> None:
    """Each epoch's loss and score, and which epoch's student was kept."""
    judged = found.best is not None
    rows = [("before", "", f"{found.before:.4f}", "")] if found.before is not None else []
    for i, (loss, seconds) in enumerate(zip(found.loss, found.seconds, strict=True)):
        rows.append((str(i + 1), f"{loss:.4g}", f"{found.score[i]:.4f}" if judged else "", f"{seconds:.1f}"))
    if judged:
        table("training", ("epoch", "loss", measure, "seconds"), rows, numeric=(1, 2, 3))
        assert found.best is not None
        kept = f"after epoch {found.best}" if found.best else "before training"
        console.print(f"kept the student {kept}: {measure} {found.score_of(found.best):.4f}")
    else:
        table("training", ("epoch", "loss", "seconds"), [(e, x, t) for e, x, _, t in rows], numeric=(1, 2))
        console.print(f"loss of the last epoch: {found.loss[-1]:.4g}; give --validation to measure and keep the best")


MAP_WIDTH = 40  # characters of the arena's map, fewer in a narrow terminal
MAP_LEAST = 10
BESIDE_MAP = 50  # the other columns


def timing(record: Mapping[str, Any], runs: int) -> None:
    """What `unfloat bench` has measured."""
    how = f"{runs} runs, {record['threads']} threads, batch {record['batch']}, {record['level']}"
    console.print(f"median {record['median_ms']:.3f} ms, least {record['least_ms']:.3f} ms ({how})")
    if "peers" in record:
        _peers(record["peers"])
    if "layers" not in record:
        return
    peak = record["peak_macs_per_second"]
    rows = [_layer_row(layer, peak) for layer in record["layers"]]
    spent, macs = (sum(layer[key] for layer in record["layers"]) for key in ("microseconds", "macs"))
    rows.append(_layer_row({"name": "all", "kernel": "", "microseconds": spent, "macs": macs}, peak))
    table("layers", ("layer", "kernel", "us", "MMAC", "GMAC/s", "peak"), rows, numeric=(2, 3, 4, 5))
    if peak:
        console.print(f"the machine's peak, measured: {peak / 1e9:.1f} GMAC/s")
    _arena(record["arena"])


def _layer_row(layer: Mapping[str, Any], peak: float) -> tuple[str, ...]:
    rate = layer["macs"] / (layer["microseconds"] * 1e-6) if layer["microseconds"] else 0.0
    work = (f"{layer['macs'] / 1e6:.2f}", f"{rate / 1e9:.1f}") if layer["macs"] else ("", "")
    share = f"{rate / peak:.0%}" if layer["macs"] and peak else ""
    return layer["name"], layer["kernel"], f"{layer['microseconds']:.1f}", *work, share


def _peers(records: Sequence[Mapping[str, Any]]) -> None:
    """The engine beside other runtimes: below 1, the engine is faster."""
    rows = [
        (
            record["runtime"],
            record["version"],
            f"{record['median_ms']:.3f}",
            f"{record['ratio']:.3f}",
            "{:.3f} to {:.3f}".format(*record["ratio_quartiles"]),
        )
        for record in records
    ]
    title = f"in turns, {records[0]['turns']} each"
    table(title, ("runtime", "version", "ms", "engine's time over it", "quartiles"), rows, numeric=(2, 3, 4))


def require_drawable(path: Path) -> None:
    """Refuse before anything is timed a picture that could not be drawn after it.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ExportError: The path cannot be written, or its suffix is none that matplotlib knows.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError.of("drawing needs matplotlib", "plot") from error
    known = sorted(Figure().canvas.get_supported_filetypes())
    if _drawing_format(path) not in known:
        required = ", ".join(f".{name}" for name in known)
        raise ExportError(f"cannot draw {path}: required a suffix among {required}, found {path.suffix}")
    require_writable(path)


def _drawing_format(path: Path) -> str:
    return path.suffix[1:].lower() or "svg"


def plot_layers(record: Mapping[str, Any], path: Path) -> None:
    """Draw each layer's time as a bar, from the first to the last; the same time at the machine's peak inside of it."""
    from matplotlib.figure import Figure

    layers, peak = record["layers"], record["peak_macs_per_second"]
    figure = Figure(figsize=(8, 1 + 0.2 * len(layers)), layout="constrained")
    axes = figure.add_subplot()
    names = [f"{layer['name']}  {layer['kernel']}" for layer in layers]
    axes.barh(names, [layer["microseconds"] for layer in layers], color="#9ecae1", label="measured")
    if peak:
        axes.barh(names, [1e6 * layer["macs"] / peak for layer in layers], color="#08519c", label="at the peak")
        axes.legend()
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.tick_params(axis="y", labelsize=6)
    axes.set_xlabel("µs")
    axes.set_title(f"{record['median_ms']:.3f} ms, {record['threads']} threads, {record['level']}")
    drawing = io.BytesIO()
    figure.savefig(drawing, format=_drawing_format(path))
    write_atomically(path, drawing.getvalue())


def _arena(arena: Mapping[str, Any]) -> None:
    """Where each activation lies, and from which instruction to which."""
    size = max(arena["bytes"], 1)
    width = min(MAP_WIDTH, max(MAP_LEAST, console.width - BESIDE_MAP))
    rows = []
    for tensor in arena["tensors"]:
        begin = tensor["offset"] * width // size
        end = max(-(-(tensor["offset"] + tensor["bytes"]) * width // size), begin + 1)
        drawn = "." * begin + "#" * (end - begin) + "." * (width - end)
        rows.append((tensor["name"], f"{tensor['first']} to {tensor['last']}", f"{tensor['bytes']:,}", drawn))
    table(
        f"arena, {arena['bytes']:,} bytes a sample",
        ("activation", "instructions", "bytes", "where"),
        rows,
        (2,),
        (1, 2, 3),
    )
