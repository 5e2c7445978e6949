"""From nothing to the first answer: time and memory of a new process, beside LiteRT and ONNX Runtime.

    python -m benchmarks.start [--rounds 15]

Processes run in turns, files cached; the time is that from starting Python to the first answer, real numbers in and
out. Needs the peers' environments, see `make bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import results
from benchmarks.peers import environments, files

import unfloat
from unfloat.program.plan import plan
from unfloat.runtime.engine import level_in_use

NETWORK = "mobilenet_v2"
INSTALLED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""An environment in which the first run leaves bytecode, as installing a package does: the peers have theirs."""
RESIDENT = """
import json, sys
fields = dict(line.split(":") for line in open("/proc/self/status"))
print(json.dumps(int(fields["VmRSS"].split()[0]) * 1024), flush=True)
"""
UNFLOAT = """
import sys
import numpy as np
import unfloat
engine = unfloat.load(sys.argv[1]).compile()
engine(np.zeros((1, 3, 224, 224), np.float32))
"""
LITERT = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
port, = interpreter.get_input_details()
interpreter.set_tensor(port["index"], np.zeros(port["shape"], np.float32))
interpreter.invoke()
interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
"""
ORT = """
import sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, 224, 224), np.float32)})
"""
NUMPY = "import numpy\n"
ARENA = """
import json, sys
from ai_edge_litert.interpreter import Interpreter, OpResolverType
plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1, experimental_op_resolver_type=plain)
interpreter.allocate_tensors()
made = {int(i) for op in interpreter._get_ops_details() for i in op["outputs"]}
made |= {int(port["index"]) for port in interpreter.get_input_details()}
views = [interpreter.tensor(index)() for index in made]
begin = [view.__array_interface__["data"][0] for view in views]
print(json.dumps(max(b + view.nbytes for b, view in zip(begin, views)) - min(begin)))
"""


@dataclass(frozen=True)
class Starter:
    """A runtime, the script that starts it, and its file."""

    name: str
    python: str
    script: str
    file: Path

    def once(self) -> tuple[float, int]:
        """Milliseconds until the first answer, and resident bytes then."""
        begin = time.perf_counter()
        process = subprocess.Popen(
            [self.python, "-c", self.script + RESIDENT, self.file],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=INSTALLED,
        )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        elapsed = 1e3 * (time.perf_counter() - begin)
        process.communicate()
        return elapsed, json.loads(line)


def starters() -> list[Starter]:
    """This project first, then its peers, then NumPy alone."""
    peers = {peer.runtime: peer for peer in files.int8_peers(NETWORK, ("litert", "ort"))}
    own = environments.installed()
    return [
        Starter("Unfloat", own, UNFLOAT, files.program(NETWORK)),
        Starter("LiteRT", peers["litert"].python, LITERT, peers["litert"].file),
        Starter("ONNX Runtime", peers["ort"].python, ORT, peers["ort"].file),
        Starter("Python and NumPy alone", own, NUMPY, files.program(NETWORK)),
    ]


def litert_arena() -> int:
    """Bytes that LiteRT plans for activations, its own kernels and no delegate, on the same file."""
    (peer,) = files.int8_peers(NETWORK, ("litert",))
    found = subprocess.run(
        [peer.python, "-c", ARENA, peer.file], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return int(json.loads(found.stdout))


def main() -> None:
    """Take turns, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    runtimes = starters()
    for each in runtimes:
        each.once()  # files come into the cache
    found = [[each.once() for each in runtimes] for _ in range(rounds)]
    program = unfloat.load(files.program(NETWORK))
    arena = plan(program).size
    weights = sum(array.nbytes for i in program.instructions for array in i.constants.values())
    rows = []
    for i, each in enumerate(runtimes):
        times = [turn[i][0] for turn in found]
        ratio = statistics.median(turn[0][0] / turn[i][0] for turn in found)
        memory = statistics.median(turn[i][1] for turn in found) / 1e6
        rows.append([each.name, f"{statistics.median(times):.0f} ms", f"{ratio:.2f}", f"{memory:.1f} MB"])
    notes = [
        "Time from starting the process to the first answer, and resident memory then; medians. The ratio is this "
        "project's time over that of the row, the median of the turns' ratios.",
        f"Weights {weights / 1e6:.1f} MB, arena {arena / 1e6:.2f} MB: "
        f"{statistics.median(turn[0][1] for turn in found) / 1e6 - (weights + arena) / 1e6:.1f} MB over both.",
        f"Activation arena: {arena:,} bytes; LiteRT's, without delegates: {litert_arena():,}.",
        f"The engine's level: {level_in_use()}.",
    ]
    columns = ("process", "first answer", "ratio", "resident memory")
    results.write("start", f"The first answer of {NETWORK}", columns, rows, [*notes, f"{rounds} rounds."])


if __name__ == "__main__":
    main()
