"""Graph -> Graph, one rewrite a file. Each pass is a pure function `run`; `prepare` runs all and checks between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from unfloat.ir.graph import Graph, Shape
from unfloat.ir.verify import verify
from unfloat.ops import REGISTRY
from unfloat.passes import (
    fold_constants,
    fuse_batch_norm,
    fuse_clamp,
    fuse_pad,
    match_widths,
    norm_to_depthwise,
    pool_to_mean,
    remove_dead,
    remove_identity,
    share_ranges,
    sink_reshapes,
    sink_transposes,
)

Pass = Callable[[Graph], Graph]

PIPELINE: tuple[Pass, ...] = (
    fold_constants.run,
    remove_identity.run,
    sink_transposes.run,
    sink_reshapes.run,
    remove_identity.run,
    remove_dead.run,  # so that values count their living readers only
    fuse_batch_norm.run,
    norm_to_depthwise.run,  # before clamps, so that a clamp after such a norm fuses too
    pool_to_mean.run,
    fuse_clamp.run,
    fuse_pad.run,
    remove_identity.run,
    remove_dead.run,
)


def prepare(graph: Graph, param_shapes: Mapping[str, Shape], bits: Callable[[str], int] = lambda name: 8) -> Graph:
    """Make the fused Graph that quantization starts from: channels last, norms and clamps in slots, ties and widths explicit.

    Args:
        graph: As a reader made it.
        param_shapes: The shape of each of the model's parameters and buffers, by name.
        bits: The activation bits that the recipe wishes for a value.

    Returns:
        An equivalent Graph, verified after each pass.

    Raises:
        InvalidGraphError: The reader or a pass broke a rule.
    """
    verify(graph, REGISTRY, param_shapes)
    ties: Pass = partial(share_ranges.run, bits=bits)  # last: it counts readers
    widths: Pass = partial(match_widths.run, bits=bits)
    for rewrite in (*PIPELINE, widths, remove_dead.run, ties):
        graph = rewrite(graph)
        verify(graph, REGISTRY, param_shapes)
    return graph
