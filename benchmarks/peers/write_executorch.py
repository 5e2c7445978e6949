"""A network as ExecuTorch would run it, with XNNPACK. Executed by the Python of the environment `executorch`.

    python write_executorch.py NETWORK.pt2

Writes, beside it, NETWORK.pte and NETWORK.int8.pte (int8 weights per channel).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from executorch.exir import to_edge_transform_and_lower
from exported import read
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


def write(path: Path) -> None:
    """Both files."""
    model, samples = read(path)
    example = (samples[0],)
    lower(model, example, path.with_suffix(".pte"))
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    observed = prepare_pt2e(model, quantizer)
    for x in samples:
        observed(x)
    lower(convert_pt2e(observed), example, path.with_suffix(".int8.pte"))


def lower(model: torch.nn.Module, example: tuple[torch.Tensor], path: Path) -> None:
    """Everything that XNNPACK can take goes there."""
    exported = torch.export.export(model, example)
    path.write_bytes(to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
