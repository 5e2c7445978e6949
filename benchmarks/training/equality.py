"""`eval()` against `convert()`: 0 mismatching integers after training.

    python -m benchmarks.training.equality [--generated 1000] [NETWORK ...]
    python -m benchmarks.training.equality --cells gated [--pictures 100]

Generated networks (random operators, bits, ranges, norm modes, seeds) and whole ones take a few training steps. Then
the student's codes in eval() at every site are compared with the interpreter's, the engine's with those at the outputs,
the codes of train() with everything frozen with those of eval(), and the exported file's outputs in TensorFlow Lite
Micro with the engine's (int8, double rounding).

With `--cells` the students are those of an experiment on CIFAR-10 whose cells have run here, on test pictures, each of
which TensorFlow Lite Micro sees too.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from benchmarks import results
from benchmarks.networks import NETWORKS, without_dropout
from benchmarks.training import pages
from benchmarks.training.cell import Cell, trained_student
from benchmarks.training.cifar import Cifar10
from benchmarks.training.experiments import EXPERIMENTS
from benchmarks.training.generated import SIDE, Generated, recipe
from tests.peers.call import peer
from torch import nn

import unfloat
from unfloat.formats.tflite.write import to_bytes
from unfloat.program.interpret import trace
from unfloat.quant.student import Student
from unfloat.spec.errors import ExportError
from unfloat.spec.qparams import quantize

WHOLE = ["mobilenet_v1_025", "mobilenet_v1", "mobilenet_v2", "resnet8", "resnet18", "efficientnet_lite0"]
Case = tuple[bytes, list[np.ndarray]]


@dataclass
class Tally:
    """What was compared so far, and what differed."""

    networks: int = 0
    sites: int = 0
    integers: int = 0
    sites_differ: int = 0
    engine_differs: int = 0
    frozen_differs: int = 0
    micro: int = 0
    micro_differs: int = 0

    def row(self, name: str) -> list[object]:
        """A row of the page."""
        return [name, self.networks, self.sites, self.integers, self.sites_differ, self.engine_differs,
                self.frozen_differs, self.micro, self.micro_differs]  # fmt: skip


def trained(model: nn.Module, wishes: unfloat.Recipe, x: torch.Tensor, steps: int, rate: float) -> Student:
    """A student after a few steps towards noise."""
    student = unfloat.prepare(model, x, wishes, progress=False)
    optimizer = torch.optim.SGD(student.parameters(), lr=rate)
    student.train()
    for _ in range(steps):
        outputs = student(x)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = sum(((y - torch.randn_like(y)) ** 2).mean() for y in outputs)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
    return student


def compare(student: Student, x: torch.Tensor, tally: Tally, samples: int = 1) -> Case | None:
    """Compare one student; the file and what TensorFlow Lite Micro should make of it, where it can be written.

    Args:
        student: What was trained; its norms and ranges are frozen afterwards.
        x: Inputs.
        tally: Counts go here.
        samples: How many of the inputs the file is to be tried on.
    """
    student.eval()
    program = unfloat.convert(student)
    found = {name: codes.numpy() for name, codes in student.trace(x).items()}
    port = program.inputs[0]
    codes = quantize(x.permute(port.permutation).numpy(), program.tensors[port.value].qparams)
    expected = trace(program, [codes])
    for name, values in expected.items():
        if program.tensors[name].data is None:
            tally.sites += 1
            tally.integers += values.size
            tally.sites_differ += int((found[name] != values).sum())
    outputs = program.compile().run(codes)
    outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    for out, made in zip(program.outputs, outputs, strict=True):
        tally.engine_differs += int((made != expected[out.value]).sum())
    student.freeze_ranges()
    student.freeze_norm()
    student.train()
    frozen = student.trace(x)
    tally.frozen_differs += sum(int((frozen[name].numpy() != values).sum()) for name, values in found.items())
    tally.networks += 1
    try:
        return to_bytes(program), [codes[:samples], *(made[:samples] for made in outputs)]
    except ExportError:
        return None


def micro(cases: list[Case], tally: Tally) -> None:
    """Run files in TensorFlow Lite Micro."""
    answers = peer("tflm")([(content, [arrays[0]]) for content, arrays in cases])
    for (_, arrays), answer in zip(cases, answers, strict=True):
        if isinstance(answer, str):
            raise RuntimeError(f"TensorFlow Lite Micro: {answer}")
        for made, expected in zip(answer, arrays[1:], strict=True):
            tally.micro += expected.size
            tally.micro_differs += int((made.reshape(expected.shape) != expected).sum())


def generated(count: int) -> Tally:
    """Random networks."""
    tally, cases = Tally(), []
    for seed in range(count):
        wishes = recipe(seed)
        model = Generated(seed)
        x = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * (1 + seed % 3)
        student = trained(model, wishes, x, steps=3, rate=0.1)
        case = compare(student, x, tally)
        if case is not None and wishes.scheme == "int8" and wishes.rounding == "double":
            cases.append(case)
        if len(cases) == 100 or seed == count - 1:
            micro(cases, tally)
            cases = []
            print(seed + 1, tally, flush=True)
    return tally


def whole(name: str) -> Tally:
    """A whole network."""
    torch.manual_seed(0)
    tally = Tally()
    network = NETWORKS[name]
    x = torch.randn(4, *network.input_shape)
    model = without_dropout(network.random(seed=1))  # it acts in train() alone, which is compared with eval() here
    student = trained(model, unfloat.Recipe(), x, steps=3, rate=0.01)
    case = compare(student, x[:2], tally)
    assert case is not None
    micro([case], tally)
    return tally


def fine_tuned(cell: Cell, data: Cifar10, pictures: int) -> Tally:
    """A network that learned CIFAR-10, on test pictures."""
    tally = Tally()
    everything = torch.cat([batch for batch, _ in data.evaluation()])
    x = everything[torch.linspace(0, len(everything) - 1, pictures).long()]  # they may lie sorted by class
    case = compare(trained_student(cell, data), x, tally, samples=pictures)
    assert case is not None
    micro([case], tally)
    return tally


COLUMNS = ("network", "networks", "sites", "integers compared", "sites differ", "engine differs",
           "train() frozen differs", "outputs in TFLM", "TFLM differs")  # fmt: skip
TITLE = "After training: eval() against convert()"


def compare_cells(experiment: str, pictures: int) -> None:
    """Compare what an experiment's cells have trained, and write the page."""
    data, cells = Cifar10(), EXPERIMENTS[experiment]
    rows = [fine_tuned(cell, data, pictures).row(cell.network) for cell, _ in pages.found(cells)]
    notes = [f"After all epochs of the experiment `{experiment}`, on {pictures} test pictures of all classes."]
    notes += pages.missing(cells)
    results.write(f"training_equality_{experiment}", f"{TITLE}, on pictures", COLUMNS, rows, notes)


def main() -> None:
    """Compare and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=WHOLE)
    parser.add_argument("--generated", type=int, default=1000)
    parser.add_argument("--cells", choices=EXPERIMENTS)
    parser.add_argument("--pictures", type=int, default=100)
    arguments = parser.parse_args()
    if arguments.cells:
        compare_cells(arguments.cells, arguments.pictures)
        return
    rows = []
    if arguments.generated:
        rows.append(generated(arguments.generated).row("generated"))
    for name in arguments.networks:
        begin = time.perf_counter()
        rows.append(whole(name).row(name))
        print(*rows[-1], f"{time.perf_counter() - begin:.0f} s", flush=True)
    results.write("training_equality", TITLE, COLUMNS, rows)


if __name__ == "__main__":
    main()
