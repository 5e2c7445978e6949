"""The engine beside other runtimes on this machine: a process each, taking turns, medians of the turns' ratios.

    python -m benchmarks.speed [--turns 15] [network ...]

`make bench` runs it. Where the others' environments or files are missing, they are made under build/peers. The page is
docs/results/speed.md; where the engine runs at another level than `avx512vnni`, that of the level's name.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.peers import files

from unfloat.cli.bench import SECONDS
from unfloat.cli.peers import Peer, take_turns
from unfloat.runtime.engine import level_in_use

MOBILE = ("mobilenet_v1", "mobilenet_v2", "efficientnet_lite0", "resnet50")
TINY = ("resnet8", "mobilenet_v1_vww", "ds_cnn")
TINY_RUNTIMES = ("ort", "litert")
COLUMNS = ("network", "threads", "Unfloat", "ONNX Runtime", "OpenVINO", "LiteRT", "ExecuTorch", "best peer", "ratio")
LEVERS = Path(__file__).with_name("levers.md")
LEADING = "avx512vnni"
TITLE = "Speed against other runtimes"
ORDER = ("ort", "openvino", "litert", "executorch")


def row(name: str, threads: int, peers: Sequence[Peer], turns: int) -> tuple[list[object], dict[str, str]]:
    """One line of the table, and the runtimes' versions."""
    level = level_in_use()
    found = [t.record() for t in take_turns(files.program(name), peers, threads, 1, level, turns, SECONDS)]
    engine, others = found[0], {record["runtime"]: record for record in found[1:]}
    best = min(others.values(), key=lambda record: record["median_ms"])
    times = [_milliseconds(others.get(runtime)) for runtime in ORDER]
    ratio = "{:.3f} ({:.3f} to {:.3f})".format(best["ratio"], *best["ratio_quartiles"])
    versions = {record["runtime"]: record["version"] for record in found}
    return [name, threads, _milliseconds(engine), *times, best["runtime"], ratio], versions


def _milliseconds(record: dict[str, Any] | None) -> str:
    return "" if record is None else f"{record['median_ms']:.3f} ms"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("networks", nargs="*", default=(*MOBILE, *TINY))
    arguments = parser.parse_args()
    rows: list[list[object]] = []
    versions: dict[str, str] = {}
    for name in arguments.networks:
        tiny = name in TINY
        peers = files.int8_peers(name, TINY_RUNTIMES if tiny else ORDER)
        for threads in (1,) if tiny else (1, 2):
            line, seen = row(name, threads, peers, arguments.turns)
            versions |= seen
            rows.append(line)
            print(*line, flush=True)
    if "mobilenet_v2" in arguments.networks:
        line, seen = row("mobilenet_v2", 1, files.float_peers("mobilenet_v2"), arguments.turns)
        rows.append(["mobilenet_v2, peers in float32", *line[1:]])
        print(*rows[-1], flush=True)
    notes = [
        "Batch 1, float in and float out on all sides; int8 weights per channel. The ratio is the engine's time over "
        "that of the best peer: the median of the turns' ratios, and their quartiles. That is not the quotient of the two "
        "times beside it, each of which is a median of its own.",
        "",
        ", ".join(f"{runtime} {version}" for runtime, version in sorted(versions.items())) + ".",
        "",
        f"{arguments.turns} turns of {SECONDS} s, after one that is not counted.",
    ]
    level = level_in_use()
    if level == LEADING:
        results.write("speed", TITLE, COLUMNS, rows, [*notes, "", *LEVERS.read_text().splitlines()])
    else:
        results.write(f"speed_{level}", f"{TITLE}, at level {level}", COLUMNS, rows, notes)


if __name__ == "__main__":
    main()
