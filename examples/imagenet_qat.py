r"""Quantization-aware training on a folder of ImageNet, on one machine or under torchrun.

    torchrun --nproc-per-node 8 examples/imagenet_qat.py --model torchvision.models:mobilenet_v2 \
        --weights mobilenet_v2.pth --data imagenet --output mobilenet_v2.unfloat

The folder holds `train/<class>/*` and `val/<class>/*`. Without torchrun the script trains in one process. A checkpoint
is written after every epoch, and the same command goes on from it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as functional
from PIL import Image
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import unfloat

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Folder(Dataset[tuple[Tensor, int]]):
    """`root/<class>/<picture>`; augmented for training, centre crops for validation.

    Args:
        root: The folder.
        size: Height and width of a picture.
        augment: Random crops (8 to 100 % of the area) and mirror images.
    """

    def __init__(self, root: Path, size: int, augment: bool) -> None:
        self.size, self.augment = size, augment
        self.classes = sorted(p.name for p in root.iterdir() if p.is_dir())
        self.items = [(p, i) for i, name in enumerate(self.classes) for p in sorted((root / name).iterdir())]
        if not self.items:
            raise SystemExit(f"{root}: required class folders with pictures, found none")

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """A picture (3, size, size), normalised, and its class."""
        path, label = self.items[index]
        with Image.open(path) as file:
            picture = file.convert("RGB")
        box = _random_box(*picture.size) if self.augment else _centre_box(*picture.size)
        picture = picture.resize((self.size, self.size), Image.Resampling.BILINEAR, box)
        pixels = np.asarray(picture, np.float32)
        if self.augment and random.random() < 0.5:
            pixels = pixels[:, ::-1]
        normalised = (pixels - np.float32(MEAN)) / np.float32(STD)
        return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1))), label


def _random_box(width: int, height: int) -> tuple[float, float, float, float]:
    area = width * height * random.uniform(0.08, 1.0)
    ratio = random.uniform(3 / 4, 4 / 3)
    w, h = min(width, (area * ratio) ** 0.5), min(height, (area / ratio) ** 0.5)
    left, top = random.uniform(0, width - w), random.uniform(0, height - h)
    return left, top, left + w, top + h


def _centre_box(width: int, height: int) -> tuple[float, float, float, float]:
    side = min(width, height) * 224 / 256
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def build(model: str, weights: Path | None) -> nn.Module:
    """`package.module:callable`, called without arguments, and the weights of a checkpoint."""
    module, _, name = model.partition(":")
    made: nn.Module = getattr(importlib.import_module(module), name)()
    if weights is not None:
        made.load_state_dict(torch.load(weights, map_location="cpu"))
    return made


def train(arguments: argparse.Namespace) -> None:
    """Prepare, train, convert."""
    rank, world = _join()
    device = _own_device(rank)
    _seed(arguments.seed, 0, 0)  # a model without a checkpoint starts the same everywhere
    pictures = Folder(arguments.data / "train", arguments.size, augment=True)
    sampler: DistributedSampler[Any] = DistributedSampler(pictures, world, rank, shuffle=True, seed=arguments.seed)
    loader = DataLoader(pictures, arguments.batch, sampler=sampler, num_workers=arguments.workers, drop_last=True)

    model = build(arguments.model, arguments.weights).to(device)
    recipe = unfloat.Recipe.load(arguments.recipe) if arguments.recipe else None
    first = _calibration(arguments, sampler, device)
    student = unfloat.prepare(model, first[0], recipe, calibration=first).to(device)
    optimizer = torch.optim.SGD(student.parameters(), lr=arguments.rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, arguments.epochs * len(loader))
    checkpoint = arguments.output.with_suffix(".pt")
    begin = _resume(checkpoint, student, optimizer, schedule, device)
    parallel: nn.Module = DistributedDataParallel(student) if world > 1 else student
    for epoch in range(begin, arguments.epochs):
        sampler.set_epoch(epoch)
        _seed(arguments.seed, epoch, rank)  # a run that goes on here is the same run
        if 0 < epoch == arguments.epochs - 1:
            student.freeze_norm()  # the last epoch trains exactly what will be deployed
        loss = _epoch(parallel, loader, optimizer, schedule.step, device)
        if rank == 0:
            print(f"epoch {epoch + 1}: loss {loss:.4f}", flush=True)
            parts = {"student": student, "optimizer": optimizer, "schedule": schedule}
            unfinished = checkpoint.with_suffix(".new")  # an interrupt leaves the last one whole
            torch.save({**{k: v.state_dict() for k, v in parts.items()}, "epoch": epoch + 1}, unfinished)
            unfinished.replace(checkpoint)
    program = unfloat.convert(parallel)
    if rank == 0:
        program.save(arguments.output)
        score = evaluate(program, Folder(arguments.data / "val", arguments.size, augment=False), arguments.batch)
        print(f"{arguments.output}: top-1 {score:.2%}, integers only")
    if world > 1:
        dist.destroy_process_group()


def _join() -> tuple[int, int]:
    if "RANK" not in os.environ:
        return 0, 1
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return dist.get_rank(), dist.get_world_size()


def _own_device(rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", rank)))
    torch.cuda.set_device(device)  # collectives that name no device use the current one
    return device


def _seed(seed: int, epoch: int, rank: int) -> None:
    torch.manual_seed(1_000_003 * seed + 1009 * epoch + rank)  # dropout, and what seeds the loader's workers
    random.seed(f"{seed} {epoch} {rank}")


def _calibration(arguments: argparse.Namespace, sampler: Any, device: torch.device) -> list[Tensor]:
    """The first batches of this process's share of the training pictures, not augmented."""
    plain = Folder(arguments.data / "train", arguments.size, augment=False)
    loader = DataLoader(plain, arguments.batch, sampler=sampler, num_workers=arguments.workers)
    return [x.to(device) for x, _ in islice(loader, arguments.calibration)]


def _resume(checkpoint: Path, student: nn.Module, optimizer: Any, schedule: Any, device: torch.device) -> int:
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location=device)
    student.load_state_dict(state["student"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["epoch"])


def _epoch(
    model: nn.Module, loader: Any, optimizer: torch.optim.Optimizer, advance: Callable[[], None], device: torch.device
) -> float:
    model.train()
    total = 0.0
    for x, y in loader:
        loss = functional.cross_entropy(model(x.to(device)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        advance()
        total += float(loss.detach())
    return total / max(len(loader), 1)


def evaluate(program: unfloat.Program, pictures: Folder, batch: int) -> float:
    """The share of pictures that the integer engine names right."""
    engine = program.compile(threads=os.cpu_count() or 1)
    right = 0
    for x, y in DataLoader(pictures, batch):
        right += int((np.asarray(engine(x.numpy())).argmax(1) == y.numpy()).sum())
    return right / len(pictures)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="package.module:callable that builds the float model")
    parser.add_argument("--weights", type=Path, help="its state_dict")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--output", type=Path, required=True, help="the .unfloat file to write")
    parser.add_argument("--recipe", type=Path, help="TOML: scheme, bits, equalisation, ranges; int8 by default")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64, help="pictures a step and process")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--calibration", type=int, default=4, help="batches that the first ranges come from")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
