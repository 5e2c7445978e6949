"""Result pages: what was measured, on what, by which command. Written to docs/results/."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "docs" / "results"


def write(
    name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = ()
) -> None:
    """Write docs/results/<name>.md and print it."""
    lines = [
        f"# {title}",
        "",
        f"`{command()}`",
        "",
        machine(),
        "",
        *table(columns, rows),
    ]
    lines += ["", *notes] if notes else []
    text = "\n".join(lines) + "\n"
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.md").write_text(text)
    print(text)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table's lines."""
    return [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]


def command() -> str:
    """The command line that made the results."""
    module = ".".join(Path(sys.argv[0]).resolve().relative_to(FOLDER.parents[1]).with_suffix("").parts)
    module = module.removesuffix(".__main__")
    return " ".join(["python -m", module, *sys.argv[1:]])


def machine() -> str:
    """Commit, CPU, day. Virtual machines name a CPU's maker at best, so its family and model are there too."""
    known = {name.strip(): fact.strip() for name, _, fact in (line.partition(":") for line in _cpuinfo())}
    cpu = known.get("model name", platform.processor())
    if "cpu family" in known:
        cpu += f" (family {known['cpu family']}, model {known['model']})"
    day = datetime.now(tz=timezone.utc).date()
    return f"Commit {commit()}; {cpu}, {_cores()} cores; Python {platform.python_version()}; {day}."


def commit() -> str:
    """The commit that is checked out."""
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _cores() -> int:
    return sum(line.startswith("processor") for line in _cpuinfo())


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
