"""Train the float networks that the experiments start from; their weights are kept in `checkpoints/`.

    python -m benchmarks.training.float_networks resnet8 --seed 0
    python -m benchmarks.training.float_networks efficientnet_b0_cifar --sizes 7x24 1x32 --float32

An epoch's end is saved: the command goes on where it was stopped. Most epochs run under bfloat16 autocast, which a CPU
with instructions for it does twice as fast; the last ones and the evaluation are float32. First epochs on smaller
pictures (Tan and Le, "EfficientNetV2", ICML 2021, call it progressive learning) cost about half.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as functional
from benchmarks.memory import keep_freed_memory
from benchmarks.networks import (
    efficientnet_b0_cifar,
    mobilenet_v3_small_cifar,
    resnet8,
    resnet20,
    without_dropout,
)
from benchmarks.training.cifar import Cifar10, accuracy
from safetensors.torch import load_file, save_file
from torch import nn

CHECKPOINTS = Path(__file__).parent / "checkpoints"
UNFINISHED = Path(__file__).parents[2] / "build" / "training"
EXACT_EPOCHS = 6  # the last ones, in float32


def with_relu6(model: nn.Module) -> nn.Module:
    """The same network with every ReLU a ReLU6."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.ReLU6(inplace=child.inplace))
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet8": resnet8,
    "resnet8_relu6": lambda: with_relu6(resnet8()),
    "resnet20": resnet20,
    "mobilenet_v3_small_cifar": lambda: without_dropout(mobilenet_v3_small_cifar()),
    "efficientnet_b0_cifar": lambda: without_dropout(efficientnet_b0_cifar()),
}


def pretrained(name: str, seed: int) -> nn.Module:
    """A network with the weights that this command has trained."""
    model = NETWORKS[name]()
    model.load_state_dict(load_file(CHECKPOINTS / f"{name}_seed{seed}.safetensors"))
    return model.eval()


def train(
    name: str, seed: int, sizes: list[int], exact_epochs: int = EXACT_EPOCHS, rate: float = 0.2, decay: float = 5e-4
) -> None:
    """Train from scratch with SGD, a warm-up and a linear decay of the rate.

    Args:
        name: One of `NETWORKS`.
        seed: Of the weights and the batches.
        sizes: Height and width of each epoch's pictures.
        exact_epochs: How many of the last ones are in float32.
        rate: The greatest learning rate.
        decay: Weight decay.
    """
    torch.manual_seed(seed)
    data, epochs = Cifar10(), len(sizes)
    model = NETWORKS[name]().to(memory_format=torch.channels_last)
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=epochs * data.steps, pct_start=0.15, anneal_strategy="linear", cycle_momentum=False
    )
    label = f"{name}_seed{seed}"
    saved = UNFINISHED / f"{label}.pt"
    log: list[dict[str, float]] = []
    if saved.exists():
        state = torch.load(saved)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        log = state["log"]
    for epoch in range(len(log), epochs):
        model.train()
        begin, total = time.perf_counter(), 0.0
        for pictures, y in data.train(seed, epoch):
            x = functional.adaptive_avg_pool2d(pictures, sizes[epoch])
            with torch.autocast("cpu", torch.bfloat16, enabled=epoch < epochs - exact_epochs):
                loss = functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        log.append({"loss": total / data.steps, "test": accuracy(model, data), "seconds": time.perf_counter() - begin})
        print(label, epoch + 1, log[-1], flush=True)
        saved.parent.mkdir(parents=True, exist_ok=True)
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        torch.save({**states, "log": log}, saved.with_suffix(".new"))
        saved.with_suffix(".new").replace(saved)
    CHECKPOINTS.mkdir(exist_ok=True)
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, CHECKPOINTS / f"{label}.safetensors")
    record: dict[str, object] = {
        "epochs": epochs,
        "sizes": sizes,
        "rate": rate,
        "decay": decay,
        "float": log[-1]["test"],
    }
    record["seconds"] = round(sum(entry["seconds"] for entry in log))
    (CHECKPOINTS / f"{label}.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", nargs="+", default=["60x32"], help="epochs x pixels")
    parser.add_argument("--float32", action="store_true", help="in all epochs, where bfloat16 is not fast")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    runs = [tuple(map(int, run.split("x"))) for run in arguments.sizes]
    sizes = [size for epochs, size in runs for _ in range(epochs)]
    train(arguments.network, arguments.seed, sizes, len(sizes) if arguments.float32 else EXACT_EPOCHS)


if __name__ == "__main__":
    main()
