"""Read PyTorch models. The only room beside `quant/` that imports torch."""

from __future__ import annotations

try:
    import torch as torch
except ImportError as error:
    from unfloat.spec.errors import MissingExtraError

    raise MissingExtraError.of("reading a PyTorch model needs PyTorch", "torch") from error
