"""Times the fastest kernels on the layers of real networks against a cycle model: compiles and runs bench.c.

python -m benchmarks.kernels.bench [network] [repetitions]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.kernels import _build


def main() -> int:
    """Compile, run, and pass the exit code on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, program = Path(__file__).with_name("bench.c"), folder / "bench"
        objects = [str(path) for path in _build.objects(folder)]
        line = [*_build.compiler(folder), *_build.level_flags(), str(source), *objects, "-o", str(program)]
        subprocess.run(line, check=True)
        return subprocess.run([str(program), *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
