"""A network in every runtime's own format, float and int8, made once and kept under build/."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import torch
from benchmarks.networks import NETWORKS, Network
from benchmarks.peers import environments, exported

import unfloat
from unfloat.cli.peers import Peer

FOLDER = environments.FOLDER / "files"
SUFFIXES = {"ort": "onnx", "openvino": "xml", "litert": "tflite", "executorch": "pte"}
WRITERS = {"onnx": "write_onnx.py", "executorch": "write_executorch.py"}  # by environment


def network_at(name: str) -> Network:
    """One of `benchmarks.networks.NETWORKS`, "mobilenet_v2@160" with pictures of 160 pixels."""
    base, _, size = name.partition("@")
    network = NETWORKS[base]
    return replace(network, input_shape=(3, int(size), int(size))) if size else network


def program(name: str) -> Path:
    """The network's Program, and beside it the .tflite that LiteRT runs, float at its border like all others."""
    path = FOLDER / f"{name}.unfloat"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        network = network_at(name)
        samples = torch.randn(4, *network.input_shape, generator=torch.Generator().manual_seed(0))
        made = unfloat.quantize(network.random(seed=1), [samples], unfloat.Recipe(bias_correction=False))
        made.export(path.with_suffix(".int8.tflite"), float_border=True)
        made.save(path)
    return path


def int8_peers(name: str, runtimes: tuple[str, ...] = tuple(SUFFIXES)) -> list[Peer]:
    """Every runtime with its own int8 file."""
    program(name)
    return [_peer(name, runtime, ".int8") for runtime in runtimes]


def float_peers(name: str, runtimes: tuple[str, ...] = ("ort", "openvino", "executorch")) -> list[Peer]:
    """Runtimes with a float32 file."""
    return [_peer(name, runtime, "") for runtime in runtimes]


def _peer(name: str, runtime: str, kind: str) -> Peer:
    environment = environments.ENVIRONMENT[runtime]
    path = FOLDER / f"{name}{kind}.{SUFFIXES[runtime]}"
    if not path.exists():
        _write(name, environment)
    return Peer(runtime, path, environments.python(environment))


def _write(name: str, environment: str) -> None:
    source = FOLDER / f"{name}.pt2"
    if not source.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        network = network_at(name)
        exported.write(network.random(seed=1), network.input_shape, source)
    script = Path(__file__).with_name(WRITERS[environment])
    subprocess.run([environments.python(environment), script, source], check=True, capture_output=True)
