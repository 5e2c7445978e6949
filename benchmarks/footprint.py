"""Size, start-up and calibration cost.

python -m benchmarks.footprint
"""

from __future__ import annotations

import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from benchmarks import data, results
from benchmarks.accuracy import BATCH, CALIBRATION, STATISTICS, batches
from benchmarks.networks import NETWORKS, PRETRAINED

import unfloat

ROOT = Path(__file__).parent.parent
FIRST_ANSWER = """
import sys, time
start = time.perf_counter()
import numpy as np, unfloat
imported = time.perf_counter()
engine = unfloat.load(sys.argv[1]).compile()
engine(np.zeros([1, 3, 224, 224], np.float32))
end = time.perf_counter()
print(end - imported, end - start, "torch" in sys.modules)
"""
ROUNDS = 5


def size_row(name: str, folder: Path) -> list[object]:
    """The .unfloat file beside the float32 state_dict."""
    network = NETWORKS[name]
    model = PRETRAINED[name].build() if name in PRETRAINED else network.random(seed=1)
    x = torch.randn(2, *network.input_shape, generator=torch.Generator().manual_seed(0))
    path = folder / f"{name}.unfloat"
    unfloat.quantize(model, [x], unfloat.Recipe(bias_correction=False)).save(path)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    before, after = buffer.getbuffer().nbytes, path.stat().st_size
    return [
        f"{name}: .unfloat against float32 state_dict",
        f"{after:,} of {before:,} bytes",
        f"{before / after:.2f} x smaller",
    ]


def start_row(path: Path) -> list[object]:
    """Loading a file and the first answer, without PyTorch; and the same with the imports before it."""
    times = []
    for _ in range(ROUNDS):
        code = [sys.executable, "-c", FIRST_ANSWER, str(path)]
        line = subprocess.run(code, capture_output=True, text=True, check=True).stdout.split()
        assert line[2] == "False", "PyTorch was imported"
        times.append((float(line[0]), float(line[1])))
    alone, whole = (statistics.median(side) for side in zip(*times, strict=True))
    return ["load and first answer (EfficientNet-Lite0)", f"{alone:.3f} s", f"{whole:.3f} s with imports; no PyTorch"]


def import_row() -> list[object]:
    """`import unfloat` alone."""
    code = "import time; s = time.perf_counter(); import unfloat; print(time.perf_counter() - s)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(ROUNDS)
    ]
    return ["import unfloat", f"{statistics.median(times):.3f} s", "without PyTorch"]


def side(kind: str) -> None:
    """One side of the calibration comparison, in its own process: prints seconds and peak memory."""
    pictures, _ = data.imagenet("train1000", limit=CALIBRATION)
    tensor = data.preprocess(pictures, *STATISTICS["efficientnet_lite0"])
    model = PRETRAINED["efficientnet_lite0"].build().eval()
    start = time.perf_counter()
    if kind == "torch":
        with torch.inference_mode():
            for batch in batches(tensor):
                model(batch)
    else:
        unfloat.quantize(model, list(batches(tensor)))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def calibration_rows() -> list[list[object]]:
    """Calibrating against plain PyTorch on the same pictures, alternating."""
    pairs = []
    for _ in range(3):
        found = [
            json.loads(
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.footprint", k],
                    capture_output=True,
                    text=True,
                    check=True,
                    cwd=ROOT,
                ).stdout
            )
            for k in ("unfloat", "torch")
        ]
        pairs.append(found)
    ratio = statistics.median(ours["seconds"] / theirs["seconds"] for ours, theirs in pairs)
    ours, theirs = (statistics.median(pair[i]["seconds"] for pair in pairs) for i in (0, 1))
    peak = max(pair[0]["peak"] for pair in pairs)
    return [
        [
            f"quantizing EfficientNet-Lite0 on {CALIBRATION} pictures",
            f"{ours:.2f} s, PyTorch {theirs:.2f} s",
            f"{ratio:.2f} x",
        ],
        ["its peak memory (whole process)", f"{peak / 1e9:.2f} GB", f"batches of {BATCH}"],
    ]


def main() -> None:
    """Measure and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [size_row(name, Path(folder)) for name in ("efficientnet_lite0", "mobilenet_v2", "resnet50")]
        rows += [import_row(), start_row(Path(folder) / "efficientnet_lite0.unfloat")]
    rows += calibration_rows()
    results.write("footprint", "Size, start-up, calibration", ("what", "measured", "figure"), rows)


if __name__ == "__main__":
    side(sys.argv[1]) if len(sys.argv) > 1 else main()
