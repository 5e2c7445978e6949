"""An LSTM reads handwritten digits row by row: float, quantized after training, trained with its integers.

python examples/digits_lstm.py [--bits 4] [--epochs 3] [--out digits.unfloat]
"""

from __future__ import annotations

import argparse
import copy

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import unfloat
from unfloat.program.program import Program

TRAINED = 1400  # of 1,797 digits; the others test
Batches = list[tuple[Tensor, Tensor]]


class Reader(nn.Module):
    """A picture is a sequence of eight rows; the last state says which digit it was."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.LSTM(8, 32, batch_first=True)
        self.digit = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of ten digits, of pictures [batch, 8, 8]."""
        return self.digit(self.rows(x)[0][:, -1])


def digits() -> tuple[Batches, Tensor, Tensor]:
    """Batches to train with, pictures and labels to test with."""
    found = load_digits()
    order = torch.randperm(len(found.target))
    x = torch.tensor(found.images / 16.0, dtype=torch.float32)[order]
    y = torch.tensor(found.target)[order]
    batches = list(zip(x[:TRAINED].split(50), y[:TRAINED].split(50), strict=True))
    return batches, x[TRAINED:], y[TRAINED:]


def train(model: nn.Module, batches: Batches, epochs: int, rate: float) -> None:
    """A loop that knows nothing of integers."""
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    model.train()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Percent of pictures; of a student, with the integers of its Program."""
    return 100 * float((model.eval()(x).argmax(1) == y).float().mean())


def measure(bits: int, epochs: int) -> tuple[dict[str, float], Program]:
    """Accuracies, in percent, with weights of `bits` bits; and the trained Program."""
    torch.manual_seed(0)
    batches, x, y = digits()
    model = Reader()
    train(model, batches, 20, 1e-2)
    found = {"float": accuracy(model, x, y)}
    recipe = unfloat.Recipe(weight_bits=bits)
    student = unfloat.prepare(copy.deepcopy(model), x[:1], recipe, calibration=batches[:4], progress=False)
    found["quantized"] = accuracy(student, x, y)
    train(student, batches, epochs, 1e-3)
    found["trained"] = accuracy(student, x, y)
    return found, unfloat.convert(student)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=int, default=8, help="of the weights")
    parser.add_argument("--epochs", type=int, default=3, help="of training with integers")
    parser.add_argument("--out", help="where the Program goes")
    options = parser.parse_args()
    percents, program = measure(options.bits, options.epochs)
    for name, percent in percents.items():
        print(f"{name:10} {percent:.1f} %")
    if options.out:
        program.save(options.out)
