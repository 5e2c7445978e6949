"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from unfloat.program.program import Program
from unfloat.program.verify import Certificate

console = Console()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], numeric: Sequence[int] = ()) -> None:
    """Print a table; columns whose number is in `numeric` align to the right."""
    result = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        result.add_column(column, justify="right" if number in numeric else "left", overflow="fold")
    for row in rows:
        result.add_row(*map(str, row))
    console.print(result)


def certificate(found: Certificate) -> None:
    """The certificate's summary."""
    widest = found.widest
    rows: list[tuple[str, str]] = [
        ("instructions", f"{found.instructions}, none reads or writes a float"),
        ("multiply-accumulates a sample", f"{found.macs:,}"),
        ("constants", f"{found.constant_bytes:,} bytes"),
        (
            "accumulators",
            "none" if widest is None else f"at most {widest.bits} bits of 32 ({widest.name}): no overflow",
        ),
        ("SHA-256", found.digest),
    ]
    table("certificate", ("what", "proved"), rows)


def certificate_record(found: Certificate) -> dict[str, Any]:
    """The certificate for scripts."""
    return {
        "instructions": found.instructions,
        "integer_only": True,
        "macs": found.macs,
        "constant_bytes": found.constant_bytes,
        "accumulator_bits": {bound.name: bound.bits for bound in found.bounds},
        "sha256": found.digest,
    }


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
